"""Other tools' files that rank heads: recognised by content, with the kind of their scores."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import ArgumentError
from interp.heads.formats import (
    check_once,
    head_means,
    head_of,
    is_number,
    kind_of,
    model_named_beside,
    numbers_in_text,
    read_gates,
    sample_scores,
)
from interp.heads.kinds import KINDS, PATTERN_FILE, pattern_in

LARGEST_BYTES = 500_000_000
KNOWN = (
    '{"layer-head": [score, …]}, the same in {"meta": …, "scores": …}, [["layer-head", score], …], ["layer-head", …], attn_head_set: '
    f"…, and DuoAttention's {PATTERN_FILE}"
)
_HEAD_SET = re.compile(r"""^\s*attn_head_set\s*:\s*["']?([^"'#\n]*)""", re.MULTILINE)
_NAMES = re.compile(r"\s*\d{1,4}-\d{1,4}(?:[\s,]+\d{1,4}-\d{1,4})*[\s,]*")


@dataclass(frozen=True)
class HeadFile:
    """The heads and scores in a file."""

    path: Path
    format: str
    """Whose format it is."""
    kind: str
    """What the scores are: a key of interp.heads.kinds.KINDS."""
    scores: pd.DataFrame
    """layer, head, score, activation_frequency (copy scores only) and n_samples, in layer-major order."""
    per_kv_head: bool = False
    """Whether `head` counts key-value heads."""
    model: str | None = None
    """The model that the file names."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """num_layers, num_heads and num_kv_heads, as far as the file says."""

    @property
    def label(self) -> str:
        """A description of the file, in words."""
        return f"{self.format}: {KINDS[self.kind].text}"


def read_heads(place: Path) -> HeadFile:
    """Returns the heads and scores in a file, or in the folder of a DuoAttention pattern.

    Raises ArgumentError for a file in no known format, or with something wrong in it.
    """
    path = pattern_in(place)
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ArgumentError(f"{path} is larger than {LARGEST_BYTES:,} bytes: a file of head scores is not.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path} cannot be read ({error}).") from error
    if text.lstrip().startswith(("{", "[")) or path.suffix == ".json":
        return _from_json(path, read_json(path))
    names = names_in_text(path, text)
    if names is not None:
        return HeadFile(path, "list of heads", "order", _filled(named_list(path, names)))
    cells = numbers_in_text(text)
    if cells is not None:
        return HeadFile(
            path, "DuoAttention pattern", "gate", _filled(read_gates(path, cells)), True, model_named_beside(path)
        )
    raise ArgumentError(f"{path} names no heads in a format that is known here: {KNOWN}.")


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file.

    Raises ArgumentError for what is no JSON, and for a key that comes twice, of which only the last would be seen.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read as JSON ({error}).") from error


def _from_json(path: Path, content: Any) -> HeadFile:
    if isinstance(content, list) and content:
        return _from_list(path, content)
    meta: Mapping[str, Any] = {}
    if isinstance(content, dict) and "scores" in content:
        meta = content["meta"] if isinstance(content.get("meta"), dict) else {}
        content = content["scores"]
        if isinstance(content, list) and content:
            return _from_list(path, content, meta)
    elif isinstance(content, dict) and isinstance(content.get("attn_head_set"), str):
        names = names_in_text(path, f"attn_head_set: {content['attn_head_set']}")
        return HeadFile(path, "QRHead configuration", "order", _filled(named_list(path, names or [])))
    samples = sample_scores(path, content)
    kind = kind_of(path, samples, meta)
    scores = head_means(samples)
    if not KINDS[kind].copies:
        scores = scores.assign(activation_frequency=float("nan"))
    format = "scores by head, with their method" if meta else "scores by head"
    return HeadFile(path, format, kind, scores, _per_kv_head(meta), _named_model(meta), _counts(meta))


def _from_list(path: Path, content: list[Any], meta: Mapping[str, Any] | None = None) -> HeadFile:
    meta = meta or {}
    about = (_per_kv_head(meta), _named_model(meta), _counts(meta))
    if all(isinstance(entry, str) for entry in content):
        return HeadFile(path, "list of heads", "order", _filled(named_list(path, content)), *about)
    scores = scored_list(path, content)
    if "method" not in meta:
        return HeadFile(path, "QRHead list", "qrhead", _filled(scores), *about)
    kind = kind_of(path, scores.assign(sample=0), meta)
    return HeadFile(path, "list of scores, with their method", kind, _filled(scores), *about)


def _filled(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.assign(activation_frequency=float("nan"), n_samples=0)


def _per_kv_head(meta: Mapping[str, Any]) -> bool:
    return "num_kv_heads" in meta and "aggregation" in meta  # LOCOS' means over key-value heads


def _counts(meta: Mapping[str, Any]) -> dict[str, int]:
    return {name: meta[name] for name in ("num_layers", "num_heads", "num_kv_heads") if type(meta.get(name)) is int}


def _named_model(meta: Mapping[str, Any] | None) -> str | None:
    name = (meta or {}).get("model")
    return name if isinstance(name, str) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'"{twice}" comes twice')
    return content


# ---------------------------------------------------------------------- lists of heads, best first: QRHead's and plain ones


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
    """Returns the heads that a text names, in order: a QRHead configuration, or names alone. None for other texts.

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
