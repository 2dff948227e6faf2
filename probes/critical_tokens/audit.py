"""Checks that go into every report: the bound, the martingale, replication, and the same machinery on chains of known value."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray as Nd
from scipy.stats import binom, chi2

from interp.agreement import pearson
from interp.statistics import wilson_interval
from interp.tables import Tables
from probes.critical_tokens.critical import causal_counts
from probes.critical_tokens.definitions import (
    Discovery,
    Thresholds,
    confirm,
    discoveries,
    evidence,
    screen,
    thresholds_of,
)
from probes.critical_tokens.scores import Chain, branch_points, chain_with_drop
from probes.critical_tokens.settings import Settings

CHAINS = 200
SUSPICIOUS = 0.001
"""A check fails when chance alone would do so in fewer than this share of runs."""


def audit_all(settings: Settings, measured: Tables, tables: Tables) -> pd.DataFrame:
    """Returns `audit`."""
    rows = [*_bound(tables["positions"]), *_exact(tables["positions"], measured["exact"])]
    if settings.method == "recycled":
        rows += [
            *_martingale(tables["positions"], tables["candidates"], settings.scan_rollouts),
            *_split_halves(measured["rollouts"], settings.scan_rollouts),
            *_replication(tables["critical"], measured),
        ]
    rows += _chains(settings)
    return pd.DataFrame(rows)


def _row(check: str, value: float, passed: bool, expected: str, n: int, meaning: str) -> dict[str, Any]:
    return {
        "check": check,
        "passed": bool(passed),
        "value": float(value),
        "expected": expected,
        "n": n,
        "meaning": meaning,
    }


def _bound(positions: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Estimated changes of V against 1 − p: with shared draws a change of c needs at least c·n coins that fell on "branch"."""
    if not len(positions):
        return
    n = (positions["n_rollouts"] + positions["n_recycled"]).to_numpy()
    change = (positions["value"] - positions["value_before"]).abs().to_numpy()
    chance = binom.sf(np.ceil(change * n - 1e-9) - 1, n, 1 - positions["p"].to_numpy())
    worst = min(1.0, float(chance.min()) * len(positions))
    yield _row(
        "bound",
        worst,
        worst > SUSPICIOUS,
        f"above {SUSPICIOUS}",
        len(positions),
        "smallest chance, times the tokens looked at, of a change as large as estimated if |change| <= 1 - p",
    )


def _exact(positions: pd.DataFrame, exact: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Sampled intervals against bounds from the tree of continuations, where one token or more is kept."""
    both = positions.assign(kept=positions["position"] + 1).merge(exact, on=["trajectory_id", "kept"])
    if not len(both):
        return
    overlap = (both["ci_low"] <= both["high"]) & (both["ci_high"] >= both["low"])
    share = float(overlap.mean())
    yield _row(
        "exact",
        share,
        share >= 0.8,
        "at least 0.8",
        len(both),
        "share of sampled intervals of V that meet the bounds from the tree of continuations",
    )


def _martingale(positions: pd.DataFrame, candidates: pd.DataFrame, n_scan: int) -> Iterator[dict[str, Any]]:
    """V before a token from the curve against p·after + (1 − p)·without from fresh pairs: independent draws of one number."""
    if not len(candidates):
        return
    both = candidates.merge(positions[["trajectory_id", "position", "value_before"]], on=["trajectory_id", "position"])
    mixed = both["p"] * both["value_after"] + (1 - both["p"]) * both["value_without"]
    # One pseudo-draw of each kind keeps the variance of unanimous draws above zero.
    before = (both["value_before"] * n_scan + 1) / (n_scan + 2)
    after, without = (
        (both[name] * both["n_pairs"] + 1) / (both["n_pairs"] + 2) for name in ("value_after", "value_without")
    )
    variance = (
        before * (1 - before) / n_scan
        + (both["p"] ** 2 * after * (1 - after) + (1 - both["p"]) ** 2 * without * (1 - without)) / both["n_pairs"]
    )
    statistic = float(((both["value_before"] - mixed) ** 2 / variance).sum())
    chance = float(chi2.sf(statistic, len(both)))
    yield _row(
        "martingale",
        chance,
        chance > SUSPICIOUS,
        f"above {SUSPICIOUS}",
        len(both),
        "chance of differences as large as found between V and p V_after + (1 - p) V_without (chi-square)",
    )


def _split_halves(rollouts: pd.DataFrame, n_scan: int) -> Iterator[dict[str, Any]]:
    """Drops from the even draws of each curve against those from the odd ones."""
    rows = rollouts[(rollouts["arm"] == "scan") & (rollouts["draw"] < n_scan)]
    if not len(rows) or n_scan < 2:
        return
    curves = rows.groupby(["trajectory_id", rows["draw"] % 2, "kept"])["right"].mean().unstack("kept")
    halves = [-np.diff(half.to_numpy(dtype=float), axis=1).ravel() for _, half in curves.groupby(level=1)]
    known = np.isfinite(halves[0]) & np.isfinite(halves[1])
    agreement = float(pearson(halves[0][known], halves[1][known]))
    yield _row(
        "split halves",
        agreement,
        not agreement < 0.5,
        "above 0.5",
        int(known.sum()),
        "correlation of the drops of all tokens between two disjoint halves of the draws",
    )


def _replication(critical: pd.DataFrame, measured: Tables) -> Iterator[dict[str, Any]]:
    """Cliffs once more on the fresh draws of the causal test."""
    cliffs = critical[critical["definition"] == "cliff"]
    counts = causal_counts(measured, cliffs) if len(cliffs) else cliffs
    if not len(counts):
        return
    value = (counts["n_right"] / counts["n"]).groupby([counts["trajectory_id"], counts["condition"]]).mean().unstack()
    drop = value["forbidden"] - value["kept"]  # times 1 − p, which is above 0
    share = float((drop > 0).mean())
    yield _row(
        "replication",
        share,
        share >= 0.9,
        "at least 0.9",
        len(drop),
        "share of confirmed cliffs that drop again on further draws",
    )


# ---------------------------------------------------------------------- chains


def _chains(settings: Settings) -> list[dict[str, Any]]:
    """Coverage, false discoveries and power of these very settings where V is known."""
    thresholds = thresholds_of(settings)
    generator = np.random.default_rng([settings.seed, 7])
    covered = coverage(CHAINS, settings.scan_rollouts, settings.alpha, generator)
    rows = [
        _row(
            "chain coverage",
            covered,
            covered >= 1 - settings.alpha - 0.02,
            f"{1 - settings.alpha:.0%} ± 2 points",
            CHAINS,
            "share of intervals of V that hold the true value, over positions of random chains",
        )
    ]
    if settings.method == "brute":
        return rows
    null, drop = null_chain(), chain_with_drop(20, 8, 0.5, 0.3, 0.6)
    found = [search(null, settings.scan_rollouts, settings.max_pairs, thresholds, generator) for _ in range(CHAINS)]
    false = float(np.mean([any(one.evidence.token < len(null.p) - 1 for one in each) for each in found]))
    found = [search(drop, settings.scan_rollouts, settings.max_pairs, thresholds, generator) for _ in range(CHAINS)]
    power = float(np.mean([any(one.evidence.token == 8 for one in each) for each in found]))
    limit = float(binom.ppf(1 - SUSPICIOUS, CHAINS, settings.alpha)) / CHAINS
    return [
        *rows,
        _row(
            "chain false discoveries",
            false,
            false <= limit,
            f"at most {settings.alpha:g}",
            CHAINS,
            "share of chains without a critical token on which one is found",
        ),
        _row(
            "chain power",
            power,
            power >= 0.9,
            "at least 0.9",
            CHAINS,
            "share of chains on which a drop of 0.3 at p = 0.5 is found",
        ),
    ]


def null_chain(n_tokens: int = 20, p: float = 0.6, value: float = 0.5) -> Chain:
    """Returns a chain on which V changes only at the last token, which writes a wrong answer."""
    without = np.append(np.full(n_tokens - 1, value), 1.0)
    return Chain(np.append(np.full(n_tokens - 1, p), 1 - value), without, False)


def random_chain(generator: np.random.Generator, n_tokens: int = 20) -> Chain:
    """Returns a chain like those of language models: most tokens nearly certain, some forks."""
    p = np.where(
        generator.random(n_tokens) < 0.75, generator.uniform(0.95, 1, n_tokens), generator.uniform(0.1, 0.9, n_tokens)
    )
    return Chain(p, generator.uniform(0, 1, n_tokens), bool(generator.random() < 0.5))


def curve_outcomes(chain: Chain, n_draws: int, generator: np.random.Generator) -> Bool[Nd, "kept draw"]:
    """Returns draws from every position of a chain, branches shared as on a model."""
    points = branch_points(chain.coins(n_draws, generator))
    ends = np.vstack([chain.branches(n_draws, generator), np.full((1, n_draws), int(chain.right))])
    return ends[points, np.arange(n_draws)].astype(bool)


def coverage(n_chains: int, n_draws: int, alpha: float, generator: np.random.Generator) -> float:
    """Returns the share of Wilson intervals that hold the true V, over the positions of random chains."""
    inside = []
    for _ in range(n_chains):
        chain = random_chain(generator)
        right = curve_outcomes(chain, n_draws, generator).sum(axis=1)
        intervals = [wilson_interval(int(count), n_draws, 1 - alpha) for count in right[:-1]]
        inside += [one.ci_low <= value <= one.ci_high for one, value in zip(intervals, chain.values, strict=False)]
    return float(np.mean(inside))


def search(
    chain: Chain, n_scan: int, most_pairs: int, thresholds: Thresholds, generator: np.random.Generator
) -> list[Discovery]:
    """Runs the whole search for cliffs on a chain: curve, screening, fresh pairs, e-BH."""
    curve = curve_outcomes(chain, n_scan, generator).mean(axis=1)
    candidates = screen(chain.p, curve, thresholds)

    def pairs(tokens: Sequence[int], draws: slice) -> dict[int, tuple[Bool[Nd, " pair"], Bool[Nd, " pair"]]]:
        n = draws.stop - draws.start
        return {
            token: (generator.random(n) < chain.without[token], generator.random(n) < chain.values[token + 1])
            for token in tokens
        }

    found = confirm(chain.p, candidates, pairs, thresholds, most_pairs)
    tested = [evidence(token, chain.p[token], *arms, thresholds, len(candidates)) for token, arms in found.items()]
    return discoveries(tested, chain.p, thresholds, both_signs=False) if tested else []
