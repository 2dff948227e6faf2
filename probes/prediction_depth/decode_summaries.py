"""What skipped layers cost, which drafts are accepted, and what reweaving does: estimates with intervals over texts. No model."""

import pandas as pd

from interp.estimates import estimates
from interp.tables import Tables

AGES = (-2, -1, 16, 64, 256, 10**9)
AGE_NAMES = ("never", "1-16", "17-64", "65-256", "over 256")


def summarise_decoding(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns the summary tables of skipped layers, reweaving and drafts."""
    skips = measured["skips"]
    by = ["budget", "arm", "schedule"]
    costs = [
        estimates(skips, by, "change_nats", "text_id", seed=seed).assign(quantity="change_nats"),
        estimates(skips, by, "agreement", "text_id", kind="share", seed=seed).assign(quantity="agreement"),
        estimates(skips, by, "mean_layers", "text_id", seed=seed).assign(quantity="mean_layers"),
    ]
    return {
        "skip_costs": pd.concat(costs),
        "schedules": _schedules(skips, seed),
        "woven": estimates(measured["reweaving"], ["site", "added", "beta"], "change_nats", "text_id", seed=seed),
        "accepted": estimates(_per_pass(measured["drafts"]), ["domain", "drafter"], "tokens", "text_id", seed=seed),
        "hits": _hits(measured["recurrences"], seed),
    }


def _schedules(skips: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What the falling schedule costs less the other two, on the same text with the same arm and budget."""
    keys = ["budget", "arm", "text_id"]
    wide = skips.pivot(index=keys, columns="schedule", values="change_nats").reset_index()
    return pd.concat(
        [
            estimates(wide.assign(against=other), ["budget", "arm", "against"], "falling", "text_id", minus=other, seed=seed)
            for other in ("constant", "rising")
        ]
    )  # fmt: skip


def _per_pass(drafts: pd.DataFrame) -> pd.DataFrame:
    return drafts.assign(tokens=drafts["accepted"] + 1)


def _hits(recurrences: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Share of tokens among the candidates: any of them, each rank, and by the age of what was kept."""
    by = ["domain", "drafter", "grouping", "group"]
    ages = pd.cut(recurrences["age_tokens"], AGES, labels=AGE_NAMES).astype(str)
    parts = [recurrences.assign(grouping="any", group="any", hit=recurrences["rank"] >= 0)]
    parts += [
        recurrences.assign(grouping="rank", group=str(rank), hit=recurrences["rank"] == rank)
        for rank in sorted(set(recurrences["rank"]) - {-1})
    ]
    aged = recurrences["drafter"] != "unigram"
    parts.append(recurrences.assign(grouping="age", group=ages, hit=recurrences["rank"] >= 0)[aged])
    return pd.concat([estimates(part, by, "hit", "text_id", kind="share", seed=seed) for part in parts])
