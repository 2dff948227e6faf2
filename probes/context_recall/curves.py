"""Recall against length: measured shares, the closest curve that never rises, and the length down to which it is enough."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from interp.statistics import Array, Estimate, bootstrap_interval, bounded, cluster_weights, share_estimate
from probes.context_recall.plan import WHOLE
from probes.context_recall.settings import Settings

DRAWS = 2000


def falling(shares: Array, weights: Array | None = None) -> Array:
    """Returns the closest sequence (least squares) that never rises, of shares by growing length."""
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(shares, weights=weights, increasing=False).x)


def longest_at(lengths: Sequence[float], shares: Array, threshold: float) -> float:
    """Returns the longest measured length at which a falling curve is at the threshold; 0 where it never is.

    No length between two measured ones is made up.
    """
    enough = [length for length, share in zip(lengths, shares, strict=True) if share >= threshold - 1e-9]
    return max(enough, default=0.0)


def _curve(items: pd.DataFrame) -> tuple[list[int], list[pd.DataFrame]]:
    rows = items[items["is_length"]]
    nominal = rows["cell"].str.extract(r"tokens=(\d+)", expand=False).astype(float)
    lengths = sorted(nominal.dropna().unique())
    return [int(length) for length in lengths], [rows[nominal == length] for length in lengths]


def _drawn(parts: Sequence[pd.DataFrame], seed: int) -> Array:
    """Falling curves of bootstrap draws, contexts resampled within every length: [draw, length]."""
    drawn = []
    for place, part in enumerate(parts):
        means = part.groupby("sample_id")["is_said"].mean().to_numpy(dtype=float)
        drawn.append(cluster_weights(len(means), DRAWS, seed + place) @ means / len(means))
    return np.stack([falling(row) for row in np.stack(drawn, axis=1)])


def _band(curve: Array, parts: Sequence[pd.DataFrame], seed: int) -> tuple[Array, Array]:
    """The interval of the falling curve at every length, itself falling: what is too much at a length is so at all longer ones."""
    n = min(part["sample_id"].nunique() for part in parts)
    ends = np.stack([curve, *bootstrap_interval(curve, _drawn(parts, seed), n, (0.0, 1.0))], axis=1)
    found = [bounded(Estimate(value, below, above, n)) for value, below, above in ends.tolist()]
    low, high = (np.array([getattr(one, end) for one in found]) for end in ("ci_low", "ci_high"))
    return np.maximum.accumulate(low[::-1])[::-1], np.minimum.accumulate(high)


def recall_by_length(settings: Settings, items: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `lengths`; greedy match is what counts."""
    lengths, parts = _curve(items)
    if not lengths:
        return pd.DataFrame()
    chance = answers[answers["is_length"] & (answers["condition"] == WHOLE)]["chance"].mean()
    shares = [share_estimate(part["is_said"], part["sample_id"], seed=settings.seed) for part in parts]
    curve = falling(np.array([one.value for one in shares]))
    low, high = _band(curve, parts, settings.seed)
    return pd.DataFrame(
        {
            "context_tokens": lengths, "context_chars": [part["context_chars"].mean() for part in parts],
            "value": [one.value for one in shares], "ci_low": [one.ci_low for one in shares],
            "ci_high": [one.ci_high for one in shares], "falling": curve, "falling_ci_low": low, "falling_ci_high": high,
            "chance": chance, "n": [one.n for one in shares],
        }
    )  # fmt: skip


def effective_length(settings: Settings, items: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `effective`, in tokens and characters."""
    lengths, parts = _curve(items)
    if not lengths:
        return pd.DataFrame()
    curve = falling(np.array([part["is_said"].mean() for part in parts], dtype=float))
    low, high = _band(curve, parts, settings.seed)
    rows = []
    for unit, ends in (
        ("tokens", [float(length) for length in lengths]),
        ("characters", [float(part["context_chars"].mean()) for part in parts]),
    ):
        value, shortest, longest = (longest_at(ends, one, settings.effective_at) for one in (curve, low, high))
        rows.append((settings.effective_at, unit, value, shortest, longest, max(ends)))
    return pd.DataFrame(rows, columns=["threshold", "unit", "value", "ci_low", "ci_high", "longest"])
