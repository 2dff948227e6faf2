"""All summary tables of a critical-token run, from its measured tables alone."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from interp.estimates import estimates
from interp.sequential import pairs_needed
from interp.statistics import wilson_interval
from interp.tables import Tables, empty
from probes.critical_tokens.audit import audit_all
from probes.critical_tokens.critical import causal_counts, critical_tokens, curve_draws, tested
from probes.critical_tokens.plan import calibration_problem_ids, usable_levels
from probes.critical_tokens.scores import agreement_row, certified, pass_at_k
from probes.critical_tokens.settings import Settings
from probes.critical_tokens.tables import SCHEMAS

KS = (1, 2, 4, 8, 16, 32, 64)
STAGES = {
    "scan": "curve and paper's rule",
    "brute": "curve and paper's rule",
    "without": "confirmation",
    "after": "confirmation",
}


def summarise_all(settings: Settings, model: str, measured: Tables) -> Mapping[str, pd.DataFrame]:
    """Returns every summary table; tables without data are empty but have their columns."""
    responses = measured["trajectories"]
    usable = usable_levels(settings, model, responses)
    critical = critical_tokens(settings, measured)
    tables = {
        "levels": summarise_levels(responses, usable, calibration_problem_ids(settings), settings.seed),
        "positions": summarise_positions(settings, measured),
        "candidates": summarise_candidates(settings, measured),
        "critical": critical,
        "replacement": summarise_replacement(measured, critical, settings.seed),
        "agreement": summarise_agreement(measured, critical, settings.seed),
        "cost": summarise_cost(measured, settings.rule_rollouts),
    }
    tables = {name: table if len(table) else empty(SCHEMAS[name]) for name, table in tables.items()}
    return {**tables, "audit": audit_all(settings, measured, tables)}


def summarise_levels(responses: pd.DataFrame, usable: list[str], first: set[str], seed: int) -> pd.DataFrame:
    """Returns `levels`: success by level over its calibration problems."""
    rows = responses[responses["problem_id"].isin(first)]
    rows = rows.assign(**{name: rows["outcome"] == name for name in ("right", "wrong", "unextracted")})
    success = estimates(rows, ["level"], value="right", over="problem_id", kind="share", seed=seed)
    counts = rows.groupby("level").agg(
        n_right=("right", "sum"),
        n_wrong=("wrong", "sum"),
        n_unextracted=("unextracted", "sum"),
        share_unextracted=("unextracted", "mean"),
        share_unended=("ended", lambda ended: (~ended).mean()),
        mean_tokens=("n_tokens", "mean"),
    )
    table = success.rename(columns={"value": "success", "n": "n_problems", "n_rows": "n_responses"})
    return table.join(counts, on="level").assign(usable=table["level"].isin(usable))


def summarise_positions(settings: Settings, measured: Tables) -> pd.DataFrame:
    """Returns `positions`: V before and after every token of every analysed trajectory."""
    parts = []
    for id, spine in measured["spines"].groupby("trajectory_id", sort=False):
        draws = curve_draws(settings, measured, str(id))
        by_kept = draws.groupby("kept")
        right, n = by_kept["right"].sum(), by_kept.size()
        recycled = (draws["branched_at"] > draws["kept"]).groupby(draws["kept"]).sum()
        after = np.arange(1, len(spine) + 1)
        intervals = [
            wilson_interval(int(right[k]), int(n[k]), 1 - settings.alpha) if k < len(spine) else None for k in after
        ]
        parts.append(
            spine[["trajectory_id", "position", "token_id", "token", "token_class", "p", "entropy_nats"]].assign(
                value_before=(right / n).to_numpy()[:-1],
                value=(right / n).to_numpy()[1:],
                # Behind the last token the outcome is known, not estimated.
                ci_low=[0.0 if one is None else one.ci_low for one in intervals],
                ci_high=[0.0 if one is None else one.ci_high for one in intervals],
                n_rollouts=(n - recycled).to_numpy()[1:],
                n_recycled=recycled.to_numpy()[1:],
                certified=certified(spine["p"].to_numpy(), settings.effect),
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def summarise_candidates(settings: Settings, measured: Tables) -> pd.DataFrame:
    """Returns `candidates`: the evidence of fresh pairs on every candidate token."""
    rows = []
    for id, spine in measured["spines"].groupby("trajectory_id", sort=False):
        found = tested(settings, measured, str(id))
        p = spine["p"].to_numpy()
        for one in found:
            sought, null = settings.effect / (1 - p[one.token]), settings.margin / (1 - p[one.token])
            needed = pairs_needed(min(sought, 0.999), null, settings.alpha / (2 * len(found)))
            rows.append(
                {
                    "trajectory_id": id,
                    "position": one.token,
                    "p": p[one.token],
                    "n_pairs": one.n_pairs,
                    "value_without": one.without,
                    "value_after": one.after,
                    "drop": one.drop,
                    "ci_low": one.drop_low,
                    "ci_high": one.drop_high,
                    "log_e_drop": one.log_e_drop,
                    "log_e_rise": one.log_e_rise,
                    "pairs_needed": -1 if needed is None else needed,
                }
            )
    return pd.DataFrame(rows)


def summarise_replacement(measured: Tables, critical: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `replacement`: pass@k by definition and condition, mean over trajectories."""
    if not len(critical):
        return pd.DataFrame()
    by = ["definition", "condition"]
    counts = causal_counts(measured, critical).join(
        measured["trajectories"].set_index("trajectory_id")["problem_id"], on="trajectory_id"
    )
    fewest = counts.groupby(by)["n"].transform("min")
    counts = counts.assign(fewest=fewest).merge(pd.Series(KS, name="k"), how="cross").query("k <= fewest")
    passed = [pass_at_k(*row) for row in counts[["n_right", "n", "k"]].to_numpy().tolist()]
    found = estimates(
        counts.assign(pass_at_k=passed), [*by, "k"], value="pass_at_k", over="problem_id", kind="share", seed=seed
    )
    return found.rename(columns={"value": "pass_at_k", "n_rows": "n_trajectories"}).drop(columns="n")


def summarise_agreement(measured: Tables, critical: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `agreement`: every score against the confirmed cliffs; bootstrap intervals resample trajectories.

    1 − p has a start: the bound lets only tokens with a large 1 − p be cliffs. Empty where no cliff was confirmed.
    """
    spines = measured["spines"]
    cliffs = critical[critical["definition"] == "cliff"]
    if not len(cliffs) or not len(spines):
        return pd.DataFrame()
    keys = ["trajectory_id", "position"]
    table = spines.merge(cliffs[keys].assign(positive=True), on=keys, how="left")
    table = table.merge(measured["contrastive"].drop(columns="model"), on=keys, how="left")
    positive = table["positive"].notna().to_numpy()
    scores = {
        "surprisal": table["surprisal_nats"].to_numpy(),
        "entropy": table["entropy_nats"].to_numpy(),
        "1 - p": 1 - table["p"].to_numpy(),
        "position": table["position"].to_numpy(dtype=float),
        "random": np.random.default_rng([seed, 5]).random(len(table)),
    }
    if table["score"].notna().all():
        scores = {"contrastive": 1 - table["score"].to_numpy()} | scores
    names = table["trajectory_id"].to_numpy()
    return pd.DataFrame([agreement_row(name, score, positive, names, seed) for name, score in scores.items()])


def summarise_cost(measured: Tables, n_rollouts: int) -> pd.DataFrame:
    """Returns `cost` by trajectory and stage.

    brute_tokens: n_rollouts at each position, each as long as the trajectory's remaining tokens (the paper's own accounting).
    """
    branches, rollouts = measured["branches"], measured["rollouts"]
    if not len(branches):
        return pd.DataFrame()
    lengths = measured["spines"].groupby("trajectory_id").size()
    stage = branches["arm"].map(STAGES).fillna("causal test")
    costs = branches.groupby(["trajectory_id", stage.rename("stage")], sort=False)["n_tokens"].agg(["size", "sum"])
    draws = rollouts.groupby(["trajectory_id", rollouts["arm"].map(STAGES).fillna("causal test")]).size()
    table = costs.reset_index().rename(columns={"size": "n_branches", "sum": "generated_tokens"})
    n = table["trajectory_id"].map(lengths).to_numpy()
    table["n_draws"] = [int(draws[id, one]) for id, one in zip(table["trajectory_id"], table["stage"], strict=True)]
    table["brute_tokens"] = n_rollouts * n * (n + 1) / 2.0
    table["n_branches"] = table["n_branches"].astype(np.int64)
    return table
