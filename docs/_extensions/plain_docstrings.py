"""Reads the package's docstrings, which are plain text, as reStructuredText: indented lines are code."""

from typing import Any

from sphinx.application import Sphinx


def mark_code(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Turns every paragraph with an indented line into a literal block."""
    marked: list[str] = []
    for paragraph in _paragraphs(lines):
        is_code = any(line.startswith(" ") for line in paragraph)
        marked += ["::", "", *(f"    {line}" for line in paragraph)] if is_code else paragraph
        marked.append("")
    lines[:] = marked


def _paragraphs(lines: list[str]) -> list[list[str]]:
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return [paragraph for paragraph in paragraphs if paragraph]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the reader."""
    app.connect("autodoc-process-docstring", mark_code)
    return {"parallel_read_safe": True}
