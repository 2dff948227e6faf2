"""Composing a context from pieces of text. Every piece is encoded by itself, so its token span is known and never searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter, ascii_uppercase
from typing import Any

import numpy as np

from interp.errors import ArgumentError, check_choice
from interp.models.tokens.encoding import encode_piece
from probes.context_recall.words import Words

Ids = tuple[int, ...]
Span = tuple[int, int]
"""Token range [start, end) of a context."""
TRIES = 200
"""Codes that are drawn one after the other in search of one that fits."""
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class Pair:
    """A key and its value in a context."""

    key: Span
    value: Span


@dataclass(frozen=True)
class Question:
    """What is read behind a context, and which answers count."""

    ids: Ids
    right: tuple[Ids, ...]
    """Answers any of which is right."""
    wrong: tuple[Ids, ...]
    """The other values of the context."""
    pairs: tuple[int, ...]
    """The pairs that hold the right answers."""
    overlap: float
    """Share of the right key's tokens that the question repeats; NaN where a question has no key."""
    old: Ids | None = None
    """The value that the right one replaced."""
    is_label: bool = False
    """Whether answers are labels that the question names, and no values of the context."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """hops, direction, threads, gap, kind: what the question's row says of it."""


@dataclass(frozen=True)
class Sample:
    """A context with its pairs, and questions on it."""

    ids: Ids
    lead: int
    """Special tokens it begins with."""
    pairs: tuple[Pair, ...]
    questions: tuple[Question, ...]
    without: tuple[Ids | None, ...]
    """For each question the context with fresh words in place of its pair; None where a task has no such control."""


@dataclass(frozen=True)
class Mark:
    """A text that was put down, and where."""

    text: str
    span: Span


class Draft:
    """A context that is being written. `keys`, `values` and `codes` never give the same text twice in one context."""

    def __init__(
        self,
        tokenizer: Any,
        words: Words,
        frames: Mapping[str, Any],
        generator: np.random.Generator,
        lead: Sequence[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.frames = frames
        """Texts around keys and values, by name."""
        self.generator = generator
        self.ids: list[int] = [*lead]
        self._lead = len(lead)
        self._source = words.source
        self._free: dict[str, list[str]] = dict(zip(("key", "value"), words.halves(generator), strict=True))
        self._n_words = len(words.texts)
        self._kinds: dict[str, str] = {}
        self._firsts: set[int] = set()
        self._pairs: list[tuple[Mark, Mark]] = []
        self._questions: list[Question] = []

    # ------------------------------------------------------------------ words

    def keys(self, n: int) -> list[str]:
        """Returns n words for keys, each with the space before it.

        Raises ArgumentError when the tokenizer has too few words that are single tokens.
        """
        return self._take("key", n)

    def values(self, n: int) -> list[str]:
        """Returns n words for values, disjoint from keys; errors as `keys`."""
        return self._take("value", n)

    def fillers(self, n: int) -> str:
        """Returns a text of n words that are neither keys nor values of this context; errors as `keys`."""
        return "".join(self._take("value" if place % 2 else "key", 1)[0] for place in range(n))

    def _take(self, kind: str, n: int) -> list[str]:
        free = self._free[kind]
        if n > len(free):
            raise ArgumentError(
                f"The task needs {n} more {kind}s and this tokenizer has {self._n_words} words of --words {self._source} as single tokens, "
                "half of them for values: lower the task's size, or name --words vocabulary or a file of words."
            )
        taken, self._free[kind] = free[:n], free[n:]
        self._kinds.update(dict.fromkeys(taken, kind))
        return taken

    def codes(
        self,
        n: int,
        length: int = 4,
        *,
        letters: str = LETTERS,
        holding: str = "",
        without: str = "",
        like: str | None = None,
    ) -> list[str]:
        """Returns n codes whose first tokens differ from those of all others, so that none begins another; as long in tokens as `like`.

        Raises ArgumentError when the tokenizer has too few such codes.
        """
        n_tokens = None if like is None else len(self._encode(like))
        found: list[str] = []
        misses = 0
        while len(found) < n and misses < TRIES:
            code = "".join(self.generator.choice(list(letters), size=length))
            code = code if holding in code else f"{code[:-1]}{holding}"
            ids = self._encode(code)
            fits = n_tokens in (None, len(ids)) and not code.isdigit() and not (without and without in code)
            misses += 1
            if fits and ids and ids[0] not in self._firsts:
                found.append(code)
                self._firsts.add(ids[0])
                misses = 0
        if len(found) == n:
            self._kinds.update(dict.fromkeys(found, "code"))
            return found
        raise ArgumentError(
            f"This tokenizer begins codes of {length} letters and digits with too few different tokens for {n} more of them: lower the "
            "task's size."
        )

    def choose(self, n: int, size: int) -> list[int]:
        """Returns `size` different numbers below n, in random order (all of them where there are fewer)."""
        return [int(number) for number in self.generator.permutation(n)[:size]]

    @staticmethod
    def option(name: str, value: str, known: Mapping[str, Any]) -> Any:
        """Returns what a task's option stands for.

        Raises ArgumentError for one that is not known.
        """
        check_choice(name, value, tuple(known))
        return known[value]

    # ------------------------------------------------------------------ writing

    def put(self, text: str) -> Mark:
        """Writes a text and returns where it stands."""
        return self.put_ids(self._encode(text), text)

    def put_ids(self, ids: Sequence[int], text: str = "") -> Mark:
        """Writes tokens and returns where they stand."""
        start = len(self.ids)
        self.ids.extend(ids)
        return Mark(text, (start, len(self.ids)))

    def pair(self, template: str, key: str, value: str) -> int:
        """Writes a pair as its template says ("{key}:{value}") and returns its number."""
        marks: dict[str, Mark] = {}
        for before, name, _, _ in Formatter().parse(template):
            if before:
                self.put(before)
            if name:
                marks[name] = self.put({"key": key, "value": value}[name])
        return self.bind(marks.get("key", marks["value"]), marks["value"])

    def bind(self, key: Mark, value: Mark) -> int:
        """Makes a pair of two texts that were put down and returns its number.

        Raises ArgumentError for a key that does not stand where it says.
        """
        start, end = key.span
        if key.text and (start < 0 or self.ids[start:end] != self._encode(key.text)):
            raise ArgumentError(
                f"The tokens {start} to {end} do not hold the key {key.text!r} of a pair: bind what draft.put returned."
            )
        self._pairs.append((key, value))
        return len(self._pairs) - 1

    def ask(
        self,
        template: str,
        right: Sequence[int],
        *,
        words: Mapping[str, str] | None = None,
        wrong: Sequence[int] | None = None,
        old: int | None = None,
        **facts: Any,
    ) -> None:
        """Adds a question, its template filled with words; right answers are the values of these pairs, wrong ones all others'.

        Raises ArgumentError for a pair that there is not, and a place of the template without a word.
        """
        if not right or not {*right, *(wrong or ())} <= set(range(len(self._pairs))):
            raise ArgumentError(
                f"A question asks for the pairs {list(right)} of {len(self._pairs)} in the context: give numbers that draft.pair returned."
            )
        answers = [tuple(self._encode(value.text)) for _, value in self._pairs]
        gold = tuple(dict.fromkeys(answers[number] for number in right))
        others = range(len(answers)) if wrong is None else wrong
        rest = tuple(dict.fromkeys(answers[number] for number in others if answers[number] not in gold))
        ids = tuple(self._filled(template, words or {}))
        key = self.ids[slice(*self._pairs[right[0]][0].span)]
        overlap = sum(token in ids for token in key) / len(key)
        stale = None if old is None else answers[old]
        self._questions.append(Question(ids, gold, rest, tuple(right), overlap, stale, facts=facts))

    def ask_label(self, text: str, right: str, wrong: str, pairs: Sequence[int], **facts: Any) -> None:
        """Adds a question whose answer is one of two labels; `pairs` are what the answer rests on."""
        labels = [(tuple(self._encode(label)),) for label in (right, wrong)]
        ids = tuple(self._encode(text))
        self._questions.append(
            Question(ids, labels[0], labels[1], tuple(pairs), float("nan"), is_label=True, facts=facts)
        )

    def finished(self) -> Sample:
        """Returns the context and its questions."""
        pairs = tuple(Pair(key.span, value.span) for key, value in self._pairs)
        without = tuple(self._without(question) for question in self._questions)
        return Sample(tuple(self.ids), self._lead, pairs, tuple(self._questions), without)

    def _without(self, question: Question) -> Ids | None:
        """The context with fresh words of the same kind and length where the question's pairs stand."""
        marks = {mark.span: mark for number in question.pairs for mark in self._pairs[number]}
        if question.is_label or any(mark.text not in self._kinds for mark in marks.values()):
            return None
        ids = list(self.ids)
        for mark in marks.values():
            ids[slice(*mark.span)] = self._encode(self._like(mark.text))
        return tuple(ids)

    def _like(self, text: str) -> str:
        kind = self._kinds[text]
        if kind != "code":
            return self._take(kind, 1)[0]
        taken = set(self._firsts)
        fresh = self.codes(1, len(text), letters=ascii_uppercase if text.isupper() else LETTERS, like=text)[0]
        self._firsts = taken  # what stands in for a pair may begin as another stand-in does
        return fresh

    def _filled(self, template: str, words: Mapping[str, str]) -> list[int]:
        ids: list[int] = []
        lacking = [name for _, name, _, _ in Formatter().parse(template) if name and name not in words]
        if lacking:
            raise ArgumentError(
                f"The question {template!r} has no word for {', '.join(lacking)}: give words={{…}} with it."
            )
        for before, name, _, _ in Formatter().parse(template):
            ids += self._encode(before) if before else []
            ids += self._encode(words[name]) if name else []
        return ids

    def _encode(self, text: str) -> list[int]:
        return encode_piece(self.tokenizer, text).ids
