"""The sentences of a prediction_depth report: each with its interval and its control, and "not shown" where the interval has 0."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.tables import Tables

FLOOR = 0.2
"""Share of questions answered right below which knowing when one is right says little."""


def find_all(tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    return [
        *_settling(tables), *_common(tables), *_position(tables), *_ways(tables), *_knowing(tables), *_skips(tables),
        *_drafts(tables), *_woven(tables),
    ]  # fmt: skip


def _said(row: Any, digits: int = 2, sign: str = "+") -> str:
    return f"{row['value']:{sign}.{digits}f} [{row['ci_low']:.{digits}f}, {row['ci_high']:.{digits}f}]"


def _share(row: Any) -> str:
    return f"{row['value']:.0%} [{row['ci_low']:.0%}, {row['ci_high']:.0%}]"


def _shown(row: Any) -> str:
    """In words, that an interval does not exclude 0."""
    return unshown(row["ci_low"], row["ci_high"])


def _best(tables: Tables) -> str:
    return "tuned" if "tuned" in set(tables["depths"]["lens"]) else "logit"


def _settling(tables: Tables) -> Iterator[Finding]:
    lens, n_layers = _best(tables), int(tables["depths"]["depth"].max())
    if lens == "logit":
        yield Finding(
            "There is no tuned lens for these weights in this precision, so depths come from the logit lens alone, which is unreliable in "
            "early layers: train one with python -m interp.models.lens.training.",
            "warning",
        )
    settled = tables["settled"]
    whole = settled[(settled["grouping"] == "all") & (settled["lens"] == lens)].iloc[0]
    yield Finding(
        f"Predictions settle at depth {_said(whole, 1, '')} of {n_layers} on average ({lens} lens, {whole['n']} texts)."
    )
    contrasts = tables["contrasts"]
    for contrast, rows in contrasts.groupby("contrast", sort=False):
        told = []
        for name, matched, said in (
            (lens, False, "raw"), (lens, True, "matched in frequency"), ("less unigram", False, "log frequency subtracted"),
            ("shuffled", False, "control lens trained on shuffled targets"),
        ):  # fmt: skip
            row = rows[(rows["lens"] == name) & (rows["matched"] == matched)]
            if len(row) and pd.notna(row["value"].iloc[0]):
                told.append(f"{said} {_said(row.iloc[0], 1)}{_shown(row.iloc[0])}")
        if told:
            yield Finding(f"Settle depth, {contrast}, in layers: {'; '.join(told)}.")


def _common(tables: Tables) -> Iterator[Finding]:
    quality, lens = tables["quality"], _best(tables)
    common = quality[(quality["quantity"] == "common_share") & (quality["lens"] == lens)].set_index("depth")
    revised = quality[(quality["quantity"] == "revised_common_share") & (quality["lens"] == lens)].set_index("depth")
    last = int(common.index.max())
    first: Any = common.loc[1 : last // 2, "value"].idxmax()
    yield Finding(
        f"At depth {first}, {_share(common.loc[first])} of the most likely tokens are among the ten most common, at the last depth "
        f"{_share(common.loc[last])}; {_share(revised.loc[first])} of the early ones are revised ({lens} lens)."
    )


def _position(tables: Tables) -> Iterator[Finding]:
    slopes = tables["slopes"].set_index(["quantity", "lens"])
    depth: Any = slopes.loc[("settle_depth", _best(tables))]
    nats: Any = slopes.loc[("surprisal_nats", "logit")]
    yield Finding(
        f"For each hundred tokens read before, settle depth changes by {_said(depth, 1)} layers{_shown(depth)} and surprisal by "
        f"{_said(nats)} nats{_shown(nats)}."
    )


def _ways(tables: Tables) -> Iterator[Finding]:
    ways = tables["ways"]
    depths = sorted(set(ways[ways["way"] == "upper layers"]["depth"]))
    inner = [depth for depth in depths if 0 < depth < ways["depth"].max()]
    if not inner:
        return
    at = inner[len(inner) // 2]
    rows = ways[ways["depth"] == at].set_index(["quantity", "way"])
    told = [
        f"{way} {_share(row)} (another question's state {_share(rows.loc[('agrees_with_another', way)])})"
        for way, row in rows.loc["agrees"].iterrows()
    ]  # fmt: skip
    yield Finding(
        f"Share of answers whose first token, decoded at depth {at}, is that of the last depth: {', '.join(told)}."
    )


def _knowing(tables: Tables) -> Iterator[Finding]:
    answers = tables["answers"]
    one = answers[answers["signal"] == "probability"]
    share = float(one["is_right"].mean())
    if share < FLOOR:
        yield Finding(
            f"Only {share:.0%} of {len(one)} answers are right: too few to test signals that predict right answers.",
            "warning",
        )
    aurocs = tables["aurocs"]
    told = [
        f"{row['signal']} {row['value']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
        for _, row in aurocs[aurocs["depth"] == -1].iterrows()
        if pd.notna(row["value"])
    ]
    if told:
        yield Finding(
            f"{share:.0%} of {len(one)} questions are answered right. How well signals predict which, within relations, before the answer "
            f"is generated (AUROC, chance 0.50): {', '.join(told)}."
        )


def _skips(tables: Tables) -> Iterator[Finding]:
    costs = tables["skip_costs"]
    for budget, rows in costs[(costs["quantity"] == "change_nats") & (costs["schedule"] == "constant")].groupby(
        "budget"
    ):
        told = ", ".join(f"{row['arm'].replace('_', ' ')} {_said(row)}" for _, row in rows.iterrows())
        yield Finding(f"Cost of passing every token through {budget:.0%} of the layers, nats per token: {told}.")
    for budget, rows in tables["schedules"].groupby("budget"):
        told = ", ".join(
            f"{row['arm'].replace('_', ' ')} against {row['against']} {_said(row)}{_shown(row)}"
            for _, row in rows.iterrows()
        )
        yield Finding(
            f"Cost of a schedule that falls with position, at {budget:.0%} of the layers, nats per token: {told}."
        )


def _drafts(tables: Tables) -> Iterator[Finding]:
    for domain, rows in tables["accepted"].groupby("domain", sort=False):
        told = ", ".join(f"{row['drafter']} {_said(row, 2, '')}" for _, row in rows.iterrows())
        yield Finding(f"Tokens per pass on {domain} (1 without drafts): {told}.")
    written = tables["written"]
    unequal = int((~written["is_equal"]).sum())
    rate = written["n_tokens"].sum() / (written["n_passes"].sum() + len(written))
    if unequal:
        yield Finding(
            f"{unequal} of {len(written)} texts generated with drafts differ from plain greedy decoding: reading several tokens at once "
            "rounds differently, which decides near-ties.",
            "warning",
        )
    else:
        yield Finding(
            f"All {len(written)} texts generated live with chains of drafts equal plain greedy decoding, at {rate:.2f} tokens per pass."
        )


def _woven(tables: Tables) -> Iterator[Finding]:
    woven = tables["woven"]
    for site, rows in woven.groupby("site", sort=False):
        told = []
        for beta, pair in rows.groupby("beta"):
            by_kind = pair.set_index("added")
            own, random = by_kind.loc["earlier states"], by_kind.loc["random direction"]
            told.append(f"β {beta:g} {_said(own)} (a random direction {_said(random)})")
        yield Finding(f"Earlier states added at {site}, change in nats per token: {'; '.join(told)}.")
