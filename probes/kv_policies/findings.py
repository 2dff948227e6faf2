"""The sentences of a kv_policies report: what the full cache does, what policies lose, which heads carry it."""

from collections.abc import Iterator

import pandas as pd

from interp.experiments.experiment import Finding
from interp.heads.given import sentences_on
from interp.heads.kinds import GIVEN
from interp.tables import Tables
from probes.kv_policies.heads import ranked_heads, role_size
from probes.kv_policies.settings import Settings

LEAST_RECALL = 0.5
"""Recall with the full cache below which needles tell little."""


def find_all(settings: Settings, tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    found = [*_losses(settings, tables), *_factors(tables), *_roles(settings, tables), *_restored(tables)]
    if GIVEN not in tables:
        found += _heads_without_copies(settings, tables)
    else:
        found += _given_in_windows(tables)
        found += [
            Finding(text, "warning" if warns else "result")
            for text, warns in sentences_on(tables[GIVEN], settings.restored_k)
        ]
    return found


def _losses(settings: Settings, tables: Tables) -> Iterator[Finding]:
    policies = tables["policies"]
    for (material, scope), rows in policies.groupby(["material", "scope"], sort=False):
        full = rows[rows["policy"] == "full"].iloc[0]
        others = rows[
            (rows["policy"] != "full")
            & (rows["budget"] == settings.main_budget)
            & (rows["protection"] == settings.protections[0])
        ].sort_values("change_nats", kind="stable")
        where = f"{material}, {str(scope).replace('_', ' ')}" if material == "needles" else material
        if material != "prose" and full["recall"] < LEAST_RECALL:
            yield Finding(
                f"On {where}, only {full['recall']:.0%} of the scored tokens are the most likely ones with the full cache: a policy "
                "has little to lose.",
                "warning",
            )
        if len(others):
            said = ", ".join(
                f"{row.policy} {row.change_nats:+.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"
                for row in others.itertuples()
            )
            yield Finding(
                f"On {where}, {settings.main_budget:.0%} of the prompt's keys kept ({settings.protections[0]}), nats per token against "
                f"the full cache: {said}."
            )


def _factors(tables: Tables) -> Iterator[Finding]:
    for (material, scope), rows in tables["factors"].groupby(["material", "scope"], sort=False):
        shares = ", ".join(
            f"{row.factor} {row.share:.0%} [{row.ci_low:.0%}, {row.ci_high:.0%}]" for row in rows.itertuples()
        )
        yield Finding(
            f"Shares of the variance between policies and protections on {material} ({str(scope).replace('_', ' ')}, budget "
            f"{rows['budget'].iloc[0]:.0%}): {shares}."
        )


def _roles(settings: Settings, tables: Tables) -> Iterator[Finding]:
    roles = tables["roles"]
    rows = roles[
        (roles["quantity"] == "output_change")
        & (roles["role"] == "retrieval")
        & (roles["budget"] == settings.main_budget)
    ]
    rows = rows[(rows["material"] == "needles") & (rows["scope"] == settings.scopes[0])]
    if len(rows):
        more = rows[rows["difference_ci_low"] > 0]
        yield Finding(
            f"On needles, {len(more)} of {len(rows)} policies change the output of retrieval heads more than that of other heads in "
            f"the same layers (95% interval over texts above 0): {', '.join(more['policy']) or 'none'}."
        )


def _given_in_windows(tables: Tables) -> Iterator[Finding]:
    given, scores = tables[GIVEN], tables["head_scores"]
    n_passed = int((~given["layer"].isin(scores["layer"])).sum()) if len(scores) else 0
    if n_passed:
        yield Finding(
            f"{n_passed} of the {len(given)} heads that --heads-from ranks are in layers with windows, on which no policy acts: they are "
            "passed over.",
            "warning",
        )


def _heads_without_copies(settings: Settings, tables: Tables) -> Iterator[Finding]:
    """Heads that score 0 are ranked by their place in the model, and what is said of retrieval heads is then said of any heads."""
    scores = tables["head_scores"]
    if not len(scores):
        return
    ranking = ranked_heads(scores, None)
    taken = ranking["retrieval"][: role_size(settings, ranking)]
    means = scores[scores["role"] == "retrieval"].groupby(["layer", "head"])["score"].mean()
    n_idle = int((means.reindex(taken) <= 0).sum())
    if n_idle:
        yield Finding(
            f"Of the heads that count as retrieval heads, {n_idle} of {len(taken)} copied no token of the needles that heads are found on: "
            "what is said of retrieval heads, of duo and of the best heads is said of heads taken by their place in the model.",
            "warning",
        )


def _restored(tables: Tables) -> Iterator[Finding]:
    rows = tables["restored"]
    recall = rows[rows["quantity"] == "recall"]
    if not len(recall):
        return
    none = recall[recall["head_set"] == "none"].iloc[0]
    best, random = (recall[recall["head_set"] == name].sort_values("k") for name in ("best", "random"))
    yield Finding(
        f"Needle tokens recalled when k key-value heads keep the whole prompt and all others the smallest budget: "
        f"{none['value']:.0%} with none; "
        f"the best retrieval heads {_curve(best)}; random ones {_curve(random)}."
    )


def _curve(rows: pd.DataFrame) -> str:
    return ", ".join(f"k={row.k} {row.value:.0%} [{row.ci_low:.0%}, {row.ci_high:.0%}]" for row in rows.itertuples())
