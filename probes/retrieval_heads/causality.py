"""What changing heads did: recall lost and surprisal gained, paired with no change and with random heads."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.heads.kinds import GIVEN
from interp.statistics import mean_estimate, paired_difference, share_estimate

_CONDITION = ["condition", "ranking", "k", "mode", "phase"]
_OUTCOMES = {"recall": -1.0, "prose_surprisal_nats": 1.0}
"""Outcomes, and the sign that makes harm positive."""


def summarise_ablation(ablation: pd.DataFrame, model: str, seed: int) -> pd.DataFrame:
    """Returns `ablation_summary`: every condition's means and paired differences, with intervals over needles.

    Random draws are averaged within each question first. Differences pair the same question (or passage): against no
    change, and against the random heads of the same k, mode and phase; the given ranking has random heads of its own layers.
    """
    rows = []
    for needles, table in _needle_sets(ablation):
        per_question = table.groupby([*_CONDITION, "sample_id", "needle_id"], as_index=False, sort=False).agg(
            recall=("recall", "mean"),
            prose_surprisal_nats=("prose_surprisal_nats", "mean"),
            n_draws=("draw", "nunique"),
        )
        unchanged = per_question[per_question["condition"] == "none"].set_index("sample_id")
        for names, group in per_question.groupby(_CONDITION, sort=False):
            condition = dict(zip(_CONDITION, names, strict=True))
            control = _random_control(per_question, condition)
            for outcome, sign in _OUTCOMES.items():
                rows.append(
                    {
                        "model": model,
                        **condition,
                        "needles": needles,
                        "outcome": outcome,
                        **_differences(group, unchanged, control, outcome, sign, seed),
                        "n_draws": int(group["n_draws"].max()),
                        "n_needles": group["needle_id"].nunique(),
                    }
                )
    return pd.DataFrame(rows)


def _needle_sets(ablation: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", ablation
    for literal, name in ((True, "literal"), (False, "non-literal")):
        part = ablation[ablation["literal"] == literal]
        if len(part):
            yield name, part


def _random_control(per_question: pd.DataFrame, condition: Mapping[str, Any]) -> pd.DataFrame | None:
    """The random draws a top set is held against; None where there are none."""
    if condition["condition"] != "top":
        return None
    same = (per_question["condition"] == "random") & (per_question["k"] == condition["k"])
    same &= (per_question["mode"] == condition["mode"]) & (per_question["phase"] == condition["phase"])
    same &= (per_question["ranking"] == GIVEN) == (condition["ranking"] == GIVEN)
    return per_question[same].set_index("sample_id") if bool(same.any()) else None


def _differences(
    group: pd.DataFrame, unchanged: pd.DataFrame, control: pd.DataFrame | None, outcome: str, sign: float, seed: int
) -> dict[str, float]:
    values, clusters = group[outcome].to_numpy(), group["needle_id"].to_numpy()
    mean = (share_estimate if outcome == "recall" else mean_estimate)(values, clusters, seed=seed)
    before = unchanged.loc[group["sample_id"], outcome].to_numpy()
    lost = paired_difference(sign * values, sign * before, clusters, seed=seed)
    found = {
        "mean": mean.value,
        "ci_low": mean.ci_low,
        "ci_high": mean.ci_high,
        "lost": lost.value,
        "lost_ci_low": lost.ci_low,
        "lost_ci_high": lost.ci_high,
        "beyond_random": np.nan,
        "beyond_random_ci_low": np.nan,
        "beyond_random_ci_high": np.nan,
    }
    if control is not None:
        random = control.loc[group["sample_id"], outcome].to_numpy()
        beyond = paired_difference(sign * values, sign * random, clusters, seed=seed)
        found["beyond_random"], found["beyond_random_ci_low"], found["beyond_random_ci_high"] = beyond[:3]
    return found
