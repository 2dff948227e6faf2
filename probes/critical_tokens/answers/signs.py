r"""Signs of answers in one spelling: full width, mathematical letters, raised and lowered digits, Greek letters, operators.

A model that writes ∆ for \Delta, （1，2） for (1,2) or 10⁻³ for 10^{-3} has said the same. What has no LaTeX spelling stays as it is and
equals itself alone.
"""

import re
import unicodedata

from probes.critical_tokens.answers.places import without_apostrophes

_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069")
"""Marks of writing direction that change no order within a number; the overrides U+202D and U+202E do, and stay."""
_SLASHES = {"\u2044": "/", "\u2215": "/", "\u2236": ":"}
_DOUBLE_STRUCK = "\U0001d538", "\U0001d56b"


def even_signs(text: str) -> str:
    """Returns a text with digits of all scripts, full-width forms and mathematical letters as plain ones, without marks of direction.

    The apostrophes of 1'234 are left out.
    """
    return without_apostrophes("".join(map(_even, text)))


def _even(sign: str) -> str:
    if sign.isascii():
        return sign
    if sign in _DIRECTION:
        return ""
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    if "\uff01" <= sign <= "\uff5e":
        return chr(ord(sign) - 0xFEE0)
    if sign == "\u210e" or (
        "\U0001d400" <= sign <= "\U0001d7cb" and not _DOUBLE_STRUCK[0] <= sign <= _DOUBLE_STRUCK[1]
    ):
        return unicodedata.normalize("NFKC", sign)
    return _SLASHES.get(sign, sign)


_GREEK = {
    sign: rf"\{unicodedata.name(sign).rpartition(' ')[2].lower().replace('lamda', 'lambda')}"
    for sign in "αβγδεζηθικλμνξπρστυφχψω"
} | {
    sign: rf"\{unicodedata.name(sign).rpartition(' ')[2].capitalize().replace('Lamda', 'Lambda')}" for sign in "ΓΔΘΛΞΠΣΥΦΨΩ"
} | {"µ": r"\mu", "∆": r"\Delta", "∏": r"\Pi", "ϕ": r"\phi", "ϵ": r"\epsilon"}  # fmt: skip
_LETTERS = "".join(_GREEK)
# One letter or two: more are a word.
_SYMBOLS = re.compile(rf"(?<![\u0370-\u03ff])[{_LETTERS}]{{1,2}}(?![\u0370-\u03ff])")
_RAISED = re.compile("[⁺⁻⁰¹²³⁴-⁹ⁿⁱ]+")
_LOWERED = re.compile("[₊₋₀-₉]+")
_SIGNS = {
    "×": r"\times", "·": r"\cdot", "⋅": r"\cdot", "∙": r"\cdot", "∗": r"\cdot", "•": r"\cdot", "÷": r"\div", "∞": r"\infty",
    "≤": r"\leq", "≦": r"\leq", "⩽": r"\leq", "≥": r"\geq", "≧": r"\geq", "⩾": r"\geq", "≠": r"\neq", "≈": r"\approx",
    "∪": r"\cup", "∩": r"\cap", "∈": r"\in", "∅": r"\emptyset", "→": r"\to", "±": r"\pm", "∓": r"\mp",
    "⌊": r"\lfloor", "⌋": r"\rfloor", "⌈": r"\lceil", "⌉": r"\rceil", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
}  # fmt: skip
_PLAIN = str.maketrans({"−": "-", "∣": "|", "′": "'", "º": "°", "˚": "°"})
_COMMAS = str.maketrans("、،", ",,")
"""Commas of lists, which never part thousands."""


def latex_signs(text: str) -> str:
    """Returns an answer with its signs outside ASCII as LaTeX spells them, where it does; accents are composed."""
    text = even_signs(unicodedata.normalize("NFC", text))
    text = re.sub(r"(?<=\d)\u2032(?=\d)", r"\\prime ", text).translate(_PLAIN)  # minutes part no thousands
    text = re.sub(r"[、،](?=\s*\d{3}(?!\d))", ";", text).translate(_COMMAS)
    text = _RAISED.sub(lambda run: f"^{{{_digits(run[0])}}}", text)
    text = _LOWERED.sub(lambda run: f"_{{{_digits(run[0])}}}", text)
    text = _SYMBOLS.sub(lambda run: "".join(f"{_GREEK[sign]} " for sign in run[0]), text)
    return "".join(f"{_SIGNS[sign]} " if sign in _SIGNS else sign for sign in text)


def _digits(run: str) -> str:
    return unicodedata.normalize("NFKC", run).replace("\u2212", "-")
