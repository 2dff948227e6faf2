"""The words around the lists: preface, intervening text and the prompt that announces the second list."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import ArgumentError
from interp.sentences import sentences, without_stop
from interp.words import normalised

OWN_TEXTS = Path(__file__).with_name("texts.toml")


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


@cache
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
            f"No sentence of the text {text[:40]!r} has two words to shuffle (words are what stands between blanks): leave scrambled "
            "out of --contexts, or write blanks between the words."
        )
    return " ".join(mixed[index] for index in generator.permutation(len(mixed)))


def _in_small_letters(word: str, is_turkish: bool) -> str:
    """A word in lower case; Turkish and Azeri have an i with a dot and one without, in capitals too."""
    return (word.replace("İ", "i").replace("I", "ı") if is_turkish else word).lower()
