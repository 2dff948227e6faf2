"""The texts of a run, the items in them and how they should look, and what each token of a text stands for.

Imports no torch: a plan is made of these.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import ArgumentError, did_you_mean
from interp.models.tokens.token_spans import Token, find_phrase, spelling, spelling_apart
from interp.words import attaches

ALONE = "a {}"
"""The text that has an item by itself, unless the item names its own."""
ARTICLES = frozenset({"a", "an", "the"})
FLOOR_ROLES = ("bos", "eos", "pad", "article", "other_words")
"""Positions that name no item; what they carry is the floor of every keep-only test."""
ITEM_ROLES = ("first_words", "last_word", "last_token")
"""Pieces of an item: of its words before the last; of its last word; the last piece of that."""
_PROMPT_FIELDS = ("text", "items", "group")
_ITEM_FIELDS = ("phrase", "occurrence", "looks", "leaks", "alone")


@dataclass(frozen=True)
class Question:
    """What a judge is asked of a picture: `asked` is own (the item as it should look) or leak (as it should not)."""

    item_id: str
    asked: str
    description: str


@dataclass(frozen=True)
class PromptItem:
    """One thing that a prompt names.

    `looks` is how a judge is to describe it, and each of `leaks` how it looks when something else in the prompt got into it:
    another sense of the word, or another item's colour. `alone` is the text that has it by itself.
    """

    phrase: str
    occurrence: int | None = None
    looks: str = ""
    leaks: tuple[str, ...] = ()
    alone: str = ""

    @property
    def id(self) -> str:
        """The phrase, and which one where it comes several times."""
        return self.phrase if self.occurrence is None else f"{self.phrase}#{self.occurrence}"

    @property
    def alone_text(self) -> str:
        """The text that has the item by itself."""
        return self.alone or ALONE.format(self.phrase)

    @property
    def alone_key(self) -> tuple[str, tuple[int, int], str]:
        """What its text alone is drawn for: the text, the item's characters in it, and how it is to look."""
        return self.alone_text, find_phrase(self.alone_text, self.phrase), (self.looks or self.phrase).lower()

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked of every picture: the item as it should look first, then its leaks."""
        own = Question(self.id, "own", self.looks or self.phrase)
        return own, *(Question(self.id, "leak", leak) for leak in self.leaks)


@dataclass(frozen=True)
class Prompt:
    """A text and its items. Prompts of one `group` are summarised together."""

    id: str
    text: str
    items: tuple[PromptItem, ...]
    group: str = "prompts"

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions of all items."""
        return tuple(question for item in self.items for question in item.questions)

    def characters(self, item: PromptItem) -> tuple[int, int]:
        """Returns where an item stands in the text. Raises ArgumentError when it does not, or which is meant is not said."""
        return find_phrase(self.text, item.phrase, item.occurrence)


def items_alone(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Returns every distinct item of the prompts as a prompt of its own, in order of appearance.

    An item is drawn alone once, whatever prompts it is in and whatever leaks into it there. Where two have the same text and are
    other parts of it, or to look otherwise, the later one's id ends in #2.
    """
    alone: dict[tuple[str, tuple[int, int], str], Prompt] = {}
    n_of_text: Counter[str] = Counter()
    for prompt in prompts:
        for item in prompt.items:
            if item.alone_key not in alone:
                bare = PromptItem(item.phrase, None, item.looks, (), item.alone)
                n_of_text[bare.alone_text] += 1
                number = f" #{n}" if (n := n_of_text[bare.alone_text]) > 1 else ""
                alone[item.alone_key] = Prompt(f"alone {bare.alone_text}{number}", bare.alone_text, (bare,), "alone")
    return list(alone.values())


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Returns the prompts of a file of JSON lines: {"text": …, "items": [{"phrase": …, "leaks": […]}, …]}, one a line.

    An item may be a plain phrase. Raises ArgumentError, with the line's number, for what cannot be meant.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a JSON text may hold other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} cannot be read as text: give --prompts a file of JSON lines.") from error
    prompts = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                prompts.append(_read_line(line, f"p{number:04d}"))
            except ArgumentError as error:
                raise ArgumentError(f"{path}, line {number}: {error}") from None
    if not prompts:
        raise ArgumentError(f'{path} holds no prompt: write lines such as {{"text": "a cat", "items": ["cat"]}}.')
    return tuple(prompts)


def _read_line(line: str, id: str) -> Prompt:
    try:
        read = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ArgumentError('This is not JSON: write {"text": "a cat and a dog", "items": ["cat", "dog"]}.') from None
    fields = _fields(read, _PROMPT_FIELDS, "A prompt")
    text, items = fields.get("text"), fields.get("items")
    if not isinstance(text, str) or not text.strip():
        raise ArgumentError('A prompt needs "text".')
    if not isinstance(items, list) or not items:
        raise ArgumentError('A prompt needs "items", a list with at least one phrase of its text.')
    prompt = Prompt(id, text, tuple(_read_item(item) for item in items), _text(fields, "group") or "prompts")
    check_prompt(prompt)
    return prompt


def _read_item(read: Any) -> PromptItem:
    if isinstance(read, str):
        return PromptItem(read)
    fields = _fields(read, _ITEM_FIELDS, "An item")
    leaks, occurrence = fields.get("leaks"), fields.get("occurrence")
    leaks = [] if leaks is None else leaks
    if not isinstance(fields.get("phrase"), str):
        raise ArgumentError('An item needs "phrase", words of the text.')
    if not isinstance(leaks, list) or not all(isinstance(leak, str) and leak.strip() for leak in leaks):
        raise ArgumentError('"leaks" is a list of descriptions of what may be seen instead of the item.')
    if occurrence is not None and (not isinstance(occurrence, int) or isinstance(occurrence, bool)):
        raise ArgumentError('"occurrence" is a whole number that counts from 0.')
    return PromptItem(fields["phrase"], occurrence, _text(fields, "looks"), tuple(leaks), _text(fields, "alone"))


def _text(fields: Mapping[str, Any], name: str) -> str:
    """A field that holds text, "" where it is missing or null."""
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise ArgumentError(f'"{name}" is text, not {json.dumps(value)[:40]}.')
    return value or ""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; raises ArgumentError for a name that comes twice, of which JSON would keep the last."""
    names = [name for name, _ in pairs]
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ArgumentError(f'"{twice[0]}" is given twice: leave one out.')
    return dict(pairs)


def _fields(read: Any, known: Sequence[str], what: str) -> Mapping[str, Any]:
    if not isinstance(read, dict):
        raise ArgumentError(f"{what} is an object with {' and '.join(known[:2])}, not {json.dumps(read)[:40]}.")
    for name in read:
        if name not in known:
            raise ArgumentError(f"{what} has no field {name}.{did_you_mean(name, list(known))}")
    return read


def check_prompt(prompt: Prompt) -> None:
    """Raises ArgumentError for an item that is not in the text, is there several times, is named twice, or overlaps another."""
    spans: dict[tuple[int, int], PromptItem] = {}
    for item in prompt.items:
        start, end = prompt.characters(item)
        for (other_start, other_end), other in spans.items():
            if start < other_end and other_start < end:
                raise ArgumentError(
                    f"{item.phrase!r} and {other.phrase!r} share characters of {prompt.text!r}: name items that stand apart."
                )
        spans[start, end] = item
        find_phrase(item.alone_text, item.phrase)


# ---------------------------------------------------------------------- what each position of an encoded text stands for


@dataclass(frozen=True)
class Word:
    """A word or a punctuation mark of the text, the positions (over all blocks) of the tokens that spell it, and what it is."""

    text: str
    role: str
    positions: tuple[int, ...]


def item_positions(prompt: Prompt, tokens: Sequence[Token]) -> dict[str, tuple[int, ...]]:
    """Returns the positions, over all blocks, of each item's tokens."""
    return {item.id: spelling_apart(prompt.text, tokens, *prompt.characters(item)) for item in prompt.items}


def floor_positions(prompt: Prompt, tokens: Sequence[Token]) -> dict[str, tuple[int, ...]]:
    """Returns the positions of each role that names no item, those that the text has: FLOOR_ROLES."""
    found: dict[str, list[int]] = {role: [] for role in FLOOR_ROLES}
    for token, role in zip(tokens, roles(prompt, tokens), strict=True):
        if role in found:
            found[role].append(token.position)
    return {role: tuple(positions) for role, positions in found.items() if positions}


def roles(prompt: Prompt, tokens: Sequence[Token]) -> list[str]:
    """Returns the role of each position: one of FLOOR_ROLES or ITEM_ROLES."""
    items = [prompt.characters(item) for item in prompt.items]
    lasts = _last_tokens(items, tokens)
    return [_role(token, prompt.text, items, lasts) for token in tokens]


def _last_tokens(items: Sequence[tuple[int, int]], tokens: Sequence[Token]) -> set[int]:
    """The last position of each item in each block."""
    last: dict[tuple[str, int], int] = {}
    for number, (start, end) in enumerate(items):
        for token in tokens:
            if token.role == "text" and token.char_start < end and token.char_end > start:
                last[token.encoder, number] = token.position
    return set(last.values())


def _role(token: Token, text: str, items: Sequence[tuple[int, int]], lasts: set[int]) -> str:
    if token.role != "text":
        return token.role
    for start, end in items:
        if token.char_start < end and token.char_end > start:
            if token.position in lasts:
                return "last_token"
            blanks = [place for place, sign in enumerate(text[start:end]) if sign.isspace()]
            last_word = start + (blanks[-1] + 1 if blanks else 0)
            return "last_word" if token.char_end > last_word else "first_words"
    borders = (text[a:b] for a, b in _words(text, items) if a < token.char_end <= b)
    return "article" if next(borders, "").lower() in ARTICLES else "other_words"


def _words(text: str, items: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where words and punctuation marks stand; an item is cut out of a larger word: "Dog" and "'s", "blue" and "-eyed"."""
    cuts = {border for item in items for border in item}
    found: list[tuple[int, int]] = []
    kind = ""
    for place in range(len(text)):
        before, kind = kind, _kind(text, place, kind)
        if kind and (kind != before or place in cuts):
            found.append((place, place + 1))
        elif kind:
            found[-1] = (found[-1][0], place + 1)
    return found


def _kind(text: str, place: int, before: str) -> str:
    """word, mark, or nothing for a blank; an apostrophe or hyphen between letters belongs to the word."""
    sign, following = text[place], text[place + 1 : place + 2]
    if sign.isspace():
        return ""
    if sign.isalnum() or sign == "_":
        return "word"
    if attaches(sign):
        return before or "mark"
    return "word" if before == "word" and sign in "'’-" and following.isalnum() else "mark"


def words(prompt: Prompt, tokens: Sequence[Token]) -> list[Word]:
    """Returns the text's words in order, then beginning, end and padding, each with all its positions."""
    by_position: Mapping[int, str] = dict(zip((t.position for t in tokens), roles(prompt, tokens), strict=True))
    found = []
    for start, end in _words(prompt.text, [prompt.characters(item) for item in prompt.items]):
        positions = spelling(tokens, start, end)
        if positions:
            role = by_position[positions[-1]]
            found.append(Word(prompt.text[start:end], "item" if role in ITEM_ROLES else role, positions))
    for special in ("bos", "eos", "pad"):
        positions = tuple(token.position for token in tokens if token.role == special)
        if positions:
            found.append(Word(f"[{special}]", special, positions))
    return found
