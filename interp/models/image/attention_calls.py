"""Attention weights from the call itself: the queries and keys that a denoiser's modules hand to torch's attention.

Nothing of a family's projections, norms and rotary embeddings needs to be known: what the fused kernel is given is looked at, and
what it returns is left alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from interp.errors import RunError


class AttentionCall(NamedTuple):
    """What one call of torch's attention is given; `bias` is added to the scores, or None."""

    query: Float[Tensor, "row head query dim"]
    key: Float[Tensor, "row head key dim"]
    bias: Tensor | None
    scale: float

    def weights(self, row: int, queries: Tensor) -> Float[Tensor, "head query key"]:
        """Returns what these queries of a row give to every key, in float32."""
        query, key = self.query[row][:, queries].float(), self.key[row].float()
        groups = query.shape[0] // key.shape[0]
        scores = query @ key.repeat_interleave(groups, dim=0).transpose(-1, -2) * self.scale
        if self.bias is not None:
            shape = (len(self.query), query.shape[0], self.query.shape[2], key.shape[1])
            scores = scores + self.bias.expand(shape)[row][:, queries]
        return scores.softmax(dim=-1)


@contextmanager
def attention_calls(modules: Sequence[Any], see: Callable[[int, AttentionCall], None]) -> Iterator[None]:
    """Calls `see` with a module's index and its attention, at every call of one of the modules inside the block.

    Raises RunError where a module computes its attention by other means than torch's.
    """
    with ExitStack() as stack:
        for index, module in enumerate(modules):
            watch = _Watch(index, see)
            for handle in (
                module.register_forward_pre_hook(watch.begin),
                module.register_forward_hook(watch.end, always_call=True),
            ):
                stack.callback(handle.remove)
        yield


class _Watch(TorchFunctionMode):
    """Looks at torch's attention during one module's calls."""

    def __init__(self, index: int, see: Callable[[int, AttentionCall], None]) -> None:
        super().__init__()
        self._index, self._see, self._n_seen = index, see, 0

    def begin(self, module: Any, inputs: Any) -> None:
        self._n_seen = 0
        self.__enter__()

    def end(self, module: Any, inputs: Any, output: Any) -> None:
        self.__exit__(None, None, None)
        if not self._n_seen and output is not None:  # nothing is there after an error
            raise RunError(
                f"{type(module).__name__} does not attend by torch's scaled_dot_product_attention, so there is nothing to record: "
                "leave the attention backend of the pipeline at its default."
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            self._n_seen += 1
            self._see(self._index, _call(*args, **options))
        return func(*args, **options)


def _call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """What torch's own parameters, in their order, say of a call."""
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    bias = attn_mask
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        bias = torch.zeros(attn_mask.shape, device=attn_mask.device).masked_fill(~attn_mask, -torch.inf)
    return AttentionCall(query, key, bias, query.shape[-1] ** -0.5 if scale is None else scale)
