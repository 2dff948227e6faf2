"""Words as tokens: which tokens spell a word and which end it, and a word's probability from those of its tokens.

With t1…tk the word's tokens (t1 holds the space before it), c what came before, and B the tokens that cannot go on a word:

    raw       Π p(ti)                                       the sum of the tokens' surprisals
    boundary  Π p(ti) · p(B | c, t1…tk) / p(B | c)          Pimentel and Meister 2024 (arXiv:2406.14561), Oh and Schuler 2024
    exact     Σ over all token sequences that spell the word, each with its own p(B | …), / p(B | c)      (see `word_surprisal`)

B holds punctuation as well as spaces: a word is also over where a comma follows, and with spaces alone the correction adds
more than a nat in lists, where what is measured may be a tenth of one. Spellings are byte by byte, so that what letters share
between tokens can be put together again.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Float
from tokenizers import models
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import token_texts
from interp.words import goes_on


@dataclass(frozen=True)
class EncodedWords:
    """Words as tokens; `spans` are each word's tokens [first, last) in `ids`, its leading space included."""

    words: tuple[str, ...]
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WordSurprisal:
    """Surprisal of one word in the modes that were asked for, in nats; `left_out_share` belongs to the exact mode."""

    surprisal_nats: Mapping[str, float]
    left_out_share: float = float("nan")


def word_surprisal(log_probability: float, begins: float, ends: float) -> WordSurprisal:
    """Returns the modes raw and boundary from ln of the tokens' product, and ln p(B) before and after the word."""
    return WordSurprisal({"raw": -log_probability, "boundary": begins - log_probability - ends})


def boundary_tokens(
    texts: Sequence[str], special_ids: Sequence[int], n_outputs: int, carries_on: Callable[[str], bool] = goes_on
) -> Bool[Tensor, " token"]:
    """Returns which tokens cannot go on a word (`carries_on` says which can), the special ones among them.

    Bytes that are no whole character (U+FFFD) count as going on. Outputs beyond the tokenizer's tokens are no boundary.
    """
    special = set(special_ids)
    boundary = [id in special or (bool(text) and not carries_on(text)) for id, text in enumerate(texts)]
    mask = torch.zeros(n_outputs, dtype=torch.bool)
    mask[: len(boundary)] = torch.tensor(boundary[:n_outputs])
    return mask


def boundary_log_probability(
    log_probabilities: Float[Tensor, "*axes token"], boundary: Bool[Tensor, " token"]
) -> Float[Tensor, "*axes"]:
    """Returns ln p(B) after each of the given positions."""
    return log_probabilities[..., boundary].logsumexp(dim=-1)


def token_log_probabilities(
    log_p: Float[Tensor, "row column vocabulary"], ids: Sequence[Sequence[int]]
) -> Float[Tensor, "row token"]:
    """Returns ln p of each row's tokens, where column i of log_p predicts token i; shorter rows end in zeros. On the CPU."""
    width = max(len(row) for row in ids)
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=log_p.device)
    real = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in ids])
    return torch.where(real, log_p[:, :width].gather(-1, tokens[:, :, None]).squeeze(-1).double().cpu(), 0.0)


Word = TypeVar("Word", str, bytes)


class Spellings(Generic[Word]):
    """Which tokens a word may begin with: the alternatives at each step of the exact search.

    Words are spelled in bytes where tokens may hold part of a letter.
    """

    def __init__(self, parts: Sequence[Word | None], special_ids: Sequence[int] = ()) -> None:
        """Indexes the vocabulary by what each token adds to a word; special tokens and those that add nothing spell nothing."""
        special = set(special_ids)
        self.parts = parts
        self._by_part: dict[Word, list[int]] = {}
        for id, part in enumerate(parts):
            if part and id not in special:
                self._by_part.setdefault(part, []).append(id)
        self._longest = max(map(len, self._by_part), default=0)

    def beginnings(self, word: Word) -> list[tuple[int, Word]]:
        """Returns every token that spells a beginning of the word, with what is left of the word after it."""
        return [
            (id, word[end:])
            for end in range(1, min(len(word), self._longest) + 1)
            for id in self._by_part.get(word[:end], ())
        ]


@dataclass(frozen=True)
class Vocabulary:
    """What words need to know of a tokenizer: which tokens end a word, and what each spells."""

    boundary: Bool[Tensor, " token"]
    tokenizer: Any
    without_exact: str
    """What to do where tokens cannot be turned into bytes, which the exact probability is made of."""

    @classmethod
    def of(cls, model: LanguageModel, without_exact: str, carries_on: Callable[[str], bool] = goes_on) -> "Vocabulary":
        """Returns the vocabulary of a model's tokenizer; a word ends where a token cannot carry it on."""
        tokenizer: Any = model.tokenizer
        n_outputs = model.hf.config.get_text_config(decoder=True).vocab_size
        boundary = boundary_tokens(token_texts(tokenizer), tokenizer.all_special_ids, n_outputs, carries_on)
        return cls(boundary.to(model.device), tokenizer, without_exact)

    @cached_property
    def spellings(self) -> Spellings[bytes]:
        """Which tokens spell what. Raises UserError where tokens cannot be turned into bytes."""
        try:
            return Spellings(token_bytes(self.tokenizer))
        except UserError as error:
            raise UserError(f"{error} {self.without_exact}") from error

    def spelled(self, ids: Sequence[int], word: str) -> list[bytes]:
        """Returns the bytes of a word's own tokens, as the tokenizer writes it: lower-cased where it does that.

        Raises ArgumentError when one of them stands for no text.
        """
        found = [part for id in ids if (part := self.spellings.parts[id])]
        if len(found) < len(ids):
            raise ArgumentError(
                f"The tokenizer spells {word} with a special token, which has no bytes: leave the word out."
            )
        return found


_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_KNOWN = {"ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace", "Metaspace", "WordPiece"}


def token_bytes(tokenizer: Any) -> list[bytes | None]:
    """Returns the bytes each token of a transformers tokenizer adds to a text that it continues; None for special tokens.

    A leading space is included. Byte-level vocabularies write a byte as a letter (GPT-2's table), SentencePiece's fall back to
    tokens such as <0x0A>; the tokens of all others are whole characters.
    Raises UserError for a tokenizer whose tokens are not bytes one after the other.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"The tokens of {type(tokenizer).__name__} cannot be turned into bytes: use the fast tokenizer."
        )
    backend: Any = tokenizer.backend_tokenizer
    kinds = set(_decoders(json.loads(backend.decoder.__getstate__()))) if backend.decoder else set[str]()
    if not kinds <= _KNOWN or (not kinds and not isinstance(backend.model, models.WordLevel)):
        raise UserError(
            f"The tokens of this {type(backend.model).__name__} tokenizer cannot be turned into bytes: its decoder is "
            f"{', '.join(sorted(kinds - _KNOWN)) or 'missing'}."
        )
    texts = token_texts(tokenizer)
    added: dict[int, str] = {id: token for token, id in tokenizer.get_added_vocab().items()}
    special = set(tokenizer.all_special_ids)
    table = byte_of_letter() if "ByteLevel" in kinds else None
    return [
        None if id in special else _bytes(added.get(id), tokenizer.convert_ids_to_tokens(id), text, table, kinds)
        for id, text in enumerate(texts)
    ]


def _bytes(added: str | None, token: Any, text: str, table: dict[str, int] | None, kinds: set[str]) -> bytes | None:
    """The bytes of one token: an added one is written as it is."""
    if added is not None:
        return added.encode()
    if token is None:
        return None
    if table is not None:
        return bytes(table[letter] for letter in token) if all(letter in table for letter in token) else token.encode()
    if "ByteFallback" in kinds and (byte := _BYTE.fullmatch(token)):
        return bytes([int(byte[1], 16)])
    return text.encode()


def byte_of_letter() -> dict[str, int]:
    """Returns the byte that each letter of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, are written from U+0100 on (GPT-2).
    """
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in themselves]
    return {
        **{chr(byte): byte for byte in themselves},
        **{chr(0x100 + place): byte for place, byte in enumerate(others)},
    }


def _decoders(state: dict[str, Any]) -> Iterator[str]:
    if state["type"] == "Sequence":
        for part in state["decoders"]:
            yield from _decoders(part)
    else:
        yield state["type"]
