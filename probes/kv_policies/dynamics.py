"""How attention moves over a text, with nothing dropped: what makes stale, forgetful or recurrent scores good or bad."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.agreement import spearman
from interp.models.language.attention import AttentionCall
from interp.models.language.model import LanguageModel
from interp.retention.contract import evictable_layers
from interp.retention.policies.base import best
from interp.retention.policies.layer import grouped
from probes.kv_policies.materials import build_text
from probes.kv_policies.settings import Settings

LAGS = (1, 2, 4, 8, 16, 32, 64)
ALPHAS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
THRESHOLDS = ("1e-4", "1/n", "q95")
"""Weights from which a key is active: LazyEviction's, the uniform weight, and the 95th percentile of a head's weights."""
STALE_ROWS = 8
INACTIVE_STEPS = 16
"""A token recurs if it is active again after so many steps without being so."""
SINKS = 4
RECURRENCE_TOKENS = 256
"""Tokens of a text, from its beginning, whose recurrence is counted."""


def measure_dynamics(settings: Settings, model: LanguageModel, number: int) -> dict[str, pd.DataFrame]:
    """Returns the rows of `stale`, `recurrence` and `forgetting` of one text of prose."""
    text = build_text(settings, model, "prose", number, "context_only")
    watcher = _Watcher(evictable_layers(model, len(text.prompt)), settings.n_kept(settings.main_budget), settings.seed)
    with model.hooks.opened(observer=watcher):
        model.prefix(text.prompt)
    return {
        name: pd.concat(parts, ignore_index=True).assign(text_id=text.text_id) for name, parts in watcher.tables.items()
    }


@dataclass(eq=False)
class _Watcher:
    """Computes what is asked of every layer as it comes by: no attention matrix is kept."""

    layers: Sequence[int]
    n_kept: int
    seed: int
    tables: dict[str, list[pd.DataFrame]] = field(
        default_factory=lambda: {"stale": [], "recurrence": [], "forgetting": []}
    )

    def check(self, n_rows: int) -> None:
        """One row is read."""

    def look(self, call: AttentionCall, output: Tensor) -> None:
        """Takes one layer."""
        if call.layer not in self.layers:
            return
        weights = call.weights(None, torch.float32)[0]
        lists = grouped(weights[None], call.segments[0].key.shape[1])[0]
        generator = np.random.default_rng([self.seed, 5, call.layer])
        self.tables["stale"].append(stale_mass(weights, lists, self.n_kept).assign(layer=call.layer))
        begun = lists[:, :RECURRENCE_TOKENS, :RECURRENCE_TOKENS].cpu().numpy()
        self.tables["recurrence"].append(recurrence(begun, generator).assign(layer=call.layer))
        self.tables["forgetting"].append(forgetting(lists, self.n_kept).assign(layer=call.layer))


# ---------------------------------------------------------------------- stale keys


def stale_mass(
    weights: Float[Tensor, "head query key"], lists: Float[Tensor, "kv_head query key"], n_kept: int
) -> pd.DataFrame:
    """Returns, by head and lag d, the mass of row t + d on the best keys of row t and on all since; on as many recent keys with
    sinks; and on as many best keys of row t + d itself. Means over rows of the second half.
    """
    n, n_heads = weights.shape[-1], weights.shape[0]
    rows = torch.linspace(n // 2, n - 1 - max(LAGS), STALE_ROWS).long()
    if n - 1 - max(LAGS) < n // 2:
        rows = rows[:0]
    group = n_heads // lists.shape[0]
    parts = []
    for lag in LAGS if len(rows) else ():
        found = torch.zeros(3, n_heads)
        for row in rows.tolist():
            n_now = min(n_kept + lag, row + lag + 1)
            stale = _top(lists[:, row, : row + lag + 1], n_kept)
            stale[:, row + 1 :] = True
            recent = torch.zeros_like(stale)
            recent[:, :SINKS], recent[:, row + lag + 1 - (n_now - SINKS) :] = True, True
            oracle = _top(lists[:, row + lag, : row + lag + 1], n_now)
            true = weights[:, row + lag, : row + lag + 1]
            for place, kept in enumerate((stale, recent, oracle)):
                found[place] += (true * kept.repeat_interleave(group, dim=0)).sum(dim=-1).cpu()
        stale_mean, recent_mean, oracle_mean = (found / len(rows)).clamp(0, 1).numpy()
        parts.append(
            pd.DataFrame(
                {
                    "head": range(n_heads),
                    "lag": lag,
                    "mass_stale": stale_mean,
                    "mass_recent": recent_mean,
                    "mass_oracle": oracle_mean,
                }
            )
        )
    columns = ["head", "lag", "mass_stale", "mass_recent", "mass_oracle"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _top(scores: Float[Tensor, "kv_head key"], n: int) -> Bool[Tensor, "kv_head key"]:
    nothing = torch.zeros(1, scores.shape[-1], dtype=torch.bool, device=scores.device)
    return best(scores[None], torch.tensor([n], device=scores.device), nothing)[0]


# ---------------------------------------------------------------------- keys that come back


def recurrence(lists: np.ndarray, generator: np.random.Generator) -> pd.DataFrame:
    """Returns, by key-value head and threshold, how many tokens recur and their largest gap, beside the same with each token's own
    activations in random order; and how well gap, accumulated weight and age of the first half tell the first gap of the second.
    """
    n_heads, n, _ = lists.shape
    rows = []
    for head in range(n_heads):
        weights = lists[head]
        tril = np.tril(np.ones((n, n), dtype=bool))
        cuts = {"1e-4": 1e-4, "1/n": 1 / n, "q95": float(np.quantile(weights[tril], 0.95))}
        for name in THRESHOLDS:
            active = (weights >= cuts[name]) & tril
            shuffled = shuffled_after_birth(active, generator)
            gaps, null = largest_gaps(active), largest_gaps(shuffled)
            seen = np.arange(n) < n - 2 * INACTIVE_STEPS  # younger tokens have had no time
            rows.append(
                {
                    "kv_head": head,
                    "threshold": name,
                    "threshold_times_n": cuts[name] * n,
                    "active_share": float(active[tril].mean()),
                    "recur_share": float((gaps[seen] > INACTIVE_STEPS).mean()),
                    "recur_share_null": float((null[seen] > INACTIVE_STEPS).mean()),
                    "gap": float(gaps[seen].mean()),
                    "gap_null": float(null[seen].mean()),
                    **_predictions(weights, active),
                }
            )
    return pd.DataFrame(rows)


def shuffled_after_birth(active: Bool[np.ndarray, "n n"], generator: np.random.Generator) -> Bool[np.ndarray, "n n"]:
    """Returns each key's activations [query, key] in random order over the queries that see it."""
    n = len(active)
    born = np.arange(n)[:, None] >= np.arange(n)
    order = np.argsort(np.where(born, generator.random((n, n)), -1.0), axis=0, kind="stable")
    return np.take_along_axis(active, order, axis=0)


def largest_gaps(active: Bool[np.ndarray, "n n"]) -> Int[np.ndarray, " n"]:
    """Returns each key's largest number of queries from one activation to the next, counted from its birth."""
    steps = np.arange(len(active))[:, None]
    last = np.maximum.accumulate(np.where(active, steps, steps.T - 1), axis=0)
    before = np.vstack([steps.T - 1, last[:-1]])
    return np.where(active & (steps >= steps.T), steps - before, 0).max(axis=0)


def _predictions(weights: np.ndarray, active: np.ndarray) -> dict[str, float]:
    """Rank correlations, over keys of the first half, with how long after its middle a key is active again."""
    n = len(active)
    middle = n // 2
    keys = np.arange(SINKS, middle)
    later = active[middle:, keys]
    wait = np.where(later.any(axis=0), later.argmax(axis=0), n - middle)
    first = np.tril(np.ones((middle, middle), dtype=bool))
    before = largest_gaps(active[:middle, :middle] & first)[keys]
    last = np.where(active[:middle, keys], np.arange(middle)[:, None], -1).max(axis=0)
    found = {"gap": before, "weight": -weights[:middle, keys].sum(axis=0), "age": middle - last}
    return {f"{name}_predicts": float(spearman(score, wait)) for name, score in found.items()}


# ---------------------------------------------------------------------- forgetting


def forgetting(lists: Float[Tensor, "kv_head query key"], n_kept: int) -> pd.DataFrame:
    """Returns, by key-value head and alpha, the mass that later queries have on what A2SF keeps of the first half (of their mass on
    the first half), and how its scores go with age (rank correlation).
    """
    n = lists.shape[-1]
    middle = n // 2
    age = torch.arange(middle - 1, -1, -1, device=lists.device).to(lists)
    later = lists[:, middle:, :middle].sum(dim=1)
    parts = []
    for alpha in ALPHAS:
        scores = torch.einsum("hqk,q->hk", lists[:, :middle, :middle], alpha**age)
        kept = _top(scores, min(n_kept, middle // 2))
        share = (later * kept).sum(dim=-1) / later.sum(dim=-1)
        bias = spearman(
            scores[:, SINKS:].cpu().numpy(), np.broadcast_to(age[SINKS:].cpu().numpy(), scores[:, SINKS:].shape)
        )
        parts.append(
            pd.DataFrame(
                {
                    "kv_head": range(len(lists)),
                    "alpha": alpha,
                    "mass_recovered": share.clamp(0, 1).cpu().numpy(),
                    "age_bias": np.asarray(bias, dtype=float),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
