"""Head scores in JSON: {"layer-head": [one score per sample]}, alone or in {"meta": …, "scores": …}.

The first is the format of Wu et al.'s repository, of HeadKV's importance files and of LOCOS' behavioural detector; the
second is that of LOCOS' other detectors. A file alone does not say what its scores are, so it is told from them.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import ArgumentError
from interp.heads.kinds import KINDS, METHODS, NAMING
from interp.statistics import Array

HEAD_NAME = re.compile(r"(\d{1,4})-(\d{1,4})")
LONGEST_ANSWER = 200
"""Copy scores are multiples of one over an answer's tokens; longer answers are not looked for."""
SAMPLES_LOOKED_AT = 64
HUNDREDTHS = 100


def head_of(name: str) -> tuple[int, int] | None:
    """Returns layer and head of a name such as "16-19", or None for another text."""
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
    """Raises ArgumentError when a head comes twice."""
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
    """Returns the kind of score: by the method that the file names, otherwise as the scores themselves tell.

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
    """Returns how a file can say what its scores are, where it does not."""
    return f" To say what they are, write {NAMING}." if kind in ("unnamed", "signed") else ""
