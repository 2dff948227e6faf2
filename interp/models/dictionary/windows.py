"""Texts cut into windows that a model reads one by one; how they were cut and begun when a dictionary was trained; and their
residual-stream vectors on disk, to train dictionaries on: resumable, one file per batch of windows.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from interp.errors import ArgumentError
from interp.models.dictionary.config import object_in, refusal
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import read_residuals
from interp.tables import write_aside


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


class Training(NamedTuple):
    """How texts were read when a dictionary was trained, as far as its authors say."""

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


WINDOWS_PER_FILE = 64
MASSIVE = 5.0
"""Vectors longer than this many times the median are left out: they are attention sinks, a thousand times the variance of
all others together (Sun et al. 2024, arXiv:2402.17762)."""
SKIP_FIRST = 4
"""Positions at the beginning of a window that are left out: nothing stands before them, and the first is a sink."""


def text_name(text: str) -> str:
    """Returns a 12-digit hash of a text, by which a dictionary's card lists its training texts."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def deal_texts(texts: Sequence[str], shares: Sequence[float], seed: int = 0) -> list[list[str]]:
    """Returns disjoint groups of texts with the given shares of their number; the remainder is one more group."""
    order = np.random.default_rng(seed).permutation(len(texts))
    ends = np.round(np.cumsum([0.0, *shares]) * len(texts)).astype(int)
    groups = [order[first:last] for first, last in pairwise(ends)]
    return [[texts[int(index)] for index in group] for group in [*groups, order[ends[-1] :]]]


def harvest(model: LanguageModel, windows: Windows, layers: Sequence[int], folder: Path) -> None:
    """Writes the residual stream after each layer at every kept position, as float16; existing files are kept."""
    for index, batch in enumerate(tqdm(list(windows.batches(WINDOWS_PER_FILE)), desc="harvest", disable=None)):
        path = folder / f"{index:05d}.safetensors"
        if path.is_file():
            continue
        residuals = read_residuals(model, batch.ids, layers)
        kept = batch.present(SKIP_FIRST)
        tensors = {str(layer): vectors.cpu()[kept].half().contiguous() for layer, vectors in residuals.items()}
        write_aside(path, lambda aside, tensors=tensors: save_file(tensors, aside))


def read_harvest(folder: Path, layer: int) -> Float[Tensor, "vector residual"]:
    """Returns a layer's vectors, float16, without massive ones."""
    parts = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            parts.append(file.get_tensor(str(layer)))
    vectors = torch.cat(parts)
    norms = torch.cat([part.float().norm(dim=1) for part in vectors.split(65536)])
    return vectors[norms <= MASSIVE * norms.median()]
