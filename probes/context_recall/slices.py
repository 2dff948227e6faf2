"""Natural text split into tokens that complete a bigram seen before and all others: surprisal, and what changes it."""

import pandas as pd

from interp.estimates import beside, estimates
from probes.context_recall.plan import ROLES, WHOLE
from probes.context_recall.settings import Settings

FREQUENCIES = ((0, 0, "not in other articles"), (1, 9, "1 to 9 times"), (10, 10**9, "10 times or more"))
ALL = "all"
REPEATED, OTHERS = "repeated bigram", "other tokens"


def slices(settings: Settings, tokens: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `slices`."""
    if not len(tokens):
        return pd.DataFrame()
    keys = ["text_id", "position"]
    whole = tokens[tokens["condition"] == WHOLE].set_index(keys)["surprisal_nats"].rename("whole_nats")
    rows = tokens.join(whole, on=keys)
    rows = rows.assign(slice=rows["is_hit"].map({True: REPEATED, False: OTHERS}))
    frequency = [
        next(name for low, high, name in FREQUENCIES if low <= count <= high) for count in rows["reference_count"]
    ]
    rows = pd.concat([rows.assign(frequency=ALL), rows.assign(frequency=frequency)])
    by = ["condition", "slice", "frequency"]
    nats = estimates(rows, by, "surprisal_nats", "text_id", seed=settings.seed, draws=1000)
    change = estimates(
        rows, by, "surprisal_nats", "text_id", minus="whole_nats", name="change", seed=settings.seed, draws=1000
    )
    return beside(by, nats, change)


def slice_causes(settings: Settings, tokens: pd.DataFrame, replaced: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `slice_causes`: by text, the rise on repeated bigrams minus that on other tokens, and for heads minus the
    same of random heads.
    """
    if not len(tokens):
        return pd.DataFrame()
    means = tokens.groupby(["text_id", "condition", "is_hit"])["surprisal_nats"].mean().unstack("is_hit")
    parts = []
    if {True, False} <= set(means.columns):
        apart = (means[True] - means[False]).unstack("condition")
        for role in ROLES:
            own, random = f"without {role}", f"without random {role}"
            if own in apart:
                rises = apart[[own, random]].sub(apart[WHOLE], axis=0).dropna().reset_index().assign(condition=own)
                part = estimates(rises, ["condition"], own, "text_id", minus=random, seed=settings.seed)
                parts.append(part.assign(control=random))
    if len(replaced):
        rows = replaced.dropna(subset="bystander_change_nats")
        rows = rows.assign(condition="first occurrence replaced", rise=rows["replaced_nats"] - rows["surprisal_nats"])
        part = estimates(rows, ["condition"], "rise", "text_id", minus="bystander_change_nats", seed=settings.seed)
        parts.append(part.assign(control="other tokens between the two"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
