"""What policies leave of the right pair, task by task, beside as many keys at random."""

import pandas as pd

from interp.estimates import beside, estimates
from probes.context_recall.plan import KEPT_BY, RANDOM
from probes.context_recall.settings import Settings

QUANTITIES = ("pair_kept", "value_kept", "kept_share")
AT_RANDOM = f"{KEPT_BY}{RANDOM}"


def survival(settings: Settings, kept: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `survival`; draws of random keys count as one condition, by their mean."""
    keys, by = ["task", "cell", "sample_id", "question"], ["task", "condition"]
    rows = kept[kept["refusal"] == ""]
    parts = []
    for quantity in QUANTITIES if len(rows) else ():
        means = rows.groupby([*keys, "condition"], as_index=False, sort=False)[quantity].mean().dropna()
        random = means[means["condition"] == AT_RANDOM].set_index(keys)[quantity].rename("at_random")
        means = means.join(random, on=keys)
        paired = means[means["condition"] != AT_RANDOM].dropna()
        value = estimates(means, by, quantity, "sample_id", kind="share", name="value", seed=settings.seed)
        value = value.rename(columns={"value_ci_low": "ci_low", "value_ci_high": "ci_high"})
        beyond = estimates(
            paired, by, quantity, "sample_id", minus="at_random", kind="share", name="beyond", seed=settings.seed
        )
        part = beside(by, value, beyond).merge(
            paired.groupby(by, as_index=False).agg(random=("at_random", "mean")), on=by, how="left"
        )
        parts.append(part.assign(quantity=quantity))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
