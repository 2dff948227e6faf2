"""Classes of tokens by their text: numbers, operators, function words, and so on."""

import unicodedata

from interp.words import spells_letters

FUNCTION_WORDS = frozenset(
    "a an the this that these those of in on at to for from by with as and or but nor so if then than because while when where "
    "which who whom whose what how it its he she they them his her their we us our you your i me my is are was were be been being "
    "am do does did has have had will would can could may might shall should must not no there here all each every some any".split()
)
_OPERATORS = frozenset("+-*/=<>^×÷−%&|~")


def token_class(text: str) -> str:
    """Returns the class of a token's text: a token with a digit (½ and Ⅷ too) is a number, one of mathematical signs an operator."""
    bare = text.strip()
    if not bare:
        return "space"
    if any(_numeral(sign) for sign in bare):
        return "number"
    if all(sign in _OPERATORS or unicodedata.category(sign) == "Sm" for sign in bare):
        return "operator"
    if not spells_letters(bare):
        return "punctuation"
    return "function" if bare.lower() in FUNCTION_WORDS else "content"


def _numeral(sign: str) -> bool:
    """Whether a sign is a numeral; letters that also count, such as those of Chinese, are letters."""
    return sign.isnumeric() and not unicodedata.category(sign).startswith("Lo")
