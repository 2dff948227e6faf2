"""What one choice in a policy does: two policies that differ in it alone, on the same texts."""

import pandas as pd

from interp.estimates import estimates
from probes.kv_policies.settings import Settings

VARIANTS = (
    ("h2o_sum", "h2o_mean", "sums instead of means: old keys have been seen more often"),
    ("pyramidkv", "snapkv", "budgets that fall with depth"),
    ("strided", "streaming", "half of the budget evenly spaced"),
    ("razor", "razor_plain", "the compensation token"),
    ("tokenselect(scaled=True)", "tokenselect", "scores divided by sqrt d"),
    ("tokenselect_modulo", "tokenselect", "the released kernel's grouping of heads"),
    ("tokenselect_free", "tokenselect", "every key at one angle"),
    ("actqkv", "actqkv(weighted=False)", "unusual tokens weigh more in the probe"),
    ("actqkv(shared=True)", "actqkv", "statistics of all layers together"),
    ("keyformer", "keyformer(noise=none)", "Gumbel noise"),
    ("keyformer(noise=normal)", "keyformer(noise=none)", "normal noise"),
    (
        "keyformer(event=every_step, tau_delta=1.0)",
        "keyformer(event=every_step)",
        "a temperature that grows by 1 at every step instead of .01",
    ),
    ("lazy_code", "lazy_notes", "the code's second term"),
    ("landmark", "landmark(by=last)", "delimiters as landmarks"),
    ("landmark(by=mean)", "landmark(by=last)", "the mean key as landmark"),
    ("cca", "cca(pool=mean)", "weights of the group's last query"),
    ("recycled(stride=16)", "recycled", "a full step every 16 instead of every 8"),
    ("recycled(stride=16, refresh=0.8)", "recycled(stride=16)", "a full step also where the query has turned"),
    ("a2sf(alpha=0.5)", "h2o_sum", "forgetting half at every query"),
    ("a2sf(alpha=0.9)", "h2o_sum", "forgetting a tenth at every query"),
    ("a2sf(alpha=0.99)", "h2o_sum", "forgetting a hundredth at every query"),
)
"""A policy, the one that it is held against, and what differs."""
QUANTITIES = ("change_nats", "recall", "mass_recovered", "output_change")
CELL = ["material", "scope", "budget"]


def compare_variants(settings: Settings, grid: pd.DataFrame, heads: pd.DataFrame) -> pd.DataFrame:
    """Returns the difference of every pair that was run, paired by text, with its interval; under the first protection.

    `grid` has a row for each text and condition, `heads` one for each of their heads.
    """
    keys = [*CELL, "text_id", "policy"]
    first = settings.protections[0]
    losses = heads[heads["protection"] == first].groupby(keys, sort=False, as_index=False)[list(QUANTITIES[2:])].mean()
    rows = grid[grid["protection"] == first][[*keys, *QUANTITIES[:2]]].merge(losses, on=keys)
    found = []
    for policy, against, choice in VARIANTS:
        pair = rows[rows["policy"] == policy].merge(
            rows[rows["policy"] == against], on=[*CELL, "text_id"], suffixes=("", "_against")
        )
        for quantity in QUANTITIES if len(pair) else ():
            kind = "share" if quantity == "recall" else "mean"
            value = estimates(
                pair, CELL, quantity, "text_id", minus=f"{quantity}_against", kind=kind, seed=settings.seed
            )
            found.append(value.assign(policy=policy, against=against, choice=choice, quantity=quantity))
    columns = [*CELL, "value", "ci_low", "ci_high", "n", "n_rows", "policy", "against", "choice", "quantity"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)
