r"""Whether two answers in LaTeX are the same: spellings evened out, lists, intervals and relations taken apart, the rest by algebra.

Strict where a guess would be needed. Lists and sets go without order, tuples, intervals and matrices with it; (1, 2) is not [1, 2];
1,100 in a gold is a list of two, in a response to the gold 1100 a number; 101_2 is not 5; words are compared as words.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from probes.critical_tokens.algebra import proportional, same_expression
from probes.critical_tokens.numbers import UNIT_OF, Number, read_number, tidy

_SIGNS = {
    "×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "π": "\\pi ", "∞": "\\infty ", "≤": "\\leq ", "≥": "\\geq ", "≠": "\\neq ",
    "∪": "\\cup ", "±": "\\pm ", "²": "^{2}", "³": "^{3}", "θ": "\\theta ", "−": "-", "√": "\\sqrt ", "∈": "\\in ",
    "\\ge ": "\\geq ", "\\le ": "\\leq ", "\\leqslant": "\\leq", "\\geqslant": "\\geq", "\\lt": "<", "\\gt": ">", "\\ne ": "\\neq ",
    "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]", "\\infin ": "\\infty ", "\\bmatrix": "\\pmatrix",
    "bmatrix": "pmatrix", "\\varphi": "\\phi", "\\varnothing": "\\emptyset", "\\begin{array}": "\\begin{array}",
}  # fmt: skip
_GENERIC = re.compile(r"^(?:sq(?:uare)?|cubic)?\.? ?units?(?:\^?\{?[23]\}?)?$", re.IGNORECASE)
_RELATION = re.compile(r"\\leq|\\geq|<|>|(?<![\\<>!])=")
_CHOICE = re.compile(r"^\(?([A-Z])\)?$")


class Parts(NamedTuple):
    """A list, set, tuple or interval taken apart: its brackets and its members."""

    left: str
    right: str
    members: tuple[str, ...]


def same_latex(answer: str, gold: str) -> bool:
    """Whether an answer and the gold one are the same."""
    if not answer.strip() or not gold.strip():
        return False
    a, b = plain(answer), plain(gold)
    if not a or not b:
        return False
    if re.sub(r"\s", "", a) == re.sub(r"\s", "", b) and not _apart(a, b):
        return True
    thousands = re.fullmatch(r"-?\d{1,3}(?:,0\d{2}|,\d{3}(?=.*,0\d{2}))(?:,\d{3})*(?:\.\d+)?", b) is not None
    number = _number(b, thousands=thousands)
    if number is not None:
        other = _number(a, thousands=True)
        if other is not None:
            return other.same(number)
    if len(a) > 1000 or len(b) > 1000:
        return False
    return _same(a, b)


def _apart(a: str, b: str) -> bool:
    """Whether two texts that differ in spaces alone hold other numbers: 1 2 is not 12."""
    return re.findall(r"\d+", a) != re.findall(r"\d+", b)


def _number(text: str, *, thousands: bool) -> Number | None:
    r"""The number that a text is; letters that follow one without \text{} are units only if known and set apart, else factors."""
    bare = re.search(r"(?:[\d})]|\b)\s*([A-Za-z][A-Za-z.]*)", re.sub(r"\\[a-zA-Z]+\s*(?:\{[^{}]*\})?", " ", text))
    if bare and (len(bare[1]) < 2 or (bare[1].lower() not in UNIT_OF and not re.search(r"\s[A-Za-z]{3,}", text))):
        return None
    return read_number(re.sub(r"\\text\{([^{}]*)\}", r" \1", text), thousands=thousands)


# ---------------------------------------------------------------------- spelling


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
    text = re.sub(r"\\text\{(,|and|or|)\}", r" \1 ", text)
    text = re.sub(r"\\text\{(\(?[A-Za-z]\)?)\}", r"\1", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3})", "", text)
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])\.?", "", text)
    text = re.sub(r"(?<!\\)\\[,;:!]|(?<!\\)\\ |\\q?quad(?![a-zA-Z])|[~\s\u00a0\u2000-\u200b\u202f]", " ", text)
    for sign, spelling in _SIGNS.items():
        text = text.replace(sign, spelling)
    text = re.sub(r"\\(le|ge|ne)(?![a-zA-Z])", r"\\\1q", text)
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text).replace("**", "").replace(r"\%", "%")
    text = re.sub(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree", "°", text)
    text = re.sub(r"\\frac\s*([\da-zA-Z])\s*(?=[\da-zA-Z{\\])", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*([\da-zA-Z])", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*([\da-zA-Z])", r"\\sqrt{\1}", text)
    text = re.sub(r"([\^_])\s*([\da-zA-Z])", r"\1{\2}", text)
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"\s*([{}()\[\],^_+\-*/=<>|:&])\s*", r"\1", text)
    text = re.sub(r"(\\[a-zA-Z]+) (?=[^a-zA-Z])", r"\1", text)
    while re.fullmatch(r"\{.*\}", text) and _encloses(text):
        text = text[1:-1].strip()
    text = text.rstrip(".,;").strip()
    text = re.sub(r"(?<![\d}])\.(?=\d)", "0.", re.sub(r"^[a-zA-Z]\s?\\in(?![a-zA-Z])\s?", "", text))
    text = re.sub(r"(\d*)\.(\d*)\\overline\{(\d{1,20})\}", _repeating, text)
    return _without_generic_units(text)


def _repeating(decimal: re.Match[str]) -> str:
    r"""A repeating decimal such as 0.1\overline{6} as a fraction."""
    whole, once, again = decimal[1] or "0", decimal[2], decimal[3]
    nines = (10 ** len(again) - 1) * 10 ** len(once)
    return rf"\frac{{{int(whole + once + again) - int(whole + once)}}}{{{nines}}}"


def _encloses(text: str) -> bool:
    """Whether the first and the last character of a text are a pair of brackets."""
    depth = 0
    for at, sign in enumerate(text):
        depth += (sign in "{([") - (sign in "})]")
        if depth == 0 and at < len(text) - 1:
            return False
    return depth == 0


def _without_generic_units(text: str) -> str:
    found = re.fullmatch(r"(.*[\d})°a-z]) ?\\text\{([^{}]*)\}(\^\{[23]\})?", text)
    if found and found[1] and _GENERIC.match(found[2]):
        return found[1].strip()
    return text


# ---------------------------------------------------------------------- structure


def _same(a: str, b: str) -> bool:
    """Whether two evened-out texts are the same, whatever they are."""
    x, y = _number(a, thousands=False), _number(b, thousands=False)
    if x is not None and y is not None:
        return x.same(y)
    a, b = _expanded(a), _expanded(b)
    if "\\begin" in a or "\\begin" in b:
        return _same_matrices(a, b)
    first, second = _taken_apart(a), _taken_apart(b)
    if first is not None or second is not None:
        if first is None:
            first = _interval(a)
        if second is None:
            second = _interval(b)
        return first is not None and second is not None and _same_parts(first, second)
    if _RELATION.search(a) or _RELATION.search(b):
        return _same_relations(a, b)
    return _same_leaves(a, b)


def _expanded(text: str) -> str:
    """A list of the two values that ± stands for."""
    if text.count("\\pm") != 1 or "," in text:
        return text
    before, after = text.split("\\pm")
    left, _, right = before.rpartition("=")
    return (
        f"{left}{_}{right}+{after.strip()},{left}{_}{right}-{after.strip()}"
        if right
        else f"{left}{_}{after},{left}{_}-{after}"
    )


def _split(text: str, separator: str) -> list[str]:
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


def _taken_apart(text: str) -> Parts | None:
    """A union, set, tuple, interval or list; None for anything else."""
    union = _split(text, r"\\cup(?![a-zA-Z])")
    if len(union) > 1:
        return Parts("∪", "∪", tuple(union))
    members = [part for part in _split(text, r",|;|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])") if part]
    if len(members) > 1:
        return Parts("", "", tuple(members))
    for left, right in (("\\{", "\\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")")):
        if text.startswith(left) and text.endswith(right) and len(text) > len(left):
            inside = text[len(left) : -len(right)]
            members = _split(inside, ",")
            if left == "\\{" or (len(members) > 1 and all(members)):
                return Parts(left, right, tuple(members))
    return None


def _interval(text: str) -> Parts | None:
    """The interval that a relation such as 1 < x ≤ 5 or x ≥ 2 describes."""
    signs = _RELATION.findall(text)
    sides = [side.strip() for side in _RELATION.split(text)]
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


def _same_parts(a: Parts, b: Parts) -> bool:
    ordered = a.left in ("(", "[")
    brackets = (a.left, a.right) == (b.left, b.right)
    free = {a.left, b.left} <= {"", "\\{"} and len(a.members) > 1  # a list of solutions and the set of them
    if len(a.members) != len(b.members) or not (brackets or free):
        return False
    if ordered:
        return all(_same(x, y) for x, y in zip(a.members, b.members, strict=True))
    first, second = _unnamed(a.members), _unnamed(b.members)
    if any("=" in one for one in first) != any("=" in one for one in second):
        return False
    left = list(second)
    for member in first:
        found = next((other for other in left if _same(member, other)), None)
        if found is None:
            return False
        left.remove(found)
    return True


_ASSIGNED = re.compile(
    r"([A-Za-z]|\\(?!text|frac|sqrt)[a-z]+|\\angle ?[A-Z]+|\|?[A-Z]{2}\|?)(_\{\w+\})?(\([a-z](?:,[a-z])*\))?=([^=]+)"
)


def _unnamed(members: Sequence[str]) -> Sequence[str]:
    """Members such as x=1, x=2 without their name, where it is the same for all."""
    found = [_ASSIGNED.fullmatch(member) for member in members]
    names = {one and one[0][: one.start(4)] for one in found}
    first = found[0]
    if len(names) != 1 or None in names:
        if first and all(one is None for one in found[1:]):  # x=1,2
            return [first[4], *members[1:]]
        return members
    return [one[4] for one in found if one]


def _same_relations(a: str, b: str) -> bool:
    first, second = _ASSIGNED.fullmatch(a), _ASSIGNED.fullmatch(b)
    if first and second and a[: first.start(4)] == b[: second.start(4)]:
        return _same(first[4], second[4])
    if bool(_RELATION.search(a)) != bool(_RELATION.search(b)):
        chain = _RELATION.split(a)
        if (
            not _RELATION.search(b)
            and set(_RELATION.findall(a)) == {"="}
            and len(chain) > 2
            and not re.search(r"[A-Za-z]", chain[-1])
        ):
            return _same(chain[-1], b)
        bare = first or second
        other = b if first else a
        return bare is not None and _same(bare[4], other)
    x, y = _interval(a), _interval(b)
    if x is not None and y is not None:
        return _same_parts(x, y)
    signs = [_RELATION.findall(text) for text in (a, b)]
    if len(signs[0]) != 1 or len(signs[1]) != 1:
        return False
    sides = []
    for text, (sign,) in zip((a, b), signs, strict=True):
        left, right = _RELATION.split(text)
        sides.append(f"({left})-({right})" if sign in ("=", ">", "\\geq") else f"({right})-({left})")
    kinds = [{"<": ">", "\\leq": "\\geq"}.get(sign, sign) for (sign,) in signs]
    return kinds[0] == kinds[1] and proportional(*sides, positive=kinds[0] != "=")


def _same_matrices(a: str, b: str) -> bool:
    found = [re.fullmatch(r"\\begin\{(p|v|)matrix\}(.*)\\end\{\1matrix\}", text) for text in (a, b)]
    first, second = found
    if first is None or second is None or first[1] != second[1]:
        return False
    rows = [
        [row.split("&") for row in re.split(r"\\\\", re.sub(r"\\\\\s*$", "", one[2].strip()))]
        for one in (first, second)
    ]
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return False
    cells = [[cell.strip() for row in one for cell in row] for one in rows]
    return all(cell and other and _same(cell, other) for cell, other in zip(*cells, strict=True))


def _same_leaves(a: str, b: str) -> bool:
    """Two texts without structure: choices, words, expressions with their units."""
    if re.sub(r"\s", "", a) == re.sub(r"\s", "", b) and not _apart(a, b):
        return True
    first, second = _CHOICE.match(a), _CHOICE.match(b)
    if first and second and "(" in a + b:
        return first[1] == second[1]
    if _wordy(a) and _wordy(b):
        return _words(a) == _words(b) != ""
    (a, unit), (b, other) = _without_unit(a), _without_unit(b)
    if (unit and other and unit != other) or "\\text" in a + b or _wordy(a) or _wordy(b):
        return False
    if a.startswith("(") and a.endswith(")") and _encloses(a):
        a = a[1:-1]
    if b.startswith("(") and b.endswith(")") and _encloses(b):
        b = b[1:-1]
    return same_expression(a, b)


def _wordy(text: str) -> bool:
    return re.fullmatch(r"\\text\{.*\}|[A-Za-z][A-Za-z' -]{2,}", text) is not None


def _words(text: str) -> str:
    return re.sub(r"[^\w]+", " ", re.sub(r"\\text|[{}]", "", text)).lower().strip()


def _without_unit(text: str) -> tuple[str, str]:
    """An expression without the unit, percent or degree sign behind it, and that unit."""
    text = text.replace("\\$", "") if text.startswith(("\\$", "-\\$")) else text
    found = re.fullmatch(r"(.*[^\s(,=]) ?\\text\{([^{}]*)\}(\^\{[23]\})?", text)
    if found and not found[1].startswith("\\text"):
        word = tidy(found[2]).lower()
        return found[1].strip(), UNIT_OF.get(word, word) + (found[3] or "").strip("^{}")
    if text.endswith("°"):
        return text[:-1], "degree"
    return text, ""
