r"""Whether two LaTeX expressions without commas, signs of relation or words are the same: read by math-verify, compared here.

math-verify's own comparison takes numbers as equal that agree to six decimals, and stops hostile inputs by signals, which work in
the main thread alone. Here decimals are exact fractions, both sides are evaluated to 50 digits at fixed points, and what could
grow out of bounds (towers of powers, sums, integrals) is not evaluated: such texts are the same only if they read the same.
Sums of plain numbers such as 10 + 5 * 2 are worked out exactly by `evaluate`.
"""

import ast
import logging
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

_LONGEST, _DEEPEST = 200, 8
_DIGITS = 50
_LARGEST_POWER = 2000
_COMMANDS = set(
    "frac sqrt pi cdot times div sin cos tan cot sec csc arcsin arccos arctan log ln alpha beta gamma delta epsilon theta lambda mu "
    "nu rho sigma tau phi omega kappa xi eta zeta binom infty".split()
)
_POINTS = (
    ("1.3712", "0.2917"),
    ("2.6153", "0.8831"),
    ("-0.7429", "1.1297"),
    ("0.5387", "-1.9071"),
    ("-2.2191", "-0.4133"),
)
"""Where expressions are compared: start and step of the values that the symbols take, in the order of their names."""
Point = tuple[str, str]


def same_expression(a: str, b: str) -> bool:
    """Whether two expressions are equal as functions of their symbols; False where one cannot be read."""
    if _cases_clash(a + b):
        return False
    first, second = read_expression(a), read_expression(b)
    if first is None or second is None or _names(first) != _names(second):
        return False
    return all(_close(x, y) for x, y in zip(values(first, _names(first)), values(second, _names(first)), strict=True))


def proportional(a: str, b: str, *, positive: bool) -> bool:
    """Whether two expressions are constant multiples of each other, by a positive factor if asked: for both sides of a relation."""
    if _cases_clash(a + b):
        return False
    first, second = read_expression(a), read_expression(b)
    if first is None or second is None or not _names(first) or _names(first) != _names(second):
        return False
    pairs = list(zip(values(first, _names(first)), values(second, _names(first)), strict=True))
    if any(x is None or y is None or abs(x) < 1e-30 or abs(y) < 1e-30 for x, y in pairs):
        return False
    ratios = [x / y for x, y in pairs]
    if positive and not (ratios[0].real > 0 and abs(ratios[0].imag) < 1e-30):
        return False
    return all(_close(ratio, ratios[0]) for ratio in ratios)


def _cases_clash(latex: str) -> bool:
    """Whether a letter stands there both large and small: the parser takes them for one symbol."""
    letters = set(re.sub(r"\\[a-zA-Z]+", "", latex))
    return any(letter.isupper() and letter.lower() in letters for letter in letters)


def _names(expression: Any) -> tuple[str, ...]:
    return tuple(sorted(symbol.name for symbol in expression.free_symbols))


@lru_cache(maxsize=512)
def read_expression(latex: str) -> Any:
    """Returns the sympy expression of a LaTeX text; None where it cannot be read or is beyond bounds."""
    if not _bounded(latex):
        return None
    from math_verify import LatexExtractionConfig, parse
    from math_verify.parser import NormalizationConfig
    from sympy import Expr, I, nan

    logging.getLogger("math_verify.parser").setLevel(
        logging.ERROR
    )  # it warns that it has no timeout: bounds stand in for it
    plain = NormalizationConfig(basic_latex=False, units=False, malformed_operators=False, nits=False, boxed="none")
    config = LatexExtractionConfig(normalization_config=plain)
    exact = re.sub(r"\d*\.\d+", _as_fraction, latex)
    exact = re.sub(
        r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\\(?:frac|sqrt)|\d)", r"\\cdot ", exact
    )  # 3(\frac12) is no mixed number
    found = parse(f"${exact}$", [config], fallback_mode="no_fallback", parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    if len(found) != 1 or not isinstance(found[0], Expr) or found[0].has(nan):
        return None
    return found[0].xreplace({symbol: I for symbol in found[0].free_symbols if str(symbol) == "i"})


def _as_fraction(decimal: "re.Match[str]") -> str:
    whole, _, part = decimal[0].partition(".")
    return rf"\frac{{{int(whole + part)}}}{{{10 ** len(part)}}}"


def _bounded(latex: str) -> bool:
    """Whether an expression is short, shallow, and free of powers, factorials and operators that could run away."""
    if len(latex) > _LONGEST or not set(re.findall(r"\\([a-zA-Z]+)", latex)) <= _COMMANDS:
        return False
    if re.search(
        r"\\[^a-zA-Z]|[^a-zA-Z\d_\s\\{}()\[\]+\-*/^.!|@]|\d\s+\d|\d_|[a-zA-Z]{3,}|[A-Z]{2,}",
        re.sub(r"\\[a-zA-Z]+", "@", latex),
    ):
        return False
    if re.search(
        r"!\s*[!)^]|!\s*\}.*\^|\^.*!\s*\}|[)}]\s*!|\d{4,}\s*!|\d{31,}|binom.*(?:\d{4,}|[\^!])|[\^!].*binom", latex
    ):
        return False
    depth = deepest = 0
    for sign in latex:
        depth += (sign in "{([") - (sign in "})]")
        deepest = max(deepest, depth)
    if depth or deepest > _DEEPEST:
        return False
    product = 1
    for power in _powers(latex):
        if re.search(r"[!^]", power):
            return False
        for number in re.findall(r"\d+", power):
            product *= max(1, int(number[:9]))
    return product <= _LARGEST_POWER


def _powers(latex: str) -> "Sequence[str]":
    found = []
    for sign in re.finditer(r"\^\s*(\{)?", latex):
        if not sign[1]:
            number = re.match(r"\\?\w+", latex[sign.end() :])
            found.append(number[0] if number else "")
            continue
        depth, end = 1, sign.end()
        while end < len(latex) and depth:
            depth += {"{": 1, "}": -1}.get(latex[end], 0)
            end += 1
        found.append(latex[sign.end() : end])
    return found


def values(expression: Any, names: "Sequence[str]") -> list[Any]:
    """Returns an expression's values at the fixed points, to 50 digits; None where it has none."""
    from sympy import Rational

    found = []
    symbols = {symbol.name: symbol for symbol in expression.free_symbols}
    for start, step in _POINTS if names else _POINTS[:1]:
        at = {symbols[name]: Rational(start) + index * Rational(step) for index, name in enumerate(names)}
        found.append(_value(expression.xreplace(at)))
    return found


def _value(expression: Any) -> Any:
    from mpmath import mp
    from sympy import N

    try:
        number = N(expression, _DIGITS)
        with mp.workdps(_DIGITS):
            return mp.mpc(
                *(mp.mpf(part._mpf_) if hasattr(part, "_mpf_") else mp.mpf(str(part)) for part in number.as_real_imag())
            )
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError, NotImplementedError):
        return None


def _close(x: Any, y: Any) -> bool:
    from mpmath import mp

    if x is None or y is None:
        return False
    with mp.workdps(_DIGITS):
        if not (mp.isfinite(x) and mp.isfinite(y)):
            return False
        return bool(abs(x - y) <= mp.mpf(10) ** -40 * max(1, abs(x), abs(y)) and (abs(x) > 1e-38 or abs(y) <= 1e-38))


# ---------------------------------------------------------------------- sums


_OPERATOR = {"\\times": "*", "×": "*", "\\cdot": "*", "·": "*", "÷": "/", "\\div": "/"}


def evaluate(text: str) -> Fraction | None:
    """Returns the value of a sum such as 10 + 5 * 2, 2**3 or 2^3, exactly; None for anything else. Towers of powers are not worked out."""
    for spelling, sign in _OPERATOR.items():
        text = text.replace(spelling, sign)
    text = re.sub(r"\s*\^\s*(?:\{\s*(\d{1,2})\s*\}|(\d{1,2})(?!\d))", r"**\1\2", text.replace("$", "").strip())
    if not re.fullmatch(r"[\d.,\s()+*/-]{1,100}", text) or re.search(
        r"\d\s+\d|//|\*\*(?!\d{1,2}(?![\d.*]))|\*\*.*\*\*|,(?!\d{3}(?!\d))|^[^+*/-]*$", text
    ):
        return None

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return Fraction(ast.get_source_segment(plain, node) or "")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -value(node.operand)
        if isinstance(node, ast.BinOp):
            a, b = value(node.left), value(node.right)
            for kind, work in (
                (ast.Pow, lambda: a ** int(b)), (ast.Add, lambda: a + b),
                (ast.Sub, lambda: a - b), (ast.Mult, lambda: a * b), (ast.Div, lambda: a / b)
            ):  # fmt: skip
                if isinstance(node.op, kind):
                    return work()
        raise ValueError(text)

    plain = text.replace(",", "")
    try:
        return value(ast.parse(plain, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None
