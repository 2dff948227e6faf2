"""The causal test: forbid a token and see whether the answer comes out right after all."""

from math import comb

import pandas as pd

from interp.statistics import share_estimate
from interp.tables import Tables
from probes.critical_tokens.summarise import first_tokens

CONDITIONS = ("kept", "forbidden", "random", "entropy")
"""The critical token kept; forbidden; a random other token forbidden; the one nearest in entropy forbidden."""
KS = (1, 2, 4, 8, 16, 32, 64)


def pass_at_k(right: int, n: int, k: int) -> float:
    """Returns the chance that at least one of k rollouts is right, without bias from n: 1 − C(n − right, k) / C(n, k).

    Chen et al. 2021, Evaluating Large Language Models Trained on Code, equation 1.
    Raises ValueError unless 0 <= right <= n and 1 <= k <= n.
    """
    if not (0 <= right <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} cannot be told from {right} right of {n} rollouts")
    return 1 - comb(n - right, k) / comb(n, k)


def causal_counts(measured: Tables, critical: pd.DataFrame) -> pd.DataFrame:
    """Returns right rollouts and all rollouts by definition, trajectory and condition of the causal test.

    Arms are named condition-position after the critical token that they test; two definitions may share one.
    """
    rollouts = measured["rollouts"]
    named = rollouts["arm"].str.extract(r"^(?P<condition>kept|forbidden|random|entropy)-(?P<position>\d+)$")
    rows = rollouts.assign(condition=named["condition"], position=named["position"]).dropna(subset=["condition"])
    rows["position"] = rows["position"].astype(int)
    tokens = first_tokens(critical)[["trajectory_id", "definition", "position"]]
    both = tokens.merge(rows, on=["trajectory_id", "position"])
    grouped = both.groupby(["model", "definition", "condition", "trajectory_id"], sort=False)["right"]
    return grouped.agg(n_right="sum", n="size").reset_index()


def summarise_replacement(measured: Tables, critical: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `replacement`: pass@k by definition and condition, mean over trajectories."""
    if not len(critical):
        return pd.DataFrame()
    problems = measured["trajectories"].set_index("trajectory_id")["problem_id"]
    rows = []
    for (model, definition, condition), group in causal_counts(measured, critical).groupby(
        ["model", "definition", "condition"], sort=False
    ):
        for k in (k for k in KS if k <= group["n"].min()):
            passed = [pass_at_k(int(right), int(n), k) for right, n in zip(group["n_right"], group["n"], strict=True)]
            mean = share_estimate(passed, problems[group["trajectory_id"]].to_numpy(), seed=seed)
            rows.append(
                {
                    "model": model,
                    "definition": definition,
                    "condition": condition,
                    "k": k,
                    "pass_at_k": mean.value,
                    "ci_low": mean.ci_low,
                    "ci_high": mean.ci_high,
                    "n_trajectories": len(group),
                }
            )
    return pd.DataFrame(rows)
