"""Numbers that no model can give: in the tables of a run, and in attention rows."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from interp.models.language.model import LanguageModel
from interp.models.language.recording import Weights
from interp.models.language.replay import few_tokens
from interp.tables import Schemas, Tables

N_TOKENS = 40
ROUNDING = 1e-3
"""How far a row's sum may lie from what it must be, in float32 and half precision."""
ESTIMATES = ("value", "score", "mean", "estimate", "set_score", "count_score", "change_nats")
"""Columns that hold what a summary is about: they lack a number only where nothing was counted."""
COUNTS = ("n_samples", "n_needles", "n_texts", "n_steps", "n", "n_items", "n_contexts")


def impossible(tables: Tables, schemas: Schemas) -> str:
    """Returns what is wrong with a run's tables, as a clause; "" if nothing.

    Schemas say which columns are shares and which may lack a number; beyond that: no infinities, no surprisal below 0, and no
    estimate without a number where something was counted.
    """
    return next((f"{name}: {found}" for name in schemas for found in _in_table(tables[name])), "")


def _in_table(table: pd.DataFrame) -> Iterator[str]:
    numbers = table.select_dtypes("number")
    for column in numbers:
        values = numbers[column].to_numpy(dtype=float)
        if np.isinf(values).any():
            yield f"{column} is infinite"
        if column == "surprisal_nats" and (values < -ROUNDING).any():
            yield f"{column} is below 0"
    counts = [column for column in COUNTS if column in numbers]
    counted = (numbers[counts] > 0).all(axis=1) if counts else pd.Series(False, index=table.index)
    for column in ESTIMATES:
        if column in numbers and (counted & numbers[column].isna()).any():
            yield f"{column} is not a number where {' and '.join(counts)} are above 0"


def rows_that_do_not_sum(model: LanguageModel) -> str:
    """Returns what is wrong with a model's attention rows on a short text, as a clause; "" if nothing.

    A row is shares of one whole; a model with sinks keeps a part of it for them.
    """
    if not model.attention_modules or model.verdicts is None or model.verdicts.refuses("heads"):
        return ""
    n = min(N_TOKENS, model.context_window or N_TOKENS)
    with model.record(torch.arange(n)[None], Weights(n)) as recording:
        model.extend(model.rows(1), few_tokens(model, n, 37).tolist())
    for layer in model.geometry.layers:
        rows = recording["weights"][layer, 0].double()
        sums = rows.sum(dim=-1)
        if not bool(rows.isfinite().all()) or float(rows.min()) < 0 or float(sums.max()) > 1 + ROUNDING:
            return f"attention rows of layer {layer} are no shares of one"
        if float(sums.min()) < 1 - ROUNDING and not hasattr(model.attention_of(layer), "sinks"):
            return f"attention rows of layer {layer} sum to {float(sums.min()):.2g}"
    return ""
