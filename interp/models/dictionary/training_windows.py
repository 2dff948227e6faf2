"""How texts were cut and begun when a dictionary was trained, as far as its configuration says."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from interp.models.dictionary.config import object_in, refusal


class Training(NamedTuple):
    """How texts were read when a dictionary was trained, as far as its makers say."""

    prepend_bos: bool | None = None
    """Whether each window began with the beginning-of-sequence token."""
    context_tokens: int | None = None
    """Length of a window, that token included."""
    first_position: int = 0
    """Positions of a window before this one were left out."""
    excluded_ids: tuple[int, ...] = ()
    """Token ids whose positions were left out (special tokens are in any case)."""
    centred: bool = False
    """Whether the stream was centred: its mean over the residual dimension taken off."""


def training_of(metadata: Mapping[str, Any], name: str) -> Training:
    """Returns how texts were read in training.

    Raises ArgumentError when positions were chosen in a way that windows here cannot follow.
    """
    prepend_bos, context, positions, excluded = (
        metadata.get(field) for field in ("prepend_bos", "context_size", "seqpos_slice", "exclude_special_tokens")
    )
    if prepend_bos is not None and not isinstance(prepend_bos, bool):
        raise refusal(name, "prepend_bos", prepend_bos, "it is true or false")
    if context is not None and (isinstance(context, bool) or not isinstance(context, int) or context < 1):
        raise refusal(name, "context_size", context, "it is a number of tokens")
    ids = excluded if isinstance(excluded, list | tuple) else ()
    if excluded not in (None, True, False) and not ids and excluded not in ([], ()):
        raise refusal(name, "exclude_special_tokens", excluded, "it is true, false or a list of token ids")
    if any(isinstance(id, bool) or not isinstance(id, int) for id in ids):
        raise refusal(name, "exclude_special_tokens", excluded, "it is true, false or a list of token ids")
    arguments = object_in(metadata, "model_from_pretrained_kwargs", name)
    if prepend_bos is None and isinstance(arguments.get("default_prepend_bos"), bool):
        prepend_bos = arguments["default_prepend_bos"]
    return Training(
        prepend_bos,
        context,
        _first_position(positions, name),
        tuple(ids),
        bool(arguments.get("center_writing_weights")),
    )


def _first_position(positions: Any, name: str) -> int:
    """The start of a slice of positions that has no other bound."""
    if positions is None:
        return 0
    if isinstance(positions, list | tuple) and 1 <= len(positions) <= 3:
        start, stop, step = (None, positions[0], None) if len(positions) == 1 else (*positions, None)[:3]
        if stop is None and step in (None, 1) and (start is None or (isinstance(start, int) and start >= 0)):
            return int(start or 0)
    raise refusal(
        name, "seqpos_slice", positions, "only windows from a position to their end can be read, as [4, null]"
    )
