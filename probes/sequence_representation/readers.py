"""The two kinds of readers, a causal model and an encoder, as one: texts in, states of every layer and token out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from interp.errors import ArgumentError
from interp.models.encoder import Encoder
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import read_residuals
from interp.models.tokens.encoding import beginning, encode_piece, unread

TOKENS_AT_ONCE = 1024
States = Float[np.ndarray, "layer token residual"]


@dataclass(frozen=True)
class Read:
    """A text as tokens: all ids, and which of them are the text's own (not special tokens or a prompt's)."""

    ids: tuple[int, ...]
    own: tuple[int, ...]
    """Their places."""
    unread_characters: int = 0
    """Characters of the text that the tokenizer does not know."""


@runtime_checkable
class Reader(Protocol):
    """What both kinds do."""

    name: str
    n_layers: int

    def encode(self, text: str) -> Read:
        """Returns a text as tokens, as the reader writes a whole text."""
        ...

    def states(self, rows: Sequence[Read], layers: Sequence[int]) -> Iterator[States]:
        """Yields the states of each row after the given layers, in order."""
        ...

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Returns what ids are called in the vocabulary."""
        ...


class ModelReader:
    """A causal language model: no token sees what comes after it."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.name, self.n_layers = model, model.identity.name, model.n_layers

    def encode(self, text: str) -> Read:
        """Returns the text's tokens behind the beginning that the tokenizer writes.

        Raises ArgumentError for a text of which no token is left.
        """
        tokenizer: Any = self.model.tokenizer
        begin, piece = beginning(tokenizer, "auto"), encode_piece(tokenizer, text, first=True)
        if not piece.ids:
            raise ArgumentError(f"The tokenizer makes no token of {text[:40]!r}: leave the text out.")
        lost = len(unread(tokenizer, piece, text, 0, len(text)))
        return self.checked(
            Read((*begin, *piece.ids), tuple(range(len(begin), len(begin) + len(piece.ids))), lost), text
        )

    def checked(self, read: Read, text: str) -> Read:
        """Returns what was encoded.

        Raises ArgumentError when it is longer than the model reads.
        """
        _check_window(self.name, self.model.context_window, read, text)
        return read

    def states(self, rows: Sequence[Read], layers: Sequence[int]) -> Iterator[States]:
        """Yields the residual stream of each row after the given layers."""
        for batch in batches(rows):
            found = read_residuals(self.model, padded(batch), layers)
            stacked = torch.stack([found[layer].float().cpu() for layer in layers])
            for place, row in enumerate(batch):
                yield stacked[:, place, : len(row.ids)].numpy()

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Returns what ids are called in the vocabulary."""
        return [str(token) for token in self.model.tokenizer.convert_ids_to_tokens(list(ids))]


class EncoderReader:
    """An encoder: every token sees all."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.name, self.n_layers = encoder, encoder.name, encoder.n_layers

    def encode(self, text: str) -> Read:
        """Returns the text's tokens between the special ones that the tokenizer writes.

        Raises ArgumentError for a text longer than the encoder reads.
        """
        tokenizer = self.encoder.tokenizer
        found: Any = tokenizer(text, return_special_tokens_mask=True, split_special_tokens=True)
        own = tuple(place for place, special in enumerate(found["special_tokens_mask"]) if not special)
        piece = encode_piece(tokenizer, text, first=True)
        if not own:
            raise ArgumentError(f"The tokenizer makes no token of {text[:40]!r}: leave the text out.")
        read = Read(tuple(found["input_ids"]), own, len(unread(tokenizer, piece, text, 0, len(text))))
        _check_window(self.name, self.encoder.window, read, text)
        return read

    def states(self, rows: Sequence[Read], layers: Sequence[int]) -> Iterator[States]:
        """Yields the states of each row after the given layers."""
        for batch in batches(rows):
            stacked = self.encoder.states([row.ids for row in batch])[list(layers)].float().cpu()
            for place, row in enumerate(batch):
                yield stacked[:, place, : len(row.ids)].numpy()

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Returns what ids are called in the vocabulary."""
        return [str(token) for token in self.encoder.tokenizer.convert_ids_to_tokens(list(ids))]


def _check_window(name: str, window: int | None, read: Read, text: str) -> None:
    if window is not None and len(read.ids) > window:
        raise ArgumentError(
            f"{text[:40]!r}… has {len(read.ids)} tokens but {name} reads {window}: shorten the text or leave it out."
        )


def batches(rows: Sequence[Read]) -> Iterator[list[Read]]:
    """Yields the rows in order, as many at a time as fit."""
    waiting: list[Read] = []
    for row in rows:
        if waiting and (len(waiting) + 1) * max(len(row.ids), *(len(one.ids) for one in waiting)) > TOKENS_AT_ONCE:
            yield waiting
            waiting = []
        waiting.append(row)
    if waiting:
        yield waiting


def padded(rows: Sequence[Read]) -> torch.Tensor:
    """Returns the ids of rows, padded on the right: [row, token]."""
    width = max(len(row.ids) for row in rows)
    return torch.tensor([[*row.ids, *[row.ids[-1]] * (width - len(row.ids))] for row in rows])


def pooled(reader: Reader, rows: Sequence[Read], pool: Callable[[States, Read], np.ndarray]) -> np.ndarray:
    """Returns what `pool` makes of the states of each row, all layers: [row, …]."""
    layers = range(reader.n_layers)
    return np.stack([pool(states, row) for states, row in zip(reader.states(rows, layers), rows, strict=True)])


def some_layers(n_layers: int, n: int) -> list[int]:
    """Returns n layers from the first to the last, evenly spaced; all if there are no more."""
    return sorted({round(layer) for layer in np.linspace(0, n_layers - 1, min(n, n_layers))})
