"""Head scores in the formats of other tools: written for each of them from a run, and read for comparisons."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from interp.heads.duo_pattern import write_config, write_gates
from interp.heads.files import read_heads, read_json
from interp.heads.kinds import KINDS
from interp.heads.places import PATTERN_FILE
from interp.heads.score_files import head_means, sample_scores
from interp.tables import Tables
from probes.retrieval_heads.rankings import scored_rows

READABLE = (".json", ".tsv", ".txt", ".yaml", ".yml")
"""Suffixes of files that `compare` looks into."""
QRHEAD_HEADS = 16
"""How many heads QRHead uses on models of up to 8B."""


def write_public_scores(sample_head_scores: pd.DataFrame, value: str) -> str:
    """Returns the JSON text of one score column, heads in layer-major order, samples in table order.

    Every number is written in full: rounded, heads whose means are equal would no longer be. HeadKV reads this file as it is:
    one line, every head, in this order.
    """
    return json.dumps(_by_head(sample_head_scores, value))


def write_locos_scores(contributions: pd.DataFrame, model: str) -> str:
    """Returns the JSON text of the `locos` contributions in LOCOS' own envelope; samples without an answer step are left out."""
    scored = contributions[contributions["definition"] == "locos"].dropna(subset=["score"])
    n_samples = int(scored["sample_id"].nunique())
    meta = {"method": "logit_contribution", "model": model, "num_trials_passed": n_samples}
    return json.dumps({"meta": meta, "scores": _by_head(scored, "score")})


def write_duo_pattern(kv_head_scores: pd.DataFrame, definition: str, model: str) -> Mapping[str, str]:
    """Returns a DuoAttention pattern by path: the gate of a key-value head is the largest score of the query heads that share it.

    `kv_head_scores` is the table of that name. Gates are scores, not trained: choose heads by sparsity, not by a threshold of 0.5.
    """
    scores = kv_head_scores[kv_head_scores["definition"] == definition].rename(columns={"max_score": "score"})
    what = f"{KINDS[definition].text}, largest of the query heads that share a key-value head"
    folder = "duo_attention"
    return {f"{folder}/{PATTERN_FILE}": write_gates(scores), f"{folder}/config.json": write_config(model, what)}


def write_qrhead_set(head_scores: pd.DataFrame, definition: str, model: str) -> str:
    """Returns a configuration of QRHead with the best heads by one definition (layer, head, score), best first."""
    scores = head_scores[head_scores["definition"] == definition].sort_values(["layer", "head"])
    best = scores.sort_values("score", ascending=False, kind="stable").head(QRHEAD_HEADS)
    names = ",".join(f"{layer}-{head}" for layer, head in zip(best["layer"], best["head"], strict=True))
    return f'# The {len(best)} best heads of {model} by {KINDS[definition].text}\nattn_head_set: "{names}"\n'


def documents_of(tables: Tables, *, definition: str, only_passed: bool) -> dict[str, str]:
    """Returns a run's scores in the formats of other tools, by path; nothing of a table that has no scores."""
    scores = scored_rows(tables, "sample_head_scores", only_passed=only_passed)
    documents = {f"head_score_{name}.json": write_public_scores(scores, f"{name}_score") for name in ("set", "count")}
    heads, kv_heads = (tables.get(name, pd.DataFrame({"definition": []})) for name in ("head_scores", "kv_head_scores"))
    if definition in set(heads["definition"]):
        model = str(heads["model"].iloc[0])
        documents |= write_duo_pattern(kv_heads, definition, model)
        documents["qrhead.yaml"] = write_qrhead_set(heads, definition, model)
    if "locos" in set(heads["definition"]):
        contributions = scored_rows(tables, "logit_contribution", only_passed=only_passed)
        documents["locos_scores.json"] = write_locos_scores(contributions, str(heads["model"].iloc[0]))
    return documents


def _by_head(scores: pd.DataFrame, value: str) -> dict[str, list[float]]:
    ordered = scores.sort_values(["layer", "head"], kind="stable")
    grouped = ordered.groupby(["layer", "head"], sort=True)[value]
    return {f"{layer}-{head}": group.tolist() for (layer, head), group in grouped}


def read_public_scores(path: Path) -> pd.DataFrame:
    """Returns one row per head and sample of a public score file, {"layer-head": [score, …]}: layer, head, sample, score.

    Raises ArgumentError for a file that is not in that format, with what is wrong.
    """
    return sample_scores(path, read_json(path))


def public_head_scores(path: Path) -> pd.DataFrame:
    """Returns per head the mean score and activation frequency of a public file of copy scores: layer, head, score, …

    The scores are of the `count` definition; the file tells no needles, so there are no intervals.
    """
    return head_means(read_public_scores(path)).assign(definition="count")


def foreign_head_scores(place: Path) -> pd.DataFrame | None:
    """Returns the heads of a file of any known tool, or of a DuoAttention folder, as `head_scores` has them: layer, head, score,
    definition (the kind of score), and whether `head` counts key-value heads. None for files of other sorts.

    Raises ArgumentError for a file that should rank heads and does not.
    """
    if not (place / PATTERN_FILE).is_file() and (place.suffix not in READABLE or not place.is_file()):
        return None
    heads = read_heads(place)
    return heads.scores.assign(definition=heads.kind, per_kv_head=heads.per_kv_head, file_format=heads.format)
