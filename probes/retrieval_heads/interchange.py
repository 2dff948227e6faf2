"""The public score format of Wu et al.'s repository: {"layer-head": [one score per sample]}."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from interp.errors import ArgumentError

_HEAD = re.compile(r"(\d{1,4})-(\d{1,4})")


def write_public_scores(sample_head_scores: pd.DataFrame, value: str) -> str:
    """Returns the JSON text of one score column, heads in layer-major order, samples in table order.

    Every number is written in full: rounded, heads whose means are equal would no longer be.
    """
    scores = sample_head_scores.sort_values(["layer", "head"], kind="stable")
    grouped = scores.groupby(["layer", "head"], sort=True)[value]
    return json.dumps({f"{layer}-{head}": group.tolist() for (layer, head), group in grouped})


def read_public_scores(path: Path) -> pd.DataFrame:
    """Returns one row per head and sample of a public score file: layer, head, sample, score.

    Raises ArgumentError for a file that is not in that format, with what is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict) or not content:
        raise ArgumentError(f'{path} holds no head scores: {{"layer-head": [score, …]}} is needed.')
    frames = []
    for name, values in content.items():
        head = _HEAD.fullmatch(name)
        if head is None or not isinstance(values, list) or not all(_is_number(value) for value in values):
            raise ArgumentError(f'{path}: "{name}" must be "layer-head" with a list of numbers.')
        frames.append((int(head[1]), int(head[2]), np.asarray(values, dtype=float)))
    heads = [frame[:2] for frame in frames]
    twice = next((head for head in heads if heads.count(head) > 1), None)
    if twice:
        raise ArgumentError(f"{path} has the head {twice[0]}-{twice[1]} twice.")
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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def public_head_scores(path: Path) -> pd.DataFrame:
    """Returns per head the mean score and activation frequency of a public file: layer, head, score, …

    The scores are of the `count` definition; the file tells no needles, so there are no intervals.
    """
    samples = read_public_scores(path)
    grouped = samples.groupby(["layer", "head"], as_index=False)["score"]
    table = grouped.agg(score="mean", activation_frequency=lambda values: float((values > 0).mean()), n_samples="count")
    return table.assign(definition="count")
