"""What texts and a vocabulary offer: passages of a given length, classes of tokens, tokens that no text has."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from interp.errors import ArgumentError
from interp.kept import kept_while_unchanged
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, encode_piece, token_texts
from interp.stimuli.prose import news_articles, read_folder
from interp.words import is_word
from probes.embedding_swap.settings import Settings, TokenClass

_SAMPLE_CHARACTERS = 1_000_000
"""Characters of text that tokens are counted in."""
N_FREQUENT = 50


@dataclass(frozen=True)
class Materials:
    """Texts as tokens, and the vocabulary by class."""

    texts: tuple[tuple[int, ...], ...]
    """Tokens of every text, without what stands before it."""
    counts: Int[np.ndarray, " token"]
    """How often each token occurs in the texts."""
    token_texts: tuple[str, ...]
    words: Int[np.ndarray, " word"]
    """Tokens that are a lower-case word, with the blank before it where the vocabulary has such."""
    ordinary: Int[np.ndarray, " ordinary"]
    """All tokens that may stand in a text."""
    lead: tuple[int, ...]
    """What stands before every text."""

    def members(self, among: TokenClass) -> Int[np.ndarray, " member"]:
        """Returns the tokens of a class, most frequent first.

        Raises ArgumentError for a class of fewer than two: they could not change places.
        """
        found = self.ordinary if among == "all" else self.words
        found = found[np.argsort(-self.counts[found], kind="stable")]
        if among == "frequent":
            found = found[:N_FREQUENT]
            found = found[self.counts[found] > 0]
        if len(found) < 2:
            raise ArgumentError(
                f"The class {among} has {len(found)} of this vocabulary's tokens, and two are needed to change places: name another "
                "one with --classes."
            )
        return found

    def unread(self) -> Int[np.ndarray, " rare"]:
        """Returns words of the vocabulary that no text has, those that were added to it last first.

        Raises ArgumentError when there are none.
        """
        found = self.words[self.counts[self.words] == 0][::-1]
        if len(found) < 2:
            raise ArgumentError(
                "Every word of this vocabulary is in the texts, so none is rare: give fewer --texts, or leave out ciphers."
            )
        return found

    def passages(self, n: int, n_tokens: int) -> list[list[int]]:
        """Returns the beginnings of the first texts that are long enough.

        Raises ArgumentError when there are not so many.
        """
        found = [list(text[:n_tokens]) for text in self.texts if len(text) >= n_tokens][:n]
        if len(found) < n:
            raise ArgumentError(
                f"{len(found)} texts have {n_tokens} tokens, and {n} are needed: give more --texts, or lower --text-tokens or "
                "--texts-per-cipher."
            )
        return found


def materials_of(model: LanguageModel, settings: Settings) -> Materials:
    """Returns the materials of a model's tokenizer, made once for each."""
    rows: Any = model.hf.get_input_embeddings()
    return _materials(model.tokenizer, settings.texts, int(rows.weight.shape[0]))


@kept_while_unchanged(lambda _, folder, __: (folder,))
def _materials(tokenizer: Any, folder: Path | None, n_rows: int) -> Materials:
    texts = read_folder(folder) if folder else news_articles()
    sizes = np.cumsum([len(text) for text in texts])
    sample = texts[: int(np.searchsorted(sizes, _SAMPLE_CHARACTERS)) + 1]
    ids = [tuple(encode_piece(tokenizer, text, first=True).ids) for text in sample if text.strip()]
    of_tokens = token_texts(tokenizer)[:n_rows]
    counts = np.bincount(
        np.concatenate([np.array(row, dtype=int) for row in ids]), minlength=max(n_rows, len(of_tokens))
    )
    ordinary = [id for id, text in enumerate(of_tokens) if text]
    return Materials(
        tuple(ids),
        counts,
        tuple(of_tokens),
        _words(of_tokens),
        np.array(ordinary, dtype=int),
        tuple(beginning(tokenizer, "auto")),
    )


def _words(of_tokens: Sequence[str]) -> Int[np.ndarray, " word"]:
    """Lower-case words; where the vocabulary writes blanks into tokens, those that begin with one."""
    found = [
        id
        for id, text in enumerate(of_tokens)
        if is_word(text.strip()) and text == text.lower() and text.rstrip() == text
    ]
    spaced = [id for id in found if of_tokens[id].startswith(" ") and len(of_tokens[id]) > 2]
    return np.array(spaced if 4 * len(spaced) >= len(found) else found, dtype=int)
