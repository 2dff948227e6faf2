"""The causal test: forbid a token and see whether the answer comes out right after all."""

import numpy as np
import pandas as pd
from scipy.special import gammaln

from interp.statistics import mean_estimate
from interp.tables import Tables

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
    wrong = n - right
    if wrong < k:
        return 1.0
    log_share = gammaln(wrong + 1) - gammaln(wrong - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return float(1 - np.exp(log_share))


def summarise_replacement(measured: Tables, seed: int) -> pd.DataFrame:
    """Returns `replacement`: pass@k by definition and condition, mean over trajectories."""
    rollouts = measured["rollouts"]
    rollouts = rollouts[rollouts["arm"].str.startswith("replace-")]
    problems = measured["trajectories"].set_index("trajectory_id")["problem_id"]
    rows = []
    for arm, group in rollouts.groupby("arm", sort=False):
        _, definition, condition = str(arm).split("-")
        counts = group.groupby("trajectory_id")["right"].agg(["sum", "size"])
        n = int(counts["size"].min())
        for k in (k for k in KS if k <= n):
            passed = [pass_at_k(int(row["sum"]), int(row["size"]), k) for _, row in counts.iterrows()]
            mean = mean_estimate(passed, problems[counts.index].to_numpy(), seed=seed)
            rows.append(
                {
                    "model": group["model"].iloc[0],
                    "definition": definition,
                    "condition": condition,
                    "k": k,
                    "pass_at_k": mean.value,
                    "ci_low": mean.ci_low,
                    "ci_high": mean.ci_high,
                    "n_trajectories": len(counts),
                }
            )
    return pd.DataFrame(rows)
