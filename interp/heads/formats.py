"""Head scores in other tools' formats: readers, and writers for each.

DuoAttention's full_attention_heads.tsv has one gate α per layer (line) and key-value head (column). In JSON, {"layer-head":
[one score per sample]} alone is the format of Wu et al.'s repository, of HeadKV's importance files and of LOCOS' behavioural
detector; in {"meta": …, "scores": …} it is that of LOCOS' other detectors. A file alone does not say what its scores are, so
it is told from them.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import ArgumentError
from interp.heads.kinds import KINDS, METHODS, NAMING, PATTERN_FILE
from interp.statistics import Array

HEAD_NAME = re.compile(r"(\d{1,4})-(\d{1,4})")
LONGEST_ANSWER = 200
"""Copy scores are multiples of one over an answer's tokens; longer answers are not looked for."""
SAMPLES_LOOKED_AT = 64
HUNDREDTHS = 100


def head_of(name: str) -> tuple[int, int] | None:
    """Returns layer and head of a name such as "16-19", or None for other text."""
    match = HEAD_NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def is_number(value: object) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def sample_scores(path: Path, content: object) -> pd.DataFrame:
    """Returns one row per head and sample: layer, head, sample, score, heads in layer-major order.

    Raises ArgumentError for content of another form, with what is wrong.
    """
    if not isinstance(content, dict) or not content:
        raise ArgumentError(f'{path} holds no head scores: {{"layer-head": [score, …]}} is needed.')
    frames = []
    for name, values in content.items():
        head = head_of(name)
        if head is None or not isinstance(values, list) or not all(is_number(value) for value in values):
            raise ArgumentError(f'{path}: "{name}" must be "layer-head" with a list of numbers.')
        frames.append((*head, np.asarray(values, dtype=float)))
    check_once(path, [frame[:2] for frame in frames])
    lengths = {len(values) for _, _, values in frames}
    if lengths == {0}:
        raise ArgumentError(f"{path} has heads but no samples: no answer passed the filter of the run that wrote it.")
    if len(lengths) > 1:
        raise ArgumentError(f"{path}: heads have different numbers of samples ({min(lengths)} to {max(lengths)}).")
    frames.sort(key=lambda frame: frame[:2])
    n_samples = lengths.pop()
    return pd.DataFrame(
        {
            "layer": np.repeat([frame[0] for frame in frames], n_samples),
            "head": np.repeat([frame[1] for frame in frames], n_samples),
            "sample": np.tile(np.arange(n_samples), len(frames)),
            "score": np.concatenate([frame[2] for frame in frames]),
        }
    )


def check_once(path: Path, heads: list[tuple[int, int]]) -> None:
    """Raises ArgumentError if a head occurs twice."""
    seen: set[tuple[int, int]] = set()
    for head in heads:
        if head in seen:
            raise ArgumentError(f"{path} has the head {head[0]}-{head[1]} twice.")
        seen.add(head)


def head_means(samples: pd.DataFrame) -> pd.DataFrame:
    """Returns per head the mean score, the share of samples with a score above 0, and their number."""
    grouped = samples.assign(active=samples["score"] > 0).groupby(["layer", "head"], as_index=False)
    return grouped.agg(score=("score", "mean"), activation_frequency=("active", "mean"), n_samples=("score", "size"))


def kind_of(path: Path, samples: pd.DataFrame, meta: Mapping[str, Any]) -> str:
    """Returns the kind of score: by the method that the file names, otherwise inferred from the scores.

    Below 0 there are no copies and no attention: such scores are contributions. Copy scores are whole numbers of tokens over
    the answer's; attention masses are not. One score per head that is neither may be a mean of either: "unnamed".
    Raises ArgumentError where a named method cannot have such scores.
    """
    method = meta.get("method")
    if isinstance(method, str) and method.lower() in METHODS:
        kind = METHODS[method.lower()]
        if KINDS[kind].copies and float(samples["score"].min()) < 0:
            raise ArgumentError(f"{path} names the method {method}, whose scores are copies, and has scores below 0.")
        return kind
    grid = samples.pivot(index=["layer", "head"], columns="sample", values="score").to_numpy()
    if meta and len(grid) > 0 and bool((grid == grid.flat[0]).all()):
        return "members"  # LOCOS' sets that detectors have in common: every score is 1
    if float(grid.min()) < 0:
        return "signed"
    n_tokens = _whole_tokens(grid)
    if n_tokens == HUNDREDTHS and grid.shape[1] > 1 and float(grid.max()) < 1:
        return "unnamed"  # rounded to two decimals, whatever they are
    if n_tokens:
        return "set" if path.name == "head_score_set.json" else "count"
    return "attention_mass" if grid.shape[1] > 1 and float(grid.max()) <= 1 else "unnamed"


def _whole_tokens(grid: Array) -> int | None:
    """The most tokens that a sample's scores, [head, sample], are whole numbers over; None where some are of no number."""
    left = grid[:, np.linspace(0, grid.shape[1] - 1, min(grid.shape[1], SAMPLES_LOOKED_AT)).astype(int)]
    for n_tokens in range(1, LONGEST_ANSWER + 1):
        tokens = left * n_tokens
        whole = np.abs(tokens - tokens.round()) <= 1e-6
        left = left[:, ~(whole & ((left == 0) | (tokens >= 0.5))).all(axis=0)]
        if not left.shape[1]:
            return n_tokens
    return None


def how_to_name(kind: str) -> str:
    """Returns how a file can state the kind of its scores."""
    return f" To say what they are, write {NAMING}." if kind in ("unnamed", "signed") else ""


SLACK = 0.05
"""Gates are clamped at every step of their training but the last; the published ones reach −0.0003."""
SINK_TOKENS, RECENT_TOKENS = 128, 256
"""What streaming heads keep: the first and the last tokens, as in the published patterns' config.json."""


def numbers_in_text(text: str) -> list[list[str]] | None:
    """Returns the cells of a text whose first line is tab-separated numbers, or None for other text."""
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


QRHEAD_HEADS = 16
"""How many heads QRHead uses on models of up to 8B."""


def write_public_scores(sample_head_scores: pd.DataFrame, value: str) -> str:
    """Returns the JSON text of one score column, heads in layer-major order, samples in table order.

    Every number is written in full: rounded, heads whose means are equal would no longer be. HeadKV reads this file as it is:
    one line, every head, in this order.
    """
    return json.dumps(_by_head(sample_head_scores, value))


def write_locos_scores(contributions: pd.DataFrame, model: str) -> str:
    """Returns the JSON text of the `locos` contributions in LOCOS' own envelope; samples without an answer step are left out."""
    scored = contributions[contributions["definition"] == "locos"].dropna(subset=["score"])
    n_samples = int(scored["sample_id"].nunique())
    meta = {"method": "logit_contribution", "model": model, "num_trials_passed": n_samples}
    return json.dumps({"meta": meta, "scores": _by_head(scored, "score")})


def write_duo_pattern(kv_head_scores: pd.DataFrame, definition: str, model: str) -> Mapping[str, str]:
    """Returns a DuoAttention pattern by path: the gate of a key-value head is the largest score of the query heads that share it.

    `kv_head_scores` is the table of that name. Gates are scores, not trained: choose heads by sparsity, not by a threshold of 0.5.
    """
    scores = kv_head_scores[kv_head_scores["definition"] == definition].rename(columns={"max_score": "score"})
    what = f"{KINDS[definition].text}, largest of the query heads that share a key-value head"
    folder = "duo_attention"
    return {f"{folder}/{PATTERN_FILE}": write_gates(scores), f"{folder}/config.json": write_config(model, what)}


def write_qrhead_set(head_scores: pd.DataFrame, definition: str, model: str) -> str:
    """Returns a configuration of QRHead with the best heads by one definition (layer, head, score), best first."""
    scores = head_scores[head_scores["definition"] == definition].sort_values(["layer", "head"])
    best = scores.sort_values("score", ascending=False, kind="stable").head(QRHEAD_HEADS)
    names = ",".join(f"{layer}-{head}" for layer, head in zip(best["layer"], best["head"], strict=True))
    return f'# The {len(best)} best heads of {model} by {KINDS[definition].text}\nattn_head_set: "{names}"\n'


def _by_head(scores: pd.DataFrame, value: str) -> dict[str, list[float]]:
    ordered = scores.sort_values(["layer", "head"], kind="stable")
    grouped = ordered.groupby(["layer", "head"], sort=True)[value]
    return {f"{layer}-{head}": group.tolist() for (layer, head), group in grouped}
