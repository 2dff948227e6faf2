r"""Reads LaTeX answers as text: one spelling for all, words and units.

One spelling: macros for size and space, short fractions and roots, units of no meaning; for signs outside ASCII see `signs`.
"""

import re

from probes.critical_tokens.answers.numbers import read_number, without_bold
from probes.critical_tokens.answers.signs import latex_signs

_SPELLINGS = {
    "{:}": ":",
    "\\ge ": "\\geq ", "\\le ": "\\leq ", "\\leqslant": "\\leq", "\\geqslant": "\\geq", "\\lt": "<", "\\gt": ">", "\\ne ": "\\neq ",
    "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]", "\\infin ": "\\infty ", "\\bmatrix": "\\pmatrix",
    "bmatrix": "pmatrix", "\\varphi": "\\phi", "\\varnothing": "\\emptyset", "\\mathbb{R}": "\\text{all real numbers}",
}  # fmt: skip
_BASES = {
    word: str(base)
    for base, word in enumerate(
        "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split(), 2
    )
}
_GENERIC = re.compile(r"^(?:sq(?:uare)?|cubic)?\.? ?units?(?:\^?\{?[23]\}?)?$", re.IGNORECASE)


def plain(latex: str) -> str:
    """Returns an answer with its spelling evened out: macros for size and space, short fractions and roots, units of no meaning."""
    text = latex_signs(latex).strip()
    for wrapped in (r"\$\$(.+)\$\$", r"\$(.+)\$", r"\\\((.+)\\\)", r"\\\[(.+)\\\]"):
        inside = re.fullmatch(wrapped, text, re.DOTALL)
        text = inside[1].strip() if inside and "$" not in re.sub(r"\\\$", "", inside[1]) else text
    text = re.sub(
        r"\\(?:mbox|mathrm|textbf|textit|textrm|textnormal|operatorname|mathbf|boldsymbol)\s*\{", r"\\text{", text
    )
    text = re.sub(r"\\text\s*\{\s*([^{}]*?)\s*\}", r"\\text{\1}", text)
    text = re.sub(
        r"(?<=_\{)(?:\\text\{([^{}]*)\}|([a-z]{3,}))(?=\})",
        lambda base: _BASES.get(base[1] or base[2], base[1] or base[2]),
        text,
    )
    text = re.sub(r"(?<=\d)\s*\\text\{to\}\s*(?=\d)", ":", text)
    text = re.sub(r"\\text\{(negative|minus)\}\s*(?=[\d.\\])", "-", text)
    text = re.sub(r"\\text\{((?:positive |plus )?infinity)\}", r"\\infty ", text, flags=re.IGNORECASE)
    text = re.sub(r"\\text\{([A-Z](?:, ?[A-Z])+)\}", r"\1", text)
    text = re.sub(r"\\text\{(,|:|and|or|)\}", r" \1 ", text)
    text = re.sub(r"\\text\{(\(?[A-Za-z]\)?)\}", r"\1", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3})", "", text)
    text = re.sub(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![a-zA-Z])\.?", "", text)
    text = re.sub(
        r"(?<!\\)\\[,;:!]|(?<!\\)\\ |\\q?quad(?![a-zA-Z])|~(?!\s*\d)|(?<!\d)(?<!\d\s)~|[\s\u00a0\u2000-\u200b\u202f]",
        " ",
        text,
    )
    text = re.sub(r"√\s*(\d+|[a-z])|(?<![a-zA-Z])(?:√|\\?sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1\2}", text).replace(
        "√", "\\sqrt "
    )
    text = re.sub(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi ", text)
    for sign, spelling in _SPELLINGS.items():
        text = text.replace(sign, spelling)
    text = re.sub(r"\\(le|ge|ne)(?![a-zA-Z])", r"\\\1q", text)
    text = re.sub(r"\\[dtc](frac|binom)(?![a-zA-Z])", r"\\\1", text).replace(r"\%", "%")
    text = re.sub(r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}|^([\d\s]+)\\over\s*(\d+)$", r"\\frac{\1\3}{\2\4}", text)
    text = re.sub(r"(?<=[\w)}])\s*\*\*\s*(?=[\w({-])", "^", without_bold(text))
    text = re.sub(r"\^\s*(-?\d+)", r"^{\1}", text)
    text = re.sub(r"^([\dA-F]+|\([\dA-F]+\))_(\d{2})$", r"\1_{\2}", text.strip())
    text = re.sub(
        r"\{?\s*(?:\{(\w{1,9})\}|(?<!\w)(\w{1,9}))\s*\\choose\s*(?:\{(\w+)\}|(\w+))\s*\}?", r"\\binom{\1\2}{\3\4}", text
    )
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
    text = re.sub(r"(\.\d+)(?:\.{2,}|…)$", r"\1\\ldots", text).rstrip(".,;").strip()  # 0.333... is not 0.333
    text = re.sub(r"(?<![\d}])\.(?=\d)", "0.", re.sub(r"^[a-zA-Z]\s?\\in(?![a-zA-Z])\s?", "", text))
    text = re.sub(r"(^|[,(\[=<>])\+\\infty", r"\1\\infty", text)
    text = re.sub(r"^\((\w+)\)_\{", r"\1_{", text)
    if text == "\\{\\}":
        return "\\emptyset"
    built = re.fullmatch(r"\\\{([a-z])(?:\\in ?\\text\{all real numbers\})? ?(?::|\||\\mid) ?(.*)\\\}", text)
    if built and built[1] in built[2] and re.search(r"[<>]|\\[lg]eq", built[2]):
        text = built[2].strip()
    if re.fullmatch(r"\\text\{(?:all )?(?:the )?real(?:s| numbers)\}|\(-\\infty,\\infty\)", text, re.IGNORECASE):
        return r"\text{all real numbers}"
    text = _array(re.sub(r"\\\\\[-?[\d.]+ ?(?:pt|ex|em|mm|cm)\]", r"\\\\", text))
    text = re.sub(r"(?<=\.)(\d*)\\(?:bar|dot)(?=\{\d+\})", r"\1\\overline", text)
    text = re.sub(r"(\d*)\.(\d*)\\overline\{(\d{1,20})\}", _repeating, text)
    text = re.sub(r"(\\text\{[^{}]*)\^\{([23])\}([^{}]*\})", r"\1^\2\3", text)
    return _without_generic_units(_OPEN_ENDS.sub(_round_brackets, text))


_OPEN_ENDS = re.compile(r"(?:^|(?<=\\cup))([\[\]])([^\[\](),]+,[^\[\](),]+)([\[\]])(?=\\cup|$)")


def _round_brackets(interval: re.Match[str]) -> str:
    """An interval whose open ends are brackets turned outwards, ]3,5], as (3,5]."""
    return f"{'(' if interval[1] == ']' else '['}{interval[2]}{')' if interval[3] == '[' else ']'}"


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
    if not all(letters) or not ((is_words(a) and is_words(b)) or (a + b).count("\\text") == 1):
        return None
    first, second = _words(a), _words(b)
    return len(first) == len(second) > 0 and all(_same_word(x, y) for x, y in zip(first, second, strict=True))


def _words(text: str) -> list[str]:
    """The words of a text without punctuation; + - # behind a word belong to it."""
    text = re.sub(r"^\s*(?:an?|[Tt]he|An) (?=[A-Za-z]{3})", "", re.sub(r"\\text|[{}\\]", "", text))
    return re.findall(
        r"[^\W_]+(?:[+#-]+(?![^\W_]))?|[+#](?=[^\W_])", re.sub(r"(?<=[a-z])-(?=[a-z])", " ", re.sub("['’]", "", text))
    )


def _same_word(a: str, b: str) -> bool:
    """Whether two words are the same; capitals matter in short ones: AB is not ab."""
    a, b = (word[:-1] if len(word) > 5 and word.endswith("s") else word for word in (a, b))  # no solutions: no solution
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


_FUNCTIONS = r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])"


def degrees_in_parts_of_pi(text: str) -> str:
    """Returns a text with degrees within trigonometric functions as parts of pi."""
    if not re.search(_FUNCTIONS, text):
        return text
    return re.sub(r"(\d+(?:\.\d+)?|(?<![\\a-zA-Z])[a-z]|\\(?:theta|alpha|beta))\s*°", r"(\\frac{\1\\pi}{180})", text)


def without_degrees(text: str) -> str:
    """Returns a text without degree signs, where no trigonometric function would change with them."""
    return text if re.search(_FUNCTIONS, text) else re.sub(r"°(?!\s*\d)", "", text)


def letters_as_product(text: str) -> str:
    """Returns a text with three letters in a row, abc, as the product of three."""
    return re.sub(
        r"(?<![\\a-zA-Z])(?!sin|cos|tan|log|exp|gcd|lcm|max|min|mod)([a-z])([a-z])([a-z])(?![a-zA-Z])",
        r"\1 \2 \3",
        text,
    )
