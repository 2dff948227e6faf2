"""What each position of a conditioning stands for: beginning, end, padding, article, a piece of an item, or another word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interp.models.token_spans import Token, spelling, spelling_apart
from interp.words import attaches
from probes.t2i_flow.prompts import Prompt

ARTICLES = frozenset({"a", "an", "the"})
FLOOR_ROLES = ("bos", "eos", "pad", "article", "other_words")
"""Positions that name no item; what they carry is the floor of every keep-only test."""
ITEM_ROLES = ("first_words", "last_word", "last_token")
"""Pieces of an item: of its words before the last; of its last word; the last piece of that."""


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
