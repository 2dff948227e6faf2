"""What a run generated, beside what 64 rollouts at every position would have."""

import numpy as np
import pandas as pd

from interp.tables import Tables

STAGES = {
    "scan": "curve and paper's rule",
    "brute": "curve and paper's rule",
    "without": "confirmation",
    "after": "confirmation",
}


def summarise_cost(measured: Tables, n_rollouts: int) -> pd.DataFrame:
    """Returns `cost` by trajectory and stage.

    brute_tokens: n_rollouts at each position, each as long as the trajectory's remaining tokens (the paper's own accounting).
    """
    branches, rollouts = measured["branches"], measured["rollouts"]
    if not len(branches):
        return pd.DataFrame()
    lengths = measured["spines"].groupby("trajectory_id").size()
    stage = branches["arm"].map(STAGES).fillna("causal test")
    costs = branches.groupby(["model", "trajectory_id", stage.rename("stage")], sort=False)["n_tokens"].agg(
        ["size", "sum"]
    )
    draws = rollouts.groupby(["trajectory_id", rollouts["arm"].map(STAGES).fillna("causal test")]).size()
    table = costs.reset_index().rename(columns={"size": "n_branches", "sum": "generated_tokens"})
    n = table["trajectory_id"].map(lengths).to_numpy()
    table["n_draws"] = [int(draws[id, one]) for id, one in zip(table["trajectory_id"], table["stage"], strict=True)]
    table["brute_tokens"] = n_rollouts * n * (n + 1) / 2.0
    table["n_branches"] = table["n_branches"].astype(np.int64)
    return table
