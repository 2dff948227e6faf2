"""Kinds of tokens by their text: delimiters, digits, English function words, and the rest (content)."""

import unicodedata
from collections.abc import Sequence

from interp.words import spells_letters

FUNCTION_WORDS = frozenset(
    """a about above after again against all also am an and any are as at be because been before being below between both but
    by can could did do does doing down during each few for from further had has have having he her here hers him his how i if
    in into is it its just me more most my no nor not of off on once only or other our out over own said same she should so
    some such than that the their them then there these they this those through to too under until up very was we were what
    when where which while who whom why will with would you your""".split()
)
CLASSES = ("delimiter", "digits", "function", "content")


def token_classes(tokens: Sequence[str]) -> list[str]:
    """Returns the class of each token's text: digits, function word, other letters (content), or neither (delimiter).

    Marks of letters and parts of a character's bytes (U+FFFD) are content, as the letters that they are of.
    """
    return [_class_of(token.strip().lower()) for token in tokens]


def _class_of(token: str) -> str:
    if any(unicodedata.category(sign)[0] == "N" for sign in token):
        return "digits"
    if not spells_letters(token):
        return "delimiter"
    return "function" if token in FUNCTION_WORDS else "content"
