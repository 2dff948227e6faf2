"""Lenses: what a model would say if it stopped at a layer. Logit lens, tuned lens, and a read-out through the layers above."""

from typing import TYPE_CHECKING

from interp.imports import lazily

if TYPE_CHECKING:
    from interp.models.lens.lens import LogitLens, read_through
    from interp.models.lens.tuned import TunedLens, shipped_lens

__all__ = ["LogitLens", "TunedLens", "read_through", "shipped_lens"]

__getattr__ = lazily(
    __name__, {"LogitLens": "lens", "TunedLens": "tuned", "shipped_lens": "tuned", "read_through": "upper"}
)
