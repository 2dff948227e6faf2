"""The summary tables of the joins: critical beside function tokens, the lift of attention. No model."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.statistics import Estimate, bootstrap_interval, cluster_weights, share_difference, share_estimate
from interp.tables import empty
from probes.joined.class_mass import FUNCTION, WORDS, Head, Masses, Sums, heads_of, share_of
from probes.joined.tables import CONTROLS, GROUPS, TOKEN_RULES, CriticalMatches, CriticalOverlap

DRAWS = 2000
SHUFFLES = 10_000
NUMBER = "number"
"""As a critical_tokens run names the class."""


# ---------------------------------------------------------------------- critical and function tokens


def token_rules(positions: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """Returns `positions` with a column per rule that says whether its token is a function token by it.

    frequency: among the most frequent tokens of prose, as the function_tokens run has them (`classes`); a token that its
    texts lack is none. frequent words: of these, those made of letters. word list: the closed list of function words that
    the critical_tokens run uses.
    """
    function = classes[classes["token_class"] == FUNCTION]
    words = function[function["kind"].isin(WORDS)]
    return positions.assign(
        **{
            "frequency": positions["token_id"].isin(function["token_id"]),
            "frequent words": positions["token_id"].isin(words["token_id"]),
            "word list": positions["token_class"] == FUNCTION,
        }
    )


def match_critical(positions: pd.DataFrame, critical: pd.DataFrame, *, nearby: int, uncertainty: float) -> pd.DataFrame:
    """Returns `critical_matches`: each critical token beside the tokens of its own trajectory that are not critical.

    `positions` has the columns of `token_rules`; `critical` is the critical_tokens run's. Controls, none of them critical by
    the same definition: others, all; nearby, at most `nearby` positions away; uncertain, 1 − p at least `uncertainty`,
    as it must be for a token to be tested at all.
    """
    by_trajectory = {str(name): rows.sort_values("position") for name, rows in positions.groupby("trajectory_id")}
    rows = [
        row
        for (definition, name), found in critical.groupby(["definition", "trajectory_id"], sort=False)
        for row in _matches(str(definition), by_trajectory[str(name)], set(found["position"]), nearby, uncertainty)
    ]
    return pd.DataFrame(rows) if rows else empty(CriticalMatches)


def _matches(
    definition: str, tokens: pd.DataFrame, critical: set[int], nearby: int, uncertainty: float
) -> Iterator[dict[str, Any]]:
    place = tokens["position"].to_numpy()
    other = ~np.isin(place, list(critical))
    uncertain = 1 - tokens["p"].to_numpy() >= uncertainty
    for token in tokens[~other].to_dict("records"):
        sets = {
            "others": other,
            "nearby": other & (np.abs(place - token["position"]) <= nearby),
            "uncertain": other & uncertain,
        }
        for rule in TOKEN_RULES:
            for control, chosen in sets.items():
                yield {
                    "definition": definition,
                    "token_rule": rule,
                    "control": control,
                    "trajectory_id": token["trajectory_id"],
                    "position": token["position"],
                    "token": token["token"],
                    "is_number": token["token_class"] == NUMBER,
                    "is_function": bool(token[rule]),
                    "control_share": float(tokens[rule].to_numpy()[chosen].mean()) if chosen.any() else float("nan"),
                    "n_control": int(chosen.sum()),
                }


def summarise_overlap(matches: pd.DataFrame, positions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns `critical_overlap` from `critical_matches` and the tokens of all trajectories.

    Difference: mean over critical tokens of (function or not − share at its control positions), whole trajectories
    resampled. shuffled: as many critical tokens dealt to random positions of each trajectory.
    """
    rows = []
    for (definition, rule, control), part in matches.groupby(["definition", "token_rule", "control"], sort=False):
        named = {"definition": definition, "token_rule": rule}
        matched = part.dropna(subset="control_share")
        if len(matched):
            rows.append({**named, "control": control, **_against_control(matched, seed)})
        if control == CONTROLS[0]:
            rows.append({**named, "control": CONTROLS[-1], **_against_shuffles(part, positions, str(rule), seed)})
    if not rows:
        return empty(CriticalOverlap)
    return pd.DataFrame(rows)


def _against_control(matched: pd.DataFrame, seed: int) -> dict[str, Any]:
    clusters, function, control = matched["trajectory_id"], matched["is_function"], matched["control_share"]
    return {
        **share_estimate(function, clusters, draws=DRAWS, seed=seed).columns("share_critical"),
        **share_estimate(control, clusters, draws=DRAWS, seed=seed).columns("share_control"),
        **share_difference(function, control, clusters, draws=DRAWS, seed=seed).columns("difference"),
        "p_value": float("nan"),
        "n_critical": len(matched),
        "n_trajectories": int(clusters.nunique()),
    }


def _against_shuffles(part: pd.DataFrame, positions: pd.DataFrame, rule: str, seed: int) -> dict[str, Any]:
    observed = share_estimate(part["is_function"], part["trajectory_id"], draws=DRAWS, seed=seed)
    dealt = shuffled_shares(part["trajectory_id"].value_counts(sort=False).to_dict(), positions, rule, seed)
    mean = float(dealt.mean())
    low, high = np.percentile(dealt, [2.5, 97.5])
    as_far = np.abs(dealt - mean) >= abs(observed.value - mean) - 1e-12
    difference = Estimate(observed.value - mean, observed.ci_low - mean, observed.ci_high - mean, observed.n)
    return {
        **observed.columns("share_critical"),
        **Estimate(mean, float(low), float(high), observed.n).columns("share_control"),
        **difference.columns("difference"),
        "p_value": float((1 + as_far.sum()) / (1 + len(dealt))),
        "n_critical": len(part),
        "n_trajectories": int(part["trajectory_id"].nunique()),
    }


def shuffled_shares(counts: dict[Any, int], positions: pd.DataFrame, rule: str, seed: int) -> NDArray[np.float64]:
    """Returns the share of function tokens in each shuffle: in every trajectory as many random positions as `counts` says."""
    generator = np.random.default_rng(seed)
    hits = np.zeros(SHUFFLES)
    for name, n_critical in counts.items():
        function = positions.loc[positions["trajectory_id"] == name, rule].to_numpy()
        n_function = int(function.sum())
        hits += generator.hypergeometric(n_function, len(function) - n_function, n_critical, SHUFFLES)
    return hits / sum(counts.values())


# ---------------------------------------------------------------------- attention to function tokens


def summarise_lift(
    class_mass: pd.DataFrame, top: Sequence[Head], random: Sequence[Sequence[Head]], seed: int
) -> pd.DataFrame:
    """Returns `attention_lift`: the lift of each group for the top heads, random heads (all draws together) and all heads.

    Lift = Σ mass on the group / Σ mass it would get evenly spread, over texts, queries and heads: a head counts as much as
    it looks back at all. Top and random are resampled together, so their difference has an interval of its own.
    """
    rows = []
    for (context, region), part in class_mass.groupby(["context", "region"], sort=False):
        masses = Masses(part)
        sets = {"top": list(top), "random": [head for draw in random for head in draw], "all": masses.heads}
        for group in GROUPS:
            sums = {name: masses.of(heads, group) for name, heads in sets.items()}
            named = {"context": context, "region": region, "token_group": group}
            for row in _lift_rows(sums, masses.n_texts, seed):
                rows.append({**named, **row, "n_draws": len(random) if row["heads"] != "all" else 0})
    return pd.DataFrame(rows)


def _lift_rows(sums: Mapping[str, Sums], n_texts: int, seed: int) -> Iterator[dict[str, Any]]:
    once, drawn = np.ones((1, n_texts)), cluster_weights(n_texts, DRAWS, seed)
    lifts = {name: (own.lift(once), own.lift(drawn)) for name, own in sums.items()}
    lifts["top − random"] = tuple(a - b for a, b in zip(lifts["top"], lifts["random"], strict=True))  # type: ignore[assignment]
    for name, (value, draws) in lifts.items():
        own = sums.get(name)
        low, high = bootstrap_interval(value[0], draws, n_texts, (0.0 if own else -np.inf, np.inf))
        yield {
            "heads": name,
            "lift": float(value[0]),
            "ci_low": float(low),
            "ci_high": float(high),
            "mass_share": share_of(own.mass, own.total) if own else float("nan"),
            "even_share": share_of(own.even, own.total) if own else float("nan"),
            "first_share": share_of(own.first, own.attention) if own else float("nan"),
            "n_texts": n_texts,
        }


def summarise_heads(class_mass: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Returns `head_lift`: every head's lift of function tokens beside its score; `scores` has layer, head, score."""
    ranked = scores.sort_values(["layer", "head"]).sort_values("score", ascending=False, kind="stable")
    rank = {
        head: (index, float(score))
        for index, (head, score) in enumerate(zip(heads_of(ranked), ranked["score"], strict=True), start=1)
    }
    rows = []
    for (context, region), part in class_mass.groupby(["context", "region"], sort=False):
        masses = Masses(part)
        for layer, head in masses.heads:
            own = masses.of([(layer, head)], "function")
            rows.append(
                {
                    "context": context,
                    "region": region,
                    "layer": layer,
                    "head": head,
                    "retrieval_score": rank[layer, head][1],
                    "retrieval_rank": rank[layer, head][0],
                    "lift": float(own.lift(np.ones((1, masses.n_texts)))[0]),
                    "mass_share": share_of(own.mass, own.total),
                    "first_share": share_of(own.first, own.attention),
                }
            )
    return pd.DataFrame(rows)
