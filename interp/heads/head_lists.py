"""Lists of heads, best first: QRHead's [["layer-head", score], …], its attn_head_set, and plain lists of names."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from interp.errors import ArgumentError
from interp.heads.score_files import check_once, head_of, is_number

_HEAD_SET = re.compile(r"""^\s*attn_head_set\s*:\s*["']?([^"'#\n]*)""", re.MULTILINE)
_NAMES = re.compile(r"\s*\d{1,4}-\d{1,4}(?:[\s,]+\d{1,4}-\d{1,4})*[\s,]*")


def scored_list(path: Path, content: Sequence[object]) -> pd.DataFrame:
    """Returns layer, head and score of [["layer-head", score], …], in layer-major order.

    Raises ArgumentError for an entry of another form.
    """
    rows = []
    for entry in content:
        head = head_of(entry[0]) if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) else None
        if head is None or not isinstance(entry, list) or not is_number(entry[1]):
            raise ArgumentError(f'{path}: {_shortened(entry)} must be ["layer-head", score].')
        rows.append((*head, float(entry[1])))
    check_once(path, [row[:2] for row in rows])
    return pd.DataFrame(sorted(rows), columns=["layer", "head", "score"])


def named_list(path: Path, names: Sequence[object]) -> pd.DataFrame:
    """Returns layer, head and score of a list of names, best first: a score is how many heads come no earlier.

    Raises ArgumentError for an entry that is no "layer-head".
    """
    heads = []
    for name in names:
        head = head_of(name) if isinstance(name, str) else None
        if head is None:
            raise ArgumentError(f'{path}: {_shortened(name)} must be "layer-head".')
        heads.append(head)
    check_once(path, heads)
    rows = [(*head, float(len(heads) - place)) for place, head in enumerate(heads)]
    return pd.DataFrame(sorted(rows), columns=["layer", "head", "score"])


def names_in_text(path: Path, text: str) -> list[str] | None:
    """Returns the heads that a text names, in its order: a configuration of QRHead, or names alone. None for other texts.

    Raises ArgumentError for a configuration that names no heads.
    """
    setting = _HEAD_SET.search(text)
    names = setting[1] if setting else text
    if _NAMES.fullmatch(names):
        return re.findall(r"\d+-\d+", names)
    if setting is None:
        return None
    raise ArgumentError(
        f'{path}: attn_head_set is "{names.strip()}" and names no heads: "layer-head,layer-head,…" is needed.'
    )


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
