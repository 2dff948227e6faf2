"""The two tables and how their rows come about."""

import numpy as np
import pandas as pd
import torch

from interp.models.language.recording import WeightAt
from interp.statistics import paired_difference
from interp.stimuli.prose import news_articles
from interp.tables import TableSchema


class PassageWeights(TableSchema):
    """Mean attention weight of one head on the first and on the second token of one passage."""

    passage_id: str
    layer: int
    head: int
    first: float
    second: float


class HeadSinks(TableSchema):
    """First minus second token, mean over passages, with its bootstrap interval over passages."""

    layer: int
    head: int
    beyond_second: float
    ci_low: float
    ci_high: float
    n_passages: int


SCHEMAS = {"passage_weights": PassageWeights, "head_sinks": HeadSinks}


def passage_weights(model, unit, n_tokens):
    """Returns one row per head: every query from the third token on looks at the first two."""
    ids = model.tokenizer(news_articles()[unit.number])["input_ids"][:n_tokens]
    queries = torch.arange(2, n_tokens)[None]
    keys = torch.tensor([0, 1]).expand(1, n_tokens - 2, 2)
    with model.record(queries, WeightAt(keys)) as recording:
        model.prefix(ids)
    weights = recording["weight_at"][:, 0].mean(dim=2)  # [layer, row, head, query, key] to [layer, head, key]
    layer, head = np.indices(weights.shape[:2]).reshape(2, -1)
    first, second = weights.flatten(0, 1).T.numpy()
    names = {"model": model.identity.name, "passage_id": unit.id}
    return pd.DataFrame({**names, "layer": layer, "head": head, "first": first, "second": second})


def head_sinks(weights, seed):
    """Returns one row per head; passages are resampled for the interval."""
    rows = []
    for (model, layer, head), group in weights.groupby(["model", "layer", "head"]):
        value, low, high, n = paired_difference(group["first"], group["second"], group["passage_id"], seed=seed)
        names = {"model": model, "layer": layer, "head": head}
        rows.append({**names, "beyond_second": value, "ci_low": low, "ci_high": high, "n_passages": n})
    return pd.DataFrame(rows)
