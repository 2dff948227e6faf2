"""What is said of verbatim memory without retrieval heads: changes of surprisal and lost shares, over base lists. No model."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from interp.statistics import Array, Estimate, resampled
from interp.tables import empty
from probes.joined.tables import STRONGEST, MemoryChange

DRAWS = 2000
Condition = tuple[str, str, int, str]
"""Head set, control (none, top, random), k, and kind of the second list."""


def summarise_memory_change(masking: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `memory_change` from the table `masking` of a verbatim_memory run.

    Everything is the mean surprisal of the second list's nouns but the first, in nats: S(list, heads). Silencing heads
    changes a repeated list by S(repeat, heads) − S(repeat, none) and a novel list likewise; the first beyond the second is
    what is lost of memory rather than of reading. Memory is S(novel, none) − S(repeat, none), and its lost share is
    1 − (S(novel, top) − S(repeat, top)) / memory. Random heads were read with repeated lists alone.
    """
    means, strongest = base_list_means(masking), strongest_draws(masking)
    rows = [
        {"head_set": head_set, "k": k, **row}
        for head_set, k in dict.fromkeys((name, k) for name, control, k, _ in means if control == "top")
        for row in _change_rows(means, strongest, head_set, k, seed)
    ]
    return pd.DataFrame(rows) if rows else empty(MemoryChange)


def base_list_means(masking: pd.DataFrame) -> dict[Condition, pd.Series]:
    """Returns the mean surprisal per base list of each condition: over draws, trials, and nouns but the first."""
    later = masking[(masking["list_index"] == 2) & (masking["position"] > 0)]
    grouped = later.groupby(["head_set", "control", "k", "condition", "base_list"], sort=False)["surprisal_nats"].mean()
    found: dict[Any, pd.Series] = dict(iter(grouped.groupby(level=[0, 1, 2, 3], sort=False)))
    return {condition: rows.droplevel([0, 1, 2, 3]).sort_index() for condition, rows in found.items()}


def strongest_draws(masking: pd.DataFrame) -> dict[tuple[str, int], pd.Series]:
    """Returns, by head set and k, the mean surprisal of each repeated base list without the random heads that raise it most.

    Intervals resample base lists, not draws of heads: heads that are like any others differ from the mean of a few draws all the same.
    """
    random = masking[(masking["control"] == "random") & (masking["condition"] == "repeat")]
    found: dict[tuple[str, int], pd.Series] = {}
    for (head_set, k), rows in random.groupby(["head_set", "k"], sort=False):
        draws = [base_list_means(own) for _, own in rows.groupby("draw", sort=False)]
        lists = [draw[str(head_set), "random", int(k), "repeat"] for draw in draws]  # type: ignore[call-overload]
        found[str(head_set), int(k)] = max(lists, key=lambda own: float(own.mean()))  # type: ignore[call-overload]
    return found


def _change_rows(
    means: Mapping[Condition, pd.Series],
    strongest: Mapping[tuple[str, int], pd.Series],
    head_set: str,
    k: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    whole = {kind: means["none", "none", 0, kind] for kind in ("repeat", "novel")}
    top = {kind: means[head_set, "top", k, kind] for kind in ("repeat", "novel")}
    change = {kind: top[kind] - whole[kind] for kind in top}
    random = means.get((head_set, "random", k, "repeat"))
    yield _change_row("repeat_change_nats", "top", _mean(change["repeat"], seed))
    if random is not None:
        yield _change_row("repeat_change_nats", "random", _mean(random - whole["repeat"], seed))
        yield _change_row("repeat_change_nats", "top − random", _mean(top["repeat"] - random, seed))
        yield _change_row("repeat_change_nats", STRONGEST, _mean(top["repeat"] - strongest[head_set, k], seed))
    yield _change_row("novel_change_nats", "top", _mean(change["novel"], seed))
    yield _change_row("repeat_beyond_novel_nats", "top", _mean(change["repeat"] - change["novel"], seed))
    memory, left = whole["novel"] - whole["repeat"], top["novel"] - top["repeat"]
    yield _change_row("memory_lost_share", "top", _lost_share(memory, left, seed))


def _mean(values: pd.Series, seed: int) -> Estimate:
    def mean(weights: Array) -> Array:
        return weights @ values.to_numpy() / weights.sum(axis=1)

    return resampled(mean, values.index, draws=DRAWS, seed=seed)


def _lost_share(memory: pd.Series, left: pd.Series, seed: int) -> Estimate:
    def share(weights: Array) -> Array:
        return 1 - (weights @ left.to_numpy()) / (weights @ memory.to_numpy())

    return resampled(share, memory.index, draws=DRAWS, seed=seed)


def _change_row(quantity: str, heads: str, estimate: Estimate) -> dict[str, Any]:
    return {
        "quantity": quantity,
        "heads": heads,
        "value": estimate.value,
        "ci_low": estimate.ci_low,
        "ci_high": estimate.ci_high,
        "n_base_lists": estimate.n,
    }
