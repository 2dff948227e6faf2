"""Formulas as MathML, which browsers draw by themselves: no script, no network. docutils does the translation."""

from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

LOG = logging.getLogger(__name__)


def inline(translator: Any, node: nodes.Element) -> None:
    """Writes a formula in a line."""
    translator.body.append(_translated(node, as_block=False))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.Element) -> None:
    """Writes a formula on a line of its own."""
    formula = _translated(node, as_block=True)
    translator.body.append(f'<div class="math">{formula}</div>')
    raise nodes.SkipNode


def _translated(node: nodes.Element, *, as_block: bool) -> str:
    try:
        return str(tex2mathml(" ".join(node.astext().split()), as_block=as_block))
    except MathError as error:
        LOG.warning("formula not understood (%s): %s", error, node.astext(), location=node)
        return f"<code>{node.astext()}</code>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the renderer; conf.py chooses it."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
