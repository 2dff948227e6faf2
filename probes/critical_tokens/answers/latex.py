r"""Reads LaTeX answers as text: one spelling for all, then the parts of lists, sets, intervals and relations, and units.

One spelling: macros for size and space, short fractions and roots, signs outside ASCII, units of no meaning.
"""

import re
from typing import NamedTuple

from probes.critical_tokens.answers.numbers import read_number, without_bold

_SIGNS = {
    "×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "π": "\\pi ", "∞": "\\infty ", "≤": "\\leq ", "≥": "\\geq ", "≠": "\\neq ",
    "∪": "\\cup ", "±": "\\pm ", "²": "^{2}", "³": "^{3}", "θ": "\\theta ", "−": "-", "∈": "\\in ", "≈": "\\approx ",
    "{:}": ":", "\u2044": "/",
    "\\ge ": "\\geq ", "\\le ": "\\leq ", "\\leqslant": "\\leq", "\\geqslant": "\\geq", "\\lt": "<", "\\gt": ">", "\\ne ": "\\neq ",
    "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]", "\\infin ": "\\infty ", "\\bmatrix": "\\pmatrix",
    "bmatrix": "pmatrix", "\\varphi": "\\phi", "\\varnothing": "\\emptyset", "\\mathbb{R}": "\\text{all real numbers}",
}  # fmt: skip
_BASES = {
    word: str(base)
    for base, word in enumerate("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split(), 2)
}
_GENERIC = re.compile(r"^(?:sq(?:uare)?|cubic)?\.? ?units?(?:\^?\{?[23]\}?)?$", re.IGNORECASE)


def plain(latex: str) -> str:
    """Returns an answer with its spelling evened out: macros for size and space, short fractions and roots, units of no meaning."""
    text = latex.strip()
    for wrapped in (r"\$\$(.+)\$\$", r"\$(.+)\$", r"\\\((.+)\\\)", r"\\\[(.+)\\\]"):
        inside = re.fullmatch(wrapped, text, re.DOTALL)
        text = inside[1].strip() if inside and "$" not in re.sub(r"\\\$", "", inside[1]) else text
    text = re.sub(
        r"\\(?:mbox|mathrm|textbf|textit|textrm|textnormal|operatorname|mathbf|boldsymbol)\s*\{", r"\\text{", text
    )
    text = re.sub(r"\\text\s*\{\s*([^{}]*?)\s*\}", r"\\text{\1}", text)
    text = re.sub(r"(?<=_\{)\\text\{([^{}]*)\}(?=\})", lambda base: _BASES.get(base[1], base[1]), text)
    text = re.sub(r"(?<=\d)\s*\\text\{to\}\s*(?=\d)", ":", text)
    text = re.sub(r"\\text\{(negative|minus)\}\s*(?=[\d.\\])", "-", text)
    text = re.sub(r"\\text\{((?:positive |plus )?infinity)\}", r"\\infty ", text, flags=re.IGNORECASE)
    text = re.sub(r"\\text\{([A-Z](?:, ?[A-Z])+)\}", r"\1", text)
    text = re.sub(r"\\text\{(,|and|or|)\}", r" \1 ", text)
    text = re.sub(r"\\text\{(\(?[A-Za-z]\)?)\}", r"\1", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3})", "", text)
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])\.?", "", text)
    text = re.sub(r"(?<!\\)\\[,;:!]|(?<!\\)\\ |\\q?quad(?![a-zA-Z])|[~\s\u00a0\u2000-\u200b\u202f]", " ", text)
    text = re.sub(r"√\s*(\d+|[a-z])|(?<![a-zA-Z])(?:√|\\?sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1\2}", text).replace(
        "√", "\\sqrt "
    )
    text = re.sub(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi ", text)
    for sign, spelling in _SIGNS.items():
        text = text.replace(sign, spelling)
    text = re.sub(r"\\(le|ge|ne)(?![a-zA-Z])", r"\\\1q", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text).replace(r"\%", "%")
    text = re.sub(r"(?<=[\w)}])\s*\*\*\s*(?=[\w({-])", "^", without_bold(text))
    text = re.sub(r"\^\s*(-?\d+)", r"^{\1}", text)
    text = re.sub(r"^([\dA-F]+|\([\dA-F]+\))_(\d{2})$", r"\1_{\2}", text.strip())
    text = re.sub(r"\{?\s*(?:\{(\w+)\}|(\w+))\s*\\choose\s*(?:\{(\w+)\}|(\w+))\s*\}?", r"\\binom{\1\2}{\3\4}", text)
    text = re.sub(r"\\binom\s*(\w)\s*(\w)(?!\w)", r"\\binom{\1}{\2}", text)
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree", "°", text)
    text = re.sub(r"\\frac\s*([\da-zA-Z])\s*(?=[\da-zA-Z{\\])", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*([\da-zA-Z])", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*([\da-zA-Z])", r"\\sqrt{\1}", text)
    text = re.sub(r"([\^_])\s*([\da-zA-Z])", r"\1{\2}", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*([{}()\[\],^_+\-*/=<>|:&])\s*", r"\1", text)
    text = re.sub(r"(\\[a-zA-Z]+) (?=[^a-zA-Z])", r"\1", text)
    while re.fullmatch(r"\{.*\}", text) and encloses(text):
        text = text[1:-1].strip()
    text = text.rstrip(".,;").strip()
    text = re.sub(r"(?<![\d}])\.(?=\d)", "0.", re.sub(r"^[a-zA-Z]\s?\\in(?![a-zA-Z])\s?", "", text))
    text = re.sub(r"(^|[,(\[=<>])\+\\infty", r"\1\\infty", text)
    text = re.sub(r"^\((\w+)\)_\{", r"\1_{", text)
    if text == "\\{\\}":
        return "\\emptyset"
    built = re.fullmatch(r"\\\{([a-z])(?:\\in ?\\text\{all real numbers\})?(?::|\||\\mid ?)(.*)\\\}", text)
    if built and variable(built[2]) == built[1]:
        text = built[2].strip()
    if re.fullmatch(r"\\text\{(?:all )?(?:the )?real(?:s| numbers)\}|\(-\\infty,\\infty\)", text, re.IGNORECASE):
        return r"\text{all real numbers}"
    text = _array(re.sub(r"\\\\\[-?[\d.]+ ?(?:pt|ex|em|mm|cm)\]", r"\\\\", text))
    text = re.sub(r"(?<=\.)(\d*)\\(?:bar|dot)(?=\{\d+\})", r"\1\\overline", text)
    text = re.sub(r"(\d*)\.(\d*)\\overline\{(\d{1,20})\}", _repeating, text)
    text = re.sub(r"(\\text\{[^{}]*)\^\{([23])\}([^{}]*\})", r"\1^\2\3", text)
    return _without_generic_units(text)


def _repeating(decimal: re.Match[str]) -> str:
    r"""A repeating decimal such as 0.1\overline{6} as a fraction."""
    whole, once, again = decimal[1] or "0", decimal[2], decimal[3]
    nines = (10 ** len(again) - 1) * 10 ** len(once)
    return rf"\frac{{{int(whole + once + again) - int(whole + once)}}}{{{nines}}}"


def _array(text: str) -> str:
    """An array within brackets or bars as the matrix or determinant that it draws."""
    found = re.fullmatch(r"([(\[|])\\begin\{array\}\{[clr]+\}(.*)\\end\{array\}([)\]|])", text)
    if found is None or found[1] + found[3] not in ("()", "[]", "||") or "\\begin" in found[2]:
        return text
    kind = "v" if found[1] == "|" else "p"
    return rf"\begin{{{kind}matrix}}{found[2]}\end{{{kind}matrix}}"


def _without_generic_units(text: str) -> str:
    found = re.fullmatch(r"(.*[\d})°a-z]) ?\\text\{([^{}]*)\}(\^\{[23]\})?", text)
    if found and found[1] and _GENERIC.match(found[2]):
        return found[1].strip()
    return text


def divided(text: str, separator: str) -> list[str]:
    """Returns the parts of a text between separators that stand outside of all brackets."""
    parts, depth, last = [], 0, 0
    for found in re.finditer(rf"\\[{{}}]|[{{}}()\[\]]|{separator}", text):
        sign = found[0]
        if sign in ("\\{", "{", "(", "["):
            depth += 1
        elif sign in ("\\}", "}", ")", "]"):
            depth -= 1
        elif depth == 0:
            parts.append(text[last : found.start()].strip())
            last = found.end()
    return [*parts, text[last:].strip()]


def encloses(text: str) -> bool:
    """Returns whether the first and the last character of a text are a pair of brackets."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign in "{([") - (sign in "})]")
        if depth == 0 and at < len(text) - 1:
            return False
    return depth == 0


# ---------------------------------------------------------------------- parts


RELATION = re.compile(r"\\leq|\\geq|<|>|(?<![\\<>!])=")


class Parts(NamedTuple):
    """A list, set, tuple or interval taken apart: its brackets and its members."""

    left: str
    right: str
    members: tuple[str, ...]


def name_first(text: str) -> str:
    """Returns 5=x as x=5, any other text as it is."""
    found = re.fullmatch(r"([^=]+)=([a-zA-Z])", text)
    if found is None or RELATION.search(found[1]) or re.search(r"[a-zA-Z]", re.sub(r"\\[a-z]+", "", found[1])):
        return text
    return f"{found[2]}={found[1]}"


def joined_bounds(text: str) -> str:
    """Returns x>-1 and x<1 as the one interval that both leave, any other text as it is."""
    both = divided(text, r"(?<![a-zA-Z\\])and(?![a-zA-Z])")
    bounds = [interval(part) for part in both]
    if len(both) != 2 or None in bounds or variable(both[0]) != variable(both[1]):
        return text
    lower = next((one for one in bounds if one and one.members[1] == "\\infty"), None)
    upper = next((one for one in bounds if one and one.members[0] == "-\\infty"), None)
    return f"{lower.left}{lower.members[0]},{upper.members[1]}{upper.right}" if lower and upper else text


def expanded(text: str) -> str:
    """Returns the list of the two values that ± stands for, in each member of a list; any other text as it is."""
    members = divided(text, ",")
    if len(members) > 1 and any("\\pm" in member for member in members) and not text.startswith(("(", "[", "\\{")):
        return ",".join(expanded(member) for member in members)
    if text.count("\\pm") != 1 or "," in text:
        return text
    before, after = text.split("\\pm")
    left, _, right = before.rpartition("=")
    return (
        f"{left}{_}{right}+{after.strip()},{left}{_}{right}-{after.strip()}"
        if right
        else f"{left}{_}{after},{left}{_}-{after}"
    )


def taken_apart(text: str) -> Parts | None:
    """Returns a union, set, tuple, interval or list taken apart; None for anything else."""
    union = divided(text, r"\\cup(?![a-zA-Z])")
    if len(union) > 1:
        return Parts("∪", "∪", tuple(union))
    either = divided(text, r"(?<![a-zA-Z\\])or(?![a-zA-Z])")
    if len(either) > 1 and all(interval(part) for part in either) and len({variable(part) for part in either}) == 1:
        return Parts("∪", "∪", tuple(either))
    members = [part for part in divided(text, r",|;|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])") if part]
    if len(members) > 1:
        return Parts("", "", tuple(members))
    for left, right in (("\\{", "\\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")")):
        if text.startswith(left) and text.endswith(right) and len(text) > len(left):
            inside = text[len(left) : -len(right)]
            members = divided(inside, ",")
            if left == "\\{" or (len(members) > 1 and all(members)):
                return Parts(left, right, tuple(members))
    return None


def interval(text: str) -> Parts | None:
    """Returns the interval that a relation such as 1 < x ≤ 5 or x ≥ 2 describes; None for anything else."""
    signs = RELATION.findall(text)
    sides = [side.strip() for side in RELATION.split(text)]
    is_variable = [re.fullmatch(r"[a-zA-Z]|\\theta", side) is not None for side in sides]
    if "=" in signs or not signs:
        return None
    if len(sides) == 2 and sum(is_variable) == 1:
        larger = (signs[0] in (">", "\\geq")) == is_variable[0]
        other = sides[is_variable.index(False)]
        if re.search(r"[a-z]", re.sub(r"\\[a-z]+", "", other)):
            return None
        closed = signs[0] in ("\\leq", "\\geq")
        return (
            Parts("[" if closed else "(", ")", (other, "\\infty"))
            if larger
            else Parts("(", "]" if closed else ")", ("-\\infty", other))
        )
    if len(sides) == 3 and is_variable == [False, True, False]:
        if set(signs) <= {">", "\\geq"}:
            sides, signs = sides[::-1], [{">": "<", "\\geq": "\\leq"}[sign] for sign in signs[::-1]]
        if set(signs) <= {"<", "\\leq"}:
            left, right = ("[" if signs[0] == "\\leq" else "("), ("]" if signs[1] == "\\leq" else ")")
            return Parts(left, right, (sides[0], sides[2]))
    return None


def variable(relation: str) -> str | None:
    """Returns the name that a relation such as 1 < x ≤ 5 bounds; None where there is none."""
    sides = [side.strip() for side in RELATION.split(relation)]
    return next((side for side in sides if re.fullmatch(r"[a-zA-Z]|\\theta", side)), None)


# ---------------------------------------------------------------------- words and units


_SHORT = set("no up on in to of by at so am pm".split())


def is_words(text: str) -> bool:
    r"""Returns whether a text is words: one \text{…}, or letters alone with a word of four or more."""
    if re.fullmatch(r"\\text\{[^{}]*[A-Za-z][^{}]*\}", text):
        return True
    return re.fullmatch(r"[A-Za-z][A-Za-z' ]+", text) is not None and re.search(r"[A-Za-z]{4}", text) is not None


def same_words(a: str, b: str) -> bool | None:
    r"""Whether two texts are the same words; None unless both are, or one is \text{…} and the other letters."""
    letters = [is_words(text) or re.fullmatch(r"[A-Za-z][A-Za-z' -]*[+#-]?", text) is not None for text in (a, b)]
    if not all(letters) or not (is_words(a) and is_words(b) or (a + b).count("\\text") == 1):
        return None
    first, second = _words(a), _words(b)
    return len(first) == len(second) > 0 and all(_same_word(x, y) for x, y in zip(first, second, strict=True))


def _words(text: str) -> list[str]:
    """The words of a text without punctuation; + - # behind a word belong to it."""
    text = re.sub(r"\\text|[{}\\]", "", text)
    return re.findall(r"[^\W_]+(?:[+#-]+(?![^\W_]))?|[+#](?=[^\W_])", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", re.sub("['’]", "", text)))


def _same_word(a: str, b: str) -> bool:
    """Whether two words are the same; capitals matter in short ones: AB is not ab."""
    if a == b or a.lower() != b.lower():
        return a == b
    if len(a) == 4:
        return a.isupper() == b.isupper()
    return len(a) > 4 or a.lower() in _SHORT or (len(a) == 3 and a[1:].islower() and b[1:].islower())


def words_and_numbers(text: str) -> str:
    r"""Returns the words of a text that is words with whole numbers among them, such as \text{March }5; "" for others."""
    if re.fullmatch(r"(?:\\text\{[A-Za-z\d ]*\}|[A-Za-z\d ])+", text) is None or not re.search(r"\d", text):
        return ""
    words = " ".join(re.findall(r"[a-z]+|\d+", text.replace("\\text", "").lower()))
    return words if re.search(r"[a-z]{3}", words) else ""


def without_unit(text: str) -> tuple[str, str]:
    """Returns an expression without the unit, percent or degree sign behind it, and that unit."""
    text = text.replace("\\$", "") if text.startswith(("\\$", "-\\$")) else text
    found = re.fullmatch(r"(.*[^\s(,=]) ?\\text\{([^{}]*)\}(\^\{[23]\})?", text)
    if found and not found[1].startswith("\\text"):
        unit = read_number(f"2 {found[2]}{found[3] or ''}")
        if unit is not None and unit.value == 2 and not unit.percent:
            return found[1].strip(), unit.unit
    if text.endswith("°"):
        return text[:-1], "degree"
    return text, ""
