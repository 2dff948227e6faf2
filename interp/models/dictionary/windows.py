"""Texts cut into windows that a model reads one by one; every token of every text is in exactly one window."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows of token ids, padded with 0 on the right, and where each row comes from."""

    ids: Int[Tensor, "window token"]
    lengths: Int[Tensor, " window"]
    document: NDArray[np.int64]
    """Index of the text each window was cut from."""
    start: NDArray[np.int64]
    """Position in its text of each window's first token."""
    n_before: int = 0
    """Tokens at the beginning of every window that are not of its text: the beginning of a sequence."""

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.lengths)

    @property
    def n_tokens(self) -> int:
        """Tokens in all windows, padding not counted."""
        return int(self.lengths.sum())

    def present(self, skip_first: int = 0) -> Bool[Tensor, "window token"]:
        """Returns which positions hold a token, each window's first `skip_first` left out."""
        positions = torch.arange(self.ids.shape[1])[None]
        return (positions < self.lengths[:, None]) & (positions >= skip_first)

    def __getitem__(self, rows: slice) -> "Windows":
        """Returns some of the windows, trimmed to the longest of them."""
        lengths = self.lengths[rows]
        width = int(lengths.max()) if len(lengths) else 0
        return Windows(self.ids[rows, :width], lengths, self.document[rows], self.start[rows], self.n_before)

    def batches(self, rows: int) -> Iterator["Windows"]:
        """Yields the windows `rows` at a time."""
        for first in range(0, len(self), rows):
            yield self[slice(first, first + rows)]


def cut_windows(
    texts: Sequence[Sequence[int]], context_tokens: int, *, shortest: int = 2, beginning: Sequence[int] = ()
) -> Windows:
    """Returns windows of `context_tokens` ids, in order; a text's last window may be shorter.

    Each window starts with the ids of `beginning`, which are part of its length. Texts do not share windows and no separator
    is put between them. Windows of fewer than `shortest` tokens are left out.
    Raises ArgumentError when no text is as long as one window.
    """
    before = list(beginning)
    step = context_tokens - len(before)
    longest = max((len(text) for text in texts), default=0)
    if longest < step:
        raise ArgumentError(
            f"No text of the corpus fills one context: the longest has {longest} tokens and --context-tokens is {context_tokens}; "
            "give longer texts or a smaller --context-tokens."
        )
    cuts = [
        (index, first, before + list(text[first : first + step]))
        for index, text in enumerate(texts)
        for first in range(0, len(text), step)
        if len(before) + len(text) - first >= shortest
    ]
    ids = torch.zeros((len(cuts), context_tokens), dtype=torch.long)
    for row, (_, _, part) in enumerate(cuts):
        ids[row, : len(part)] = torch.tensor(part)
    return Windows(
        ids,
        torch.tensor([len(part) for _, _, part in cuts]),
        np.array([index for index, _, _ in cuts], dtype=np.int64),
        np.array([first for _, first, _ in cuts], dtype=np.int64),
        len(before),
    )


def tokenize(tokenizer: object, texts: Sequence[str]) -> list[list[int]]:
    """Returns each text's token ids, without special tokens."""
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]  # type: ignore[operator]
