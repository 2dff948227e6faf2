"""How attention moves, over all texts: stale keys by role and lag, keys that come back beside chance, the best alpha by depth."""

from collections.abc import Mapping, Sequence

import pandas as pd

from interp.estimates import beside, estimates
from interp.tables import Tables
from probes.kv_policies.heads import ROLES, role_size
from probes.kv_policies.settings import Settings

PREDICTIONS = ("gap_predicts", "weight_predicts", "age_predicts")


def summarise_dynamics(
    settings: Settings, measured: Tables, ranking: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[str, pd.DataFrame]:
    """Returns the tables stale_mass, recurring and best_alpha; no rows where no text was looked at."""
    return {
        "stale_mass": _stale(settings, measured["stale"], ranking),
        "recurring": _recurring(settings, measured["recurrence"]),
        "best_alpha": _best_alpha(settings, measured["forgetting"]),
    }


def _stale(settings: Settings, stale: pd.DataFrame, ranking: Mapping[str, Sequence[tuple[int, int]]]) -> pd.DataFrame:
    n = role_size(settings, ranking)
    pairs = pd.MultiIndex.from_frame(stale[["layer", "head"]])
    sets = {"all": set(ranking["echo"])} | {role: set(ranking[role][:n]) for role in ROLES}
    parts = []
    for role, heads in sets.items():
        rows = stale[pairs.isin(list(heads))]
        for quantity in ("mass_stale", "mass_recent", "mass_oracle"):
            found = estimates(rows, ["lag"], quantity, "text_id", kind="share", seed=settings.seed)
            parts.append(found.assign(role=role, quantity=quantity))
    return pd.concat(parts, ignore_index=True)


def _recurring(settings: Settings, recurrence: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for quantity in ("recur_share", "gap"):
        value = estimates(recurrence, ["threshold"], quantity, "text_id", seed=settings.seed)
        options = {"minus": f"{quantity}_null", "name": "difference", "seed": settings.seed}
        difference = estimates(recurrence, ["threshold"], quantity, "text_id", **options)
        null: pd.DataFrame = recurrence.groupby("threshold", as_index=False)[[f"{quantity}_null"]].mean()
        found = beside(["threshold"], value, difference).merge(null.rename(columns={f"{quantity}_null": "null"}))
        parts.append(found.assign(quantity=quantity))
    for quantity in PREDICTIONS:
        rows = recurrence.dropna(subset=list(PREDICTIONS))
        value = estimates(rows, ["threshold"], quantity, "text_id", seed=settings.seed)
        difference = estimates(
            rows, ["threshold"], quantity, "text_id", minus="weight_predicts", name="difference", seed=settings.seed
        )
        parts.append(beside(["threshold"], value, difference).assign(quantity=quantity, null=0.0))
    return pd.concat(parts, ignore_index=True)


def _best_alpha(settings: Settings, forgetting: pd.DataFrame) -> pd.DataFrame:
    """The alpha that keeps most of the later mass, by text and layer (mean over key-value heads), with its mean over texts."""
    means: pd.DataFrame = forgetting.groupby(["text_id", "layer", "alpha"], as_index=False)[["mass_recovered"]].mean()
    chosen = means.sort_values("mass_recovered", ascending=False, kind="stable").drop_duplicates(["text_id", "layer"])
    rows = chosen.sort_values("layer", kind="stable")
    found = estimates(rows, ["layer"], "alpha", "text_id", limits=(0.0, 1.0), seed=settings.seed)
    return found.assign(depth=found["layer"] / max(1, int(found["layer"].max()) if len(found) else 1))
