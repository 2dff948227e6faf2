"""Measured tables of a few heads, samples and needles, small enough to work out by hand."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.tables import empty
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.findings import find_all
from probes.retrieval_heads.rankings import NeedleTotals, detection_totals
from probes.retrieval_heads.summaries import summarise_head_scores
from probes.retrieval_heads.tables import SCHEMAS

Scores = Mapping[str, Sequence[Sequence[float]]]
"""By needle, for each sample the score of every head; the heads are 0-0, 0-1, 1-0, 1-1, … ."""
NO_ECHO = pd.DataFrame({"layer": [], "head": [], "kv_head": [], "echo": [], "induction": []})


def measured(sets: Scores, *, failed: Sequence[str] = (), locos: Scores | None = None, echo: Sequence[float] = ()):
    """The measured tables of those set scores; count scores are twice as large. Samples are named "needle/number"."""

    def long(scores: Scores, column: str) -> list[dict]:
        return [
            {"needle_id": needle, "sample_id": f"{needle}/{n}", "layer": i // 2, "head": i % 2, column: value}
            for needle, samples in scores.items()
            for n, sample in enumerate(samples)
            for i, value in enumerate(sample)
        ]

    names = [(needle, f"{needle}/{n}", True) for needle, samples in sets.items() for n in range(len(samples))]
    names += [(needle, f"{needle}/none", False) for needle in sets]
    samples = pd.DataFrame(names, columns=["needle_id", "sample_id", "has_needle"])
    passed = samples["has_needle"] & ~samples["sample_id"].isin(failed)
    scores = pd.DataFrame(long(sets, "set_score"))
    heads = np.arange(len(echo))
    echoes = {"draw": 0, "layer": heads // 2, "head": heads % 2, "kv_head": 0, "echo": echo, "induction": echo[::-1]}
    contributions = pd.DataFrame(long(locos, "score")) if locos else empty(SCHEMAS["logit_contribution"])
    return {
        "samples": samples.assign(
            literal=True, passed=passed, recall=passed.astype(float), near_ties=0, generated_text=""
        ).assign(depth_fraction=0.5, reached_depth_fraction=0.5),
        "sample_head_scores": scores.assign(count_score=2 * scores["set_score"]),
        "logit_contribution": contributions.assign(definition="locos"),
        "echo_induction": pd.DataFrame(echoes) if echo else empty(SCHEMAS["echo_induction"]),
        "ablation": empty(SCHEMAS["ablation"]),
    }


def totals(sets: Scores) -> NeedleTotals:
    return detection_totals(measured(sets), only_passed=False)["set"]


def report(settings: RetrievalHeads, tables: dict, **summaries: pd.DataFrame) -> list[str]:
    """The report's sentences, from the head scores and those summaries alone."""
    totals = detection_totals(tables, only_passed=settings.success_filter)
    scores = summarise_head_scores(totals, NO_ECHO, 2, 0)
    nothing = {name: empty(schema) for name, schema in SCHEMAS.items()}
    found = find_all(settings, {**nothing, **tables, "head_scores": scores, **summaries})
    return [finding.text for finding in found]


FACTS = ModelFacts(ModelIdentity("tiny", "tests", "0", "float32"), "llama", HeadGeometry(2, 2, 1, 8), 512)
TWO = {"a": [[1.0, 0, 0, 0.5], [0.5, 0, 0, 0.5]], "b": [[0, 0, 0.2, 0.5]]}
"""Three samples of two needles; the heads' means are 1.5/3, 0, 0.2/3 and 1.5/3."""

NOISE = {f"n{n:02d}": [row.tolist()] for n, row in enumerate(np.random.default_rng(1).random((16, 40)))}
