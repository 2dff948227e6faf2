"""A trial as token ids: preface, first list, text between, second list, each encoded by itself; and the words around the lists.

Armeni et al. 2022 encode the parts separately too. Since no part's tokens depend on what follows, trials share their common
prefixes, token by token: `reading` reads shared parts once, and a `Trial` is for measures that need the whole text.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError
from interp.kept import kept_while_unchanged
from interp.models.language.model import LanguageModel
from interp.models.language.word_tokens import EncodedWords
from interp.models.tokens.encoding import BosPolicy, Piece, beginning, check_single_beginning, encode_piece, unread
from interp.statistics import Array
from interp.stimuli.sentences import sentences, without_stop
from interp.words import normalised
from probes.verbatim_memory.lists import Condition, FirstList, first_lists, second_list
from probes.verbatim_memory.settings import Settings

OWN_TEXTS = Path(__file__).with_name("texts.toml")
TAIL_WORDS = 4
"""Words before the second list whose surprisal is kept too, as in the paper's time course."""


@dataclass(frozen=True)
class Texts:
    """Preface and prompt by context ("intact" unless a context has its own), paragraphs of intervening text by context."""

    preface: Mapping[str, str]
    prompt: Mapping[str, str]
    paragraphs: Mapping[str, tuple[str, ...]]

    def before(self, context: str) -> str:
        """Returns the text before the first list."""
        return self.preface.get(context, self.preface["intact"])

    def between(self, context: str, length: int, seed: int) -> str:
        """Returns the text between the lists: the first `length` paragraphs of the context (none for "short") and the prompt.

        "scrambled" is the intact text with the words of every sentence shuffled, then the sentences.
        Raises ArgumentError when the context has fewer paragraphs, or nothing to shuffle.
        """
        prompt = self.prompt.get(context, self.prompt["intact"])
        if context == "short":
            return prompt
        paragraphs = self.paragraphs["incongruent" if context == "incongruent" else "intact"]
        if not 1 <= length <= len(paragraphs):
            raise ArgumentError(
                f"There are intervening texts of length 1 to {len(paragraphs)}, not {length}: see --intervening."
            )
        text = " ".join(paragraphs[:length])
        return f"{scramble(text, seed) if context == 'scrambled' else text} {prompt}"


@kept_while_unchanged(lambda path=None: (path,), maxsize=4)
def read_texts(path: Path | None = None) -> Texts:
    """Returns the texts of a TOML file with the tables [preface], [prompt] and [intervening], or the toolkit's own.

    Characters are composed (NFC), as those of nouns are, so that the same word is the same tokens everywhere.
    Raises ArgumentError when the file cannot be read or lacks one.
    """
    path = path or OWN_TEXTS
    try:
        content: Any = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read as TOML ({error}).") from error
    for table in ("preface", "prompt", "intervening"):
        if not isinstance(content.get(table), dict) or "intact" not in content[table]:
            raise ArgumentError(f'{path} has no "intact" in [{table}]: every table needs it.')
    for table in ("preface", "prompt"):
        for context, text in content[table].items():
            if not isinstance(text, str) or not text.strip():
                raise ArgumentError(f"{path}: {context} in [{table}] must be a text.")
    for context, paragraphs in content["intervening"].items():
        if not isinstance(paragraphs, list) or not all(isinstance(text, str) and text.strip() for text in paragraphs):
            raise ArgumentError(f"{path}: {context} in [intervening] must be a list of texts.")
    paragraphs = {"incongruent": content["intervening"]["intact"], **content["intervening"]}
    return Texts(
        {context: normalised(text) for context, text in content["preface"].items()},
        {context: normalised(text) for context, text in content["prompt"].items()},
        {context: tuple(map(normalised, texts)) for context, texts in paragraphs.items()},
    )


def scramble(text: str, seed: int) -> str:
    """Returns the text with the words of each sentence in another order, first words in lower case, and then the sentences.

    Words are what stands between blanks; every sentence keeps its stop at its end, and nothing is lost but the number of blanks.
    Raises ArgumentError when no sentence has two words.
    """
    generator = np.random.default_rng([seed, 2])
    mixed, longest, is_turkish = [], 0, re.search("[ğıİ]", text) is not None
    for sentence in sentences(text):
        before, stop = without_stop(sentence)
        words = before.split()
        words[:1] = [_in_small_letters(first, is_turkish) for first in words[:1]]
        longest = max(longest, len(words))
        mixed.append(" ".join(words[index] for index in generator.permutation(len(words))) + stop)
    if longest < 2:
        raise ArgumentError(
            f"No sentence of the text {text[:40]!r} has two words to shuffle (words are separated by spaces): leave scrambled "
            "out of --contexts, or write spaces between the words."
        )
    return " ".join(mixed[index] for index in generator.permutation(len(mixed)))


def _in_small_letters(word: str, is_turkish: bool) -> str:
    """A word in lower case; Turkish and Azeri have an i with a dot and one without, in capitals too."""
    return (word.replace("İ", "i").replace("I", "ı") if is_turkish else word).lower()


@dataclass(frozen=True)
class Trial:
    """The tokens of a trial and of its lists."""

    first: FirstList
    ids: tuple[int, ...]
    lists: tuple[EncodedWords, EncodedWords]
    starts: tuple[int, int]
    """Position of each list's first token."""

    def noun_spans(self, list_index: int) -> list[tuple[int, int]]:
        """Returns each noun's positions [first, last) in list 1 or 2."""
        start = self.starts[list_index - 1]
        return [(start + first, start + last) for first, last in self.lists[list_index - 1].spans]

    def noun_starts(self, list_index: int) -> Int[Tensor, " noun"]:
        """Returns the position of each noun's first token in list 1 or 2."""
        return torch.tensor([first for first, _ in self.noun_spans(list_index)])


def build_trial(
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    first: FirstList,
    second: tuple[str, ...],
    *,
    context: str,
    intervening: int,
    bos: BosPolicy,
    seed: int,
) -> Trial:
    """Returns a trial as tokens; each part is encoded by itself, as everywhere in this experiment."""
    before = encode_preface(tokenizer, texts.before(context), bos, str(tokenizer.name_or_path))
    lists = encode_list(tokenizer, first.nouns), encode_list(tokenizer, second)
    between = encode_text(tokenizer, texts.between(context, intervening, seed))
    ids = (*before, *lists[0].ids, *between, *lists[1].ids)
    return Trial(first, ids, lists, (len(before), len(ids) - len(lists[1].ids)))


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str, *, first: bool = False) -> tuple[int, ...]:
    """Returns the tokens of a part of a trial: the first as the tokenizer begins a text, the others behind a space."""
    return tuple(encode_piece(tokenizer, text if first else " " + text, first=first).ids)


def encode_preface(tokenizer: PreTrainedTokenizerBase, text: str, bos: BosPolicy, model: str) -> tuple[int, ...]:
    """Returns the tokens that a trial begins with: beginning of sequence and preface.

    Raises UserError when the preface itself is written with a beginning, which would be doubled.
    """
    ids = (*beginning(tokenizer, bos), *encode_text(tokenizer, text, first=True))
    check_single_beginning(tokenizer, ids, model)
    return ids


def encode_list(tokenizer: PreTrainedTokenizerBase, nouns: Sequence[str]) -> EncodedWords:
    """Returns the tokens of " noun, noun, noun." with the span of each noun.

    Raises ArgumentError for a noun whose tokens also hold its neighbours' characters, or that the tokenizer cannot spell.
    """
    text = "".join(f" {noun}," for noun in nouns)[:-1] + "."
    piece = encode_piece(tokenizer, text)
    spans, start = [], 0
    for noun in nouns:
        end = start + 1 + len(noun)
        if unread(tokenizer, piece, text, start, end):
            raise ArgumentError(f"The tokenizer cannot spell the noun {noun}: leave it out of the pool.")
        spans.append(_span(piece, start, end, noun))
        start = end + 1
    return EncodedWords(tuple(nouns), tuple(piece.ids), tuple(spans))


def _span(piece: Piece, start: int, end: int, noun: str) -> tuple[int, int]:
    """The tokens that hold the characters [start, end), a space and a noun, and no others."""
    inside = [index for index, (a, b) in enumerate(piece.offsets) if a < end and b > start]
    if not inside or piece.offsets[inside[-1]][1] > end or piece.offsets[inside[0]][0] < start:
        raise ArgumentError(
            f"The tokenizer joins the noun {noun} with the comma beside it, so its surprisal cannot be told apart."
        )
    return inside[0], inside[-1] + 1


def last_words(tokenizer: PreTrainedTokenizerBase, text: str, n_words: int) -> list[tuple[str, tuple[int, int]]]:
    """Returns the last words of a part of a trial, each with its tokens [first, last) in `encode_text(text)`.

    A word goes on to the next blank, punctuation included, and holds the blanks before it; a token belongs to the word it begins
    in.
    Raises ArgumentError for a word that the tokenizer cannot spell or that begins inside another one's token.
    """
    spaced = " " + text
    piece = encode_piece(tokenizer, spaced)
    words = []
    for match in list(re.finditer(r"\s*\S+", spaced))[-n_words:]:
        word = match[0].strip()
        own = [index for index, (start, _) in enumerate(piece.offsets) if match.start() <= start < match.end()]
        if unread(tokenizer, piece, spaced, *match.span()):
            raise ArgumentError(f"The tokenizer cannot spell {word!r} before the second list: give other --texts.")
        if not own:
            raise ArgumentError(f"The tokenizer joins {word!r} with the word before it: give other --texts.")
        words.append((word, (own[0], own[-1] + 1)))
    return words


class TrialRatios(NamedTuple):
    """The estimators of single trials, in per cent."""

    ratio: Array
    first_noun: Array
    all_positions: Array


def trial_ratios(first: Array, second: Array) -> TrialRatios:
    """Returns 100 × mean(second) / mean(first) per trial, from surprisals [trial, position]: without the first noun, of the
    first noun alone, and over all nouns.
    """
    return TrialRatios(
        100 * second[:, 1:].mean(axis=1) / first[:, 1:].mean(axis=1),
        100 * second[:, 0] / first[:, 0],
        100 * second.mean(axis=1) / first.mean(axis=1),
    )


def drops_2024(first: Array, second: Array) -> Array:
    """Returns Armeni et al.'s 2024 measure of single trials in per cent: 100 · (1 − second / first), mean over positions.

    They take its 20% trimmed mean over trials, a tenth left out at each end.
    """
    return (100 * (1 - second / first)).mean(axis=1)


def common_beginning(first: Sequence[int], second: Sequence[int]) -> int:
    """Returns the length of the common prefix of two texts, in tokens."""
    differ = (index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differ, min(len(first), len(second)))


def whole_trials(
    settings: Settings, model: LanguageModel, base_lists: Sequence[int], conditions: Sequence[Condition]
) -> Iterator[tuple[Condition, Trial]]:
    """Yields the longest lists of the first pool in their first rotation, after the shortest intact text."""
    everyone = first_lists(settings, settings.pools[0], max(settings.list_lengths))
    for first in everyone:
        if first.base_list in base_lists and first.rotation == 0:
            for condition in conditions:
                yield (
                    condition,
                    build_trial(
                        model.tokenizer,
                        read_texts(settings.texts),
                        first,
                        second_list(condition, first, everyone, settings.seed),
                        context="intact",
                        intervening=settings.intervening[0],
                        bos=settings.bos,
                        seed=settings.seed,
                    ),
                )
