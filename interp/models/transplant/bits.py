"""Bits per byte of a model on texts, comparable between vocabularies: the beginning of a text is read and not scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, encode_piece, unread
from interp.statistics import Estimate, resampled

_LEAD_CHARACTERS = 80


@dataclass(frozen=True)
class Bits:
    """What each text costs under one model."""

    nats: np.ndarray
    n_bytes: np.ndarray

    def per_byte(self, minus: "Bits | None" = None) -> Estimate:
        """Returns the bits per byte over all texts, or how many more than another model's on the same texts, texts resampled."""
        nats = self.nats if minus is None else self.nats - minus.nats
        return resampled(lambda w: (w @ nats) / (w @ self.n_bytes) / log(2), np.arange(len(nats)))


def bits_of(model: LanguageModel, texts: Sequence[str]) -> Bits:
    """Returns what the model's own tokens of each text cost, behind a lead that is read and not scored.

    The lead ends at the first blank behind 80 characters. One way of writing the text is counted, so exact bytes cost no more.
    Raises ArgumentError for a text that ends before that, UserError for letters that the tokenizer does not know.
    """
    nats, n_bytes = [], []
    for text in texts:
        cut = _cut(text)
        ids = [read_lead(model.tokenizer, text[:cut]), scored(model.tokenizer, text[cut:])]
        surprisal = model.surprisal([[*ids[0], *ids[1]]])[0, len(ids[0]) :]
        nats.append(float(surprisal.double().sum()))
        n_bytes.append(len(text[cut:].encode()))
    return Bits(np.array(nats), np.array(n_bytes))


def read_lead(tokenizer: Any, text: str) -> list[int]:
    """Returns the tokens of what is read first, with what the tokenizer begins texts with."""
    return [*beginning(tokenizer, "auto"), *encode_piece(tokenizer, text, first=True).ids]


def scored(tokenizer: Any, text: str) -> list[int]:
    """Returns the tokens of what follows a lead.

    Raises ArgumentError for letters that the tokenizer does not know: they would cost one unknown token whatever they are.
    """
    piece = encode_piece(tokenizer, text, first=False)
    if lost := unread(tokenizer, piece, text, 0, len(text)):
        raise ArgumentError(
            f"The tokenizer does not know {lost[0]!r}, so bits of this text mean nothing: give other --texts."
        )
    return piece.ids


def _cut(text: str) -> int:
    cut = text.find(" ", _LEAD_CHARACTERS)
    cut = min(len(text) // 2, _LEAD_CHARACTERS) if cut < 0 else cut  # scripts without blanks
    if len(text) - cut < 16:
        raise ArgumentError(f"A text of {len(text)} characters is too short to be scored: give longer --texts.")
    return cut
