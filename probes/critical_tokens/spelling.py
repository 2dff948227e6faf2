r"""One spelling of LaTeX: macros for size and space, short fractions and roots, signs outside ASCII, units of no meaning."""

import re

_SIGNS = {
    "×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "π": "\\pi ", "∞": "\\infty ", "≤": "\\leq ", "≥": "\\geq ", "≠": "\\neq ",
    "∪": "\\cup ", "±": "\\pm ", "²": "^{2}", "³": "^{3}", "θ": "\\theta ", "−": "-", "∈": "\\in ", "≈": "\\approx ",
    "{:}": ":", "\u2044": "/",
    "\\ge ": "\\geq ", "\\le ": "\\leq ", "\\leqslant": "\\leq", "\\geqslant": "\\geq", "\\lt": "<", "\\gt": ">", "\\ne ": "\\neq ",
    "\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]", "\\infin ": "\\infty ", "\\bmatrix": "\\pmatrix",
    "bmatrix": "pmatrix", "\\varphi": "\\phi", "\\varnothing": "\\emptyset", "\\mathbb{R}": "\\text{all real numbers}",
}  # fmt: skip
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
    text = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", text).replace("**", "").replace(r"\%", "%")
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
    if re.fullmatch(r"\\text\{(?:all )?(?:the )?real(?:s| numbers)\}|\(-\\infty,\\infty\)", text, re.IGNORECASE):
        return r"\text{all real numbers}"
    text = _array(re.sub(r"\\\\\[-?[\d.]+ ?(?:pt|ex|em|mm|cm)\]", r"\\\\", text))
    text = re.sub(r"(?<=\.)(\d*)\\(?:bar|dot)(?=\{\d+\})", r"\1\\overline", text)
    text = re.sub(r"(\d*)\.(\d*)\\overline\{(\d{1,20})\}", _repeating, text)
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
