"""DuoAttention's attention patterns: full_attention_heads.tsv, one gate α per layer (line) and key-value head (column)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from interp.errors import ArgumentError

SLACK = 0.05
"""Gates are clamped at every step of their training but the last; the published ones reach −0.0003."""
SINK_TOKENS, RECENT_TOKENS = 128, 256
"""What streaming heads keep: the first and the last tokens, as in the published patterns' config.json."""


def numbers_in_text(text: str) -> list[list[str]] | None:
    """Returns the cells of a text whose first line is numbers between tabs, or None for another text."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not all(_is_float(cell) for cell in lines[0].split("\t")):
        return None
    return [line.split("\t") for line in lines]


def read_gates(path: Path, cells: list[list[str]]) -> pd.DataFrame:
    """Returns layer, head (a key-value head) and score of a pattern; gates are clipped to 0 to 1, as DuoAttention's loader does.

    Raises ArgumentError for what is no matrix of gates.
    """
    if len({len(line) for line in cells}) > 1:
        widths = [len(line) for line in cells]
        raise ArgumentError(
            f"{path}: its lines have {min(widths)} to {max(widths)} columns: one per key-value head is needed."
        )
    for layer, line in enumerate(cells):
        for head, cell in enumerate(line):
            if not _is_float(cell) or not -SLACK <= float(cell) <= 1 + SLACK:
                raise ArgumentError(
                    f"{path}: line {layer + 1}, column {head + 1} holds {cell.strip()}: a gate α lies between 0 and 1."
                )
    gates = np.clip(np.array([[float(cell) for cell in line] for line in cells]), 0, 1)
    layer, head = np.indices(gates.shape)
    return pd.DataFrame({"layer": layer.ravel(), "head": head.ravel(), "score": gates.ravel()})


def model_named_beside(path: Path) -> str | None:
    """Returns the model that the config.json beside a pattern names, if there is one."""
    try:
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    name = config.get("model_name") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def write_gates(kv_head_scores: pd.DataFrame) -> str:
    """Returns the text of a pattern: the score of every key-value head (layer, kv_head, score), clipped to 0 to 1.

    Numbers are written in full, so heads keep their order.
    """
    grid = kv_head_scores.pivot(index="layer", columns="kv_head", values="score").sort_index().sort_index(axis=1)
    return "".join("\t".join(repr(float(gate)) for gate in line) + "\n" for line in np.clip(grid.to_numpy(), 0, 1))


def write_config(model: str, scores: str) -> str:
    """Returns the text of the config.json beside a pattern, which names the tokens that streaming heads keep."""
    values = {"model_name": model, "sink_size": SINK_TOKENS, "recent_size": RECENT_TOKENS, "scores": scores}
    return json.dumps(values, indent=2)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
