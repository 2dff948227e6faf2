"""All summary tables of a retrieval-head run, put together from its measured tables."""

from collections.abc import Mapping

import pandas as pd

from interp.heads.kinds import GIVEN
from interp.models.identity import ModelFacts
from interp.tables import Tables, empty
from probes.retrieval_heads.agreement import summarise_agreement
from probes.retrieval_heads.causality import summarise_ablation
from probes.retrieval_heads.rankings import echo_induction_means
from probes.retrieval_heads.reliability import summarise_convergence, summarise_reliability
from probes.retrieval_heads.settings import Settings
from probes.retrieval_heads.summarise import (
    summarise_head_scores,
    summarise_kv_heads,
    summarise_needles,
    summarise_sparsity,
)
from probes.retrieval_heads.tables import SCHEMAS
from probes.retrieval_heads.totals import detection_totals


def summarise_all(settings: Settings, facts: ModelFacts, measured: Tables) -> Mapping[str, pd.DataFrame]:
    """Returns every summary table; those that have nothing to say are empty, with their columns."""
    assert facts.geometry is not None
    name, seed = facts.name, settings.seed
    totals = detection_totals(measured, only_passed=settings.success_filter)
    echo = echo_induction_means(measured)
    scores = summarise_head_scores(totals, echo, facts.geometry.group_size, name, seed)
    k = min(settings.other_k, facts.geometry.n_layers * facts.geometry.n_heads)
    fixed = {detector: echo[detector].to_numpy() for detector in ("echo", "induction") if len(echo)}
    given = settings.given(facts)
    if given is not None and len(given) == facts.geometry.n_layers * facts.geometry.n_heads:
        fixed[GIVEN] = given.sort_values(["layer", "head"])["score"].to_numpy()
    ablation = measured["ablation"]
    tables = {
        "head_scores": scores,
        "sparsity": summarise_sparsity(totals, name, seed),
        "kv_head_scores": summarise_kv_heads(scores),
        "needle_recall": summarise_needles(measured["samples"], name),
        "reliability": summarise_reliability(totals, name, seed),
        "convergence": summarise_convergence(totals, settings.until_stable or k, name, seed),
        "ablation_summary": summarise_ablation(ablation, name, seed),
        "agreement": summarise_agreement(totals, fixed, k=k, model=name, seed=seed),
        **({} if given is None else {GIVEN: given}),
    }
    return {name: table if len(table) else empty(SCHEMAS[name]) for name, table in tables.items()}
