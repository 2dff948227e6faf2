"""What each position of a conditioning stands for: beginning, end, padding, article, a piece of an item, or another word."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interp.models.token_spans import Token, spelling
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
    return {item.id: spelling(tokens, *prompt.characters(item)) for item in prompt.items}


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
            return "last_word" if token.char_end > start + text[start:end].rfind(" ") + 1 else "first_words"
    word = next(match.group() for match in _words(text) if match.start() < token.char_end <= match.end())
    return "article" if word.lower() in ARTICLES else "other_words"


def _words(text: str) -> list[re.Match[str]]:
    return list(re.finditer(r"\w+(?:['’-]\w+)*|[^\w\s]+", text))


def words(prompt: Prompt, tokens: Sequence[Token]) -> list[Word]:
    """Returns the text's words in order, then beginning, end and padding, each with all its positions."""
    by_position: Mapping[int, str] = dict(zip((t.position for t in tokens), roles(prompt, tokens), strict=True))
    found = []
    for match in _words(prompt.text):
        positions = spelling(tokens, *match.span())
        if positions:
            role = by_position[positions[-1]]
            found.append(Word(match.group(), "item" if role in ITEM_ROLES else role, positions))
    for special in ("bos", "eos", "pad"):
        positions = tuple(token.position for token in tokens if token.role == special)
        if positions:
            found.append(Word(f"[{special}]", special, positions))
    return found
