"""What is said of all texts together: losses with intervals over texts, factors, roles, the curve of restored heads. No model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import ArgumentError
from interp.estimates import Kind, beside, estimates
from interp.retention.policies.catalogue import build
from interp.statistics import bootstrap_interval, cluster_weights
from interp.tables import Tables, empty
from probes.kv_policies.dynamics_summaries import summarise_dynamics
from probes.kv_policies.heads import ROLES, ranked_heads, role_size
from probes.kv_policies.settings import Settings
from probes.kv_policies.tables import Roles

GROUPS = ["material", "scope", "policy", "protection", "budget"]
TEXT = ["material", "scope", "text_id"]
_CURVE: dict[str, Kind] = {"change_nats": "mean", "recall": "share"}
CONTRACT = ("semantics", "event", "budget_rule", "granularity", "group_reduction", "positions")
HEAD_QUANTITIES = {"mass_recovered": (0.0, 1.0), "output_change": (0.0, np.inf)}
"""What policies change in heads, and the least and most that it can be."""
VARIANTS = (
    ("h2o_sum", "h2o_mean", "sums instead of means: old keys have been seen more often"),
    ("pyramidkv", "snapkv", "budgets that fall with depth"),
    ("strided", "streaming", "half of the budget evenly spaced"),
    ("razor", "razor_plain", "the compensation token"),
    ("tokenselect(scaled=True)", "tokenselect", "scores divided by sqrt d"),
    ("tokenselect_modulo", "tokenselect", "the released kernel's grouping of heads"),
    ("tokenselect_free", "tokenselect", "every key at one angle"),
    ("actqkv", "actqkv(weighted=False)", "unusual tokens weigh more in the probe"),
    ("actqkv(shared=True)", "actqkv", "statistics of all layers together"),
    ("keyformer", "keyformer(noise=none)", "Gumbel noise"),
    ("keyformer(noise=normal)", "keyformer(noise=none)", "normal noise"),
    (
        "keyformer(event=every_step, tau_delta=1.0)",
        "keyformer(event=every_step)",
        "a temperature that grows by 1 at every step instead of .01",
    ),
    ("lazy_code", "lazy_notes", "the code's second term"),
    ("landmark", "landmark(by=last)", "delimiters as landmarks"),
    ("landmark(by=mean)", "landmark(by=last)", "the mean key as landmark"),
    ("cca", "cca(pool=mean)", "weights of the group's last query"),
    ("recycled(stride=16)", "recycled", "a full step every 16 instead of every 8"),
    ("recycled(stride=16, refresh=0.8)", "recycled(stride=16)", "a full step also where the query has turned"),
    ("a2sf(alpha=0.5)", "h2o_sum", "forgetting half at every query"),
    ("a2sf(alpha=0.9)", "h2o_sum", "forgetting a tenth at every query"),
    ("a2sf(alpha=0.99)", "h2o_sum", "forgetting a hundredth at every query"),
)
"""A policy, the one that it is held against, and what differs."""
QUANTITIES = ("change_nats", "recall", "mass_recovered", "output_change")
CELL = ["material", "scope", "budget"]


def summarise_all(
    settings: Settings, measured: Tables, given: "pd.DataFrame | None", group_size: int
) -> dict[str, pd.DataFrame]:
    """Returns the summary tables; `group_size` query heads share a key-value head."""
    by_text = losses_by_text(measured)
    plain = by_text[by_text["head_set"].isin(["none", "retrieval", "razor"])]
    plain = plain[(plain["k"] > 0) | (plain["head_set"] == "none")]
    grid = plain[~((plain["policy"] == "duo") & (plain["k"] == 0))]
    heads = _of_grid(measured["head_losses"])
    roles = ranked_heads(measured["head_scores"], given)
    return {
        "policies": _policies(settings, grid, heads, group_size),
        "variants": compare_variants(settings, grid, heads),
        "factors": _factors(settings, grid),
        "roles": _roles(settings, heads, roles),
        "restored": _restored(settings, by_text),
        "classes": _kept_shares(settings, measured["kept_classes"], "token_class"),
        "depths": _kept_shares(settings, measured["kept_depths"], "depth_fraction"),
        "head_map": _head_map(settings, heads),
        **summarise_dynamics(settings, measured, roles),
    }


def losses_by_text(measured: Tables) -> pd.DataFrame:
    """Returns one row per text and condition: mean surprisal, change against the full cache, recall, and what is kept."""
    keys = [*GROUPS, "text_id", "head_set", "k", "draw"]
    tokens = measured["token_losses"]
    found = tokens.groupby(keys, sort=False, as_index=False).agg(
        nats=("surprisal_nats", "mean"), recall=("is_top", "mean")
    )
    full = found[found["policy"] == "full"].set_index(TEXT)[["nats", "recall"]].add_prefix("full_")
    found = found.merge(measured["kept"].drop(columns="model"), on=keys).join(full, on=TEXT)
    return found.assign(change_nats=found["nats"] - found["full_nats"])


def _of_grid(heads: pd.DataFrame) -> pd.DataFrame:
    """Losses of heads without those of the curve."""
    return heads[~heads["head_set"].isin(["best", "random"]) & ~((heads["policy"] == "duo") & (heads["k"] == 0))]


def _policies(settings: Settings, grid: pd.DataFrame, heads: pd.DataFrame, group_size: int) -> pd.DataFrame:
    change = estimates(grid, GROUPS, "change_nats", "text_id", seed=settings.seed).rename(
        columns={"value": "change_nats"}
    )
    recall = estimates(grid, GROUPS, "recall", "text_id", kind="share", name="recall", seed=settings.seed)
    means = grid.groupby(GROUPS, sort=False, as_index=False)[
        ["mean_kept", "peak_kept", "source_kept", "lost_everywhere", "n_keys"]
    ].mean()
    lost = heads.groupby(GROUPS, sort=False, as_index=False)[[*HEAD_QUANTITIES, "oracle_overlap"]].mean()
    layers = heads.groupby(GROUPS, sort=False)["layer"].nunique().rename("n_layers").reset_index()
    lost = lost.merge(layers, on=GROUPS)
    found = beside(GROUPS, change, recall).drop(columns="n_rows").merge(means, on=GROUPS).merge(lost, on=GROUPS)
    contracts = {text: _contract(text) for text in found["policy"].unique()}
    for name in CONTRACT:
        found[name] = [contracts[policy][name] for policy in found["policy"]]
    found["bytes_share"] = [_bytes_share(settings, row, group_size) for row in found.to_dict("records")]
    prose = found["material"] == "prose"
    found.loc[prose, ["recall", "recall_ci_low", "recall_ci_high"]] = np.nan
    return found.drop(columns="n_keys").assign(resampled="texts")


def _bytes_share(settings: Settings, row: Mapping[Any, Any], group_size: int) -> float:
    """What must be stored over what the full cache stores: stand-ins too, and a list of its own for each query head."""
    if row["semantics"] in ("select", "full"):
        return 1.0
    stand_ins = build(row["policy"]).n_stand_ins(settings.n_kept(row["budget"]))
    copies = group_size if row["granularity"] == "query_head" else 1
    return copies * (row["mean_kept"] + stand_ins) / row["n_keys"]


def _contract(text: str) -> Mapping[str, str]:
    policy = build(text)
    return {name: str(getattr(policy, name)) for name in CONTRACT}


# ---------------------------------------------------------------------- protection against scorer


def _factors(settings: Settings, grid: pd.DataFrame) -> pd.DataFrame:
    """The share of the variance between means that the scorer explains, protection, and both together, at the middle budget.

    Only policies whose keys are chosen by scores: those that keep a part of the heads whole, and the oracle, are left out.
    """
    rows = []
    budget = settings.main_budget
    scored = grid[(grid["budget"] == budget) & (grid["head_set"] == "none") & ~grid["policy"].str.startswith("oracle")]
    for (material, scope), part in scored.groupby(["material", "scope"], sort=False):
        table = part.pivot_table(index="text_id", columns=["policy", "protection"], values="change_nats", sort=False)
        n_policies, n_protections = part["policy"].nunique(), part["protection"].nunique()
        if n_policies < 2 or n_protections < 2 or table.isna().any(axis=None):
            continue
        cells = table.to_numpy().reshape(len(table), n_policies, n_protections)
        draws = cluster_weights(len(cells), 2000, settings.seed) / len(cells)
        whole, drawn = (
            shares_of(np.tensordot(weights, cells, axes=1))
            for weights in (np.full((1, len(cells)), 1 / len(cells)), draws)
        )
        low, high = bootstrap_interval(whole[0], drawn, len(cells), (0.0, 1.0))
        for place, factor in enumerate(("scorer", "protection", "interaction")):
            rows.append((material, scope, factor, whole[0, place], low[place], high[place], len(cells), budget))
    return pd.DataFrame(rows, columns=["material", "scope", "factor", "share", "ci_low", "ci_high", "n", "budget"])


def shares_of(means: np.ndarray) -> np.ndarray:
    """Returns the shares of variance of cell means [draw, scorer, protection]: scorer, protection, interaction, [draw, 3]."""
    centred = means - means.mean(axis=(1, 2), keepdims=True)
    scorer, protection = (centred.mean(axis=axis) for axis in (2, 1))
    total = (centred**2).mean(axis=(1, 2))
    parts = (scorer**2).mean(axis=1), (protection**2).mean(axis=1)
    return np.stack([*parts, total - parts[0] - parts[1]], axis=1) / total[:, None]


# ---------------------------------------------------------------------- roles


def _roles(settings: Settings, heads: pd.DataFrame, ranking: Mapping[str, Sequence[tuple[int, int]]]) -> pd.DataFrame:
    """Losses of the heads of each role beside as many random heads of the same layers that have no role; none where all have one."""
    rows = heads[(heads["protection"] == settings.protections[0]) & (heads["policy"] != "full")]
    n = role_size(settings, ranking)
    chosen = {role: set(ranking[role][:n]) for role in ROLES}
    pairs = pd.MultiIndex.from_frame(rows[["layer", "head"]])
    with_role = set().union(*chosen.values())
    others = ~pairs.isin(list(with_role))
    by = ["material", "scope", "policy", "budget"]
    found = []
    for role in ROLES:
        mine = rows[pairs.isin(list(chosen[role]))]
        weights = {layer: sum(1 for other, _ in chosen[role] if other == layer) for layer, _ in chosen[role]}
        for quantity, limits in HEAD_QUANTITIES.items():
            own = mine.groupby([*by, "text_id"], sort=False)[quantity].mean().rename("own")
            matched = _matched(rows[others], weights, by, quantity)
            both = pd.concat([own, matched], axis=1).dropna().reset_index()
            if not len(both):
                continue
            value = estimates(both, by, "own", "text_id", limits=limits, seed=settings.seed)
            difference = estimates(both, by, "own", "text_id", minus="random", name="difference", seed=settings.seed)
            random = both.groupby(by, sort=False, as_index=False)["random"].mean()
            part = beside(by, value, difference).merge(random, on=by)
            found.append(part.assign(role=role, quantity=quantity, n_heads=len(chosen[role])).drop(columns="n_rows"))
    return pd.concat(found, ignore_index=True) if found else empty(Roles).drop(columns="model")


def _matched(rows: pd.DataFrame, weights: Mapping[int, int], by: list[str], quantity: str) -> pd.Series:
    """The mean over heads without a role, each layer weighing as many as it has heads with the role.

    It is what random heads of these layers are expected to lose: no draw, no noise of one.
    """
    rows = rows[rows["layer"].isin(list(weights))]
    means = rows.groupby([*by, "text_id", "layer"], sort=False)[quantity].mean().rename("random").reset_index()
    means["weight"] = means["layer"].map(dict(weights))
    means["random"] *= means["weight"]
    sums = means.groupby([*by, "text_id"], sort=False)[["random", "weight"]].sum()
    return (sums["random"] / sums["weight"]).rename("random")


# ---------------------------------------------------------------------- the curve, classes, the map


def _restored(settings: Settings, by_text: pd.DataFrame) -> pd.DataFrame:
    """Surprisal change and recall of needles when k key-value heads keep the whole prompt."""
    budget = min(settings.budgets)
    curve = by_text[
        (by_text["policy"] == "duo")
        & by_text["head_set"].isin(["best", "random", "none"])
        & (by_text["budget"] == budget)
    ]
    curve = curve[curve["material"] == "needles"]
    parts = [
        estimates(curve, ["head_set", "k"], quantity, "text_id", kind=kind, seed=settings.seed).assign(
            quantity=quantity
        )
        for quantity, kind in _CURVE.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _kept_shares(settings: Settings, kept: pd.DataFrame, what: str) -> pd.DataFrame:
    rows = kept[
        (kept["protection"] == settings.protections[0])
        & ~kept["head_set"].isin(["best", "random"])
        & (kept["policy"] != "full")
    ]
    by = ["material", "policy", "budget", what]
    return estimates(
        rows[rows["scope"] == settings.scopes[0]], by, "kept_share", "text_id", kind="share", seed=settings.seed
    )


def _head_map(settings: Settings, heads: pd.DataFrame) -> pd.DataFrame:
    rows = heads[(heads["budget"] == settings.main_budget) & (heads["protection"] == settings.protections[0])]
    by = ["material", "policy", "layer", "head"]
    found = rows.groupby(by, sort=False).agg(
        output_change=("output_change", "mean"), mass_recovered=("mass_recovered", "mean"), n=("text_id", "nunique")
    )
    return found.reset_index()


# ---------------------------------------------------------------------- several runs


def compare_all(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns `comparison`: what each policy costs, in the cells that all runs have. Runs are given by label, the column `run`.

    Raises ArgumentError when no cell is in all of them.
    """
    cells = GROUPS
    values = ["change_nats", "ci_low", "ci_high", "recall", "recall_ci_low", "recall_ci_high", "n", "n_layers"]
    together = pd.concat(
        [tables["policies"].assign(run=run)[["run", "model", *cells, *values]] for run, tables in runs.items()],
        ignore_index=True,
    )
    in_all = together.groupby(cells)["run"].transform("nunique") == len(runs)
    if not (in_all & (together["policy"] != "full")).any():
        raise ArgumentError(
            "These runs have no policy, budget and protection in common but the full cache: give them the same settings."
        )
    return {"comparison": together[in_all].reset_index(drop=True)}


def compare_variants(settings: Settings, grid: pd.DataFrame, heads: pd.DataFrame) -> pd.DataFrame:
    """Returns the difference of every pair that was run, paired by text, with its interval; under the first protection.

    `grid` has a row for each text and condition, `heads` one for each of their heads.
    """
    keys = [*CELL, "text_id", "policy"]
    first = settings.protections[0]
    losses = heads[heads["protection"] == first].groupby(keys, sort=False, as_index=False)[list(QUANTITIES[2:])].mean()
    rows = grid[grid["protection"] == first][[*keys, *QUANTITIES[:2]]].merge(losses, on=keys)
    found = []
    for policy, against, choice in VARIANTS:
        pair = rows[rows["policy"] == policy].merge(
            rows[rows["policy"] == against], on=[*CELL, "text_id"], suffixes=("", "_against")
        )
        for quantity in QUANTITIES if len(pair) else ():
            kind = "share" if quantity == "recall" else "mean"
            value = estimates(
                pair, CELL, quantity, "text_id", minus=f"{quantity}_against", kind=kind, seed=settings.seed
            )
            found.append(value.assign(policy=policy, against=against, choice=choice, quantity=quantity))
    columns = [*CELL, "value", "ci_low", "ci_high", "n", "n_rows", "policy", "against", "choice", "quantity"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)
