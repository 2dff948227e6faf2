"""Every detector's list of heads, best first."""

from collections.abc import Sequence

import pandas as pd

from interp.statistics import Array, top_indices
from interp.tables import Tables
from probes.retrieval_heads.totals import Head, detection_totals


def rankings_of(measured: Tables, *, only_passed: bool) -> dict[str, list[Head]]:
    """Returns all heads in falling order of score, for every detector that has scores."""
    rankings = {
        name: ranked_heads(total.heads, total.means())
        for name, total in detection_totals(measured, only_passed=only_passed).items()
    }
    echo = echo_induction_means(measured)
    heads = [(int(layer), int(head)) for layer, head in zip(echo["layer"], echo["head"], strict=True)]
    for name in ("echo", "induction"):
        if heads:
            rankings[name] = ranked_heads(heads, echo[name].to_numpy())
    return rankings


def ranked_heads(heads: Sequence[Head], scores: Array) -> list[Head]:
    """Returns heads in falling order of their score, equal scores in layer-major order."""
    return [heads[index] for index in top_indices(scores, len(heads))]


def echo_induction_means(measured: Tables) -> pd.DataFrame:
    """Returns echo and induction scores of every query head, averaged over draws, in layer-major order."""
    return (
        measured["echo_induction"]
        .groupby(["layer", "head", "kv_head"], as_index=False)[["echo", "induction"]]
        .mean()
        .sort_values(["layer", "head"], ignore_index=True)
    )
