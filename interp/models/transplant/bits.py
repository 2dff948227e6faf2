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

    Raises ArgumentError for letters that the tokenizer does not know, which would cost one unknown token whatever they are, and for
    those that it writes otherwise, without capitals or accents: a text that says less costs less.
    """
    piece = encode_piece(tokenizer, text, first=False)
    if lost := unread(tokenizer, piece, text, 0, len(text)):
        raise ArgumentError(
            f"The tokenizer does not know {lost[0]!r}, so bits of this text mean nothing: give other --texts."
        )
    given, kept = (_without_blanks(one) for one in (text, _spelled(tokenizer, piece.ids)))
    if given != kept:
        place = next((at for at, (a, b) in enumerate(zip(given, kept, strict=False)) if a != b), len(kept))
        raise ArgumentError(
            f"The tokenizer writes {kept[place : place + 8]!r} for {given[place : place + 8]!r}, so bits of this text are those of another "
            "one: give other --texts, or name a tokenizer that keeps capitals and accents."
        )
    return piece.ids


def _spelled(tokenizer: Any, ids: Sequence[int]) -> str:
    """What tokens add to a text that they continue."""
    before = encode_piece(tokenizer, "a").ids
    return tokenizer.decode([*before, *ids], clean_up_tokenization_spaces=False)[len(tokenizer.decode(before)) :]


def _without_blanks(text: str) -> str:
    return "".join(text.split())


def _cut(text: str) -> int:
    cut = text.find(" ", _LEAD_CHARACTERS)
    cut = min(len(text) // 2, _LEAD_CHARACTERS) if cut < 0 else cut  # scripts without blanks
    if len(text) - cut < 16:
        raise ArgumentError(f"A text of {len(text)} characters is too short to be scored: give longer --texts.")
    return cut
