"""The sentences of a function-token report: what was found, with intervals and controls, and what to be careful about."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.statistics import mean_estimate
from interp.tables import Tables
from probes.function_tokens.settings import Settings

AT = 1000
"""Occurrences at which classes are compared."""
SMALL_RUN = 500_000
"""Counted positions below which coverage says more about the size of the corpus than about tokens."""


def find_all(settings: Settings, tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    graph = _graph(tables) if "graph" in settings.parts else ()
    return [
        *graph,
        *_losses(settings, tables),
        *_reactivation(tables),
        *_steering(tables),
        *_warnings(settings, tables),
    ]


def _graph(tables: Tables) -> Iterator[Finding]:
    for dictionary, coverage in tables["coverage"].groupby("dictionary", sort=False):
        plain = coverage[(coverage["min_count"] == 1) & (coverage["chosen_by"] == "frequency")]
        ten = plain[plain["k"] == min(10, plain["k"].max())].iloc[0]
        verdict = (
            ": more than chance gives"
            if ten["excess_ci_low"] > 0
            else ": fewer than chance gives"
            if ten["excess_ci_high"] < 0
            else ": no more and no fewer than chance gives"
            if ten["excess_ci_low"] <= 0 <= ten["excess_ci_high"]
            else ""  # one block of texts: nothing to tell it by
        )
        yield Finding(
            f"{dictionary}: the {int(ten['k'])} most frequent tokens reach {ten['coverage_alive']:.1%} of the features that are active "
            f"[{ten['coverage_ci_low']:.1%}, {ten['coverage_ci_high']:.1%}]. Labels shuffled over positions reach "
            f"{ten['null_alive']:.1%}{verdict} ({100 * ten['excess_alive']:+.1f} points "
            f"[{100 * ten['excess_ci_low']:+.1f}, {100 * ten['excess_ci_high']:+.1f}]).",
            about=str(dictionary),
        )
        content = coverage[(coverage["chosen_by"] == "content") & (coverage["k"] == ten["k"])]
        if len(content):
            row = content.iloc[0]
            yield Finding(
                f"{dictionary}: random content tokens with {row['occurrence_share']:.1%} of the occurrences (those ten have "
                f"{ten['occurrence_share']:.1%}) reach {row['coverage_alive']:.1%} [{row['low_alive']:.1%}, {row['high_alive']:.1%}].",
                about=str(dictionary),
            )
        accumulation = tables["accumulation"]
        rows = accumulation[(accumulation["dictionary"] == dictionary) & (accumulation["drawn"] == AT)].set_index(
            "token_set"
        )
        if {"function", "content", "all"} <= set(rows.index):
            text = ", ".join(
                f"{name} tokens {rows.at[name, 'features']:.0f} [{rows.at[name, 'ci_low']:.0f}, {rows.at[name, 'ci_high']:.0f}]"
                for name in ("function", "content", "all")
            )
            yield Finding(f"{dictionary}: distinct features in {AT} random occurrences: {text}.", about=str(dictionary))
        degrees = tables["token_degrees"]
        common = degrees[(degrees["dictionary"] == dictionary) & degrees["rarefied_20"].notna()]
        if len(common):
            means = {
                name: mean_estimate(group["rarefied_20"].to_numpy(), group["token_id"].to_numpy())
                for name, group in common.groupby("token_class")
            }
            text = " and ".join(
                f"{mean.value:.0f} [{mean.ci_low:.0f}, {mean.ci_high:.0f}] for {name} tokens"
                for name, mean in means.items()
            )
            yield Finding(
                f"{dictionary}: twenty occurrences of one token reach {text} (means, 95% bootstrap over tokens), of random tokens "
                f"{common['null_rarefied_20'].iloc[0]:.0f}.",
                about=str(dictionary),
            )


def _losses(settings: Settings, tables: Tables) -> Iterator[Finding]:
    losses = tables["pair_losses"]
    rows = losses[losses["threshold"] == settings.threshold].sort_values("mean_loss_nats", ascending=False)
    if not len(rows):
        return
    text = "; ".join(
        f"{row.current_class}→{row.next_class} {row.mean_loss_nats:.2f} nats [{row.mean_loss_nats_ci_low:.2f}, "
        f"{row.mean_loss_nats_ci_high:.2f}], {row.loss_share:.0%} of the total"
        for row in rows.itertuples()
    )
    yield Finding(f"Loss by class of current and next token: {text}.")
    *others, most = rows.sort_values("loss_share", kind="stable").to_dict("records")
    highest = max((row["loss_share_ci_high"] for row in others), default=0.0)
    alone = "" if most["loss_share_ci_low"] > highest else " (not shown to be the largest: intervals overlap)"
    yield Finding(
        f"The largest share of the loss is {most['current_class']}→{most['next_class']}: {most['loss_share']:.1%} "
        f"[{most['loss_share_ci_low']:.1%}, {most['loss_share_ci_high']:.1%}] of it{alone}, with {most['frequency']:.1%} of the "
        "predictions."
    )


def _reactivation(tables: Tables) -> Iterator[Finding]:
    rows: Any = tables["reactivation"].itertuples()
    for row in rows:
        yield Finding(
            f"{row.dictionary}: at {row.token_class} tokens a feature that was active before loses {row.lost:.0%} "
            f"[{row.lost_ci_low:.0%}, {row.lost_ci_high:.0%}] of its activation when attention to those positions is knocked out, "
            f"{row.control_lost:.0%} [{row.control_lost_ci_low:.0%}, {row.control_lost_ci_high:.0%}] for as many neighbouring "
            f"positions: {100 * row.beyond_control:+.0f} points [{100 * row.beyond_control_ci_low:+.0f}, "
            f"{100 * row.beyond_control_ci_high:+.0f}] between them{unshown(row.beyond_control_ci_low, row.beyond_control_ci_high)} "
            f"({row.n_prompts} prompts).",
            about=str(row.dictionary),
        )


def _steering(tables: Tables) -> Iterator[Finding]:
    table = tables["steering"]
    table = table[table["outcome"] == "promoted_gain_nats"]
    for dictionary, rows in table.groupby("dictionary", sort=False):
        text = "; ".join(
            f"{row.where} {row.token_class} {row.beyond_random:+.2f} [{row.beyond_random_ci_low:+.2f}, {row.beyond_random_ci_high:+.2f}]"
            f"{unshown(row.beyond_random_ci_low, row.beyond_random_ci_high)}"
            for row in rows.itertuples()
        )
        yield Finding(
            f"{dictionary}: log probability gained by the tokens a steered feature promotes, beyond a random direction, in nats: {text}.",
            about=str(dictionary),
        )


def _warnings(settings: Settings, tables: Tables) -> Iterator[Finding]:
    blocks = tables["blocks"]
    if bool(blocks["classes_in_sample"].any()):
        yield Finding(
            "Token classes were counted in the measured texts, because the corpus has no others: use fewer --tokens or a larger --corpus.",
            "warning",
        )
    if "graph" not in settings.parts:
        return
    positions = tables["block_positions"]
    counted = int(positions.groupby("dictionary")["positions"].sum().max())
    if counted < SMALL_RUN:
        yield Finding(
            f"Only {counted:,} positions were counted: coverage grows with the corpus, so compare it with its null and not with the "
            "paper's (use --preset million).",
            "warning",
        )
    left_out = positions.groupby("dictionary", sort=False)[
        ["early_positions", "sink_positions", "special_positions"]
    ].sum()
    sinks = ", ".join(f"{count} attention sinks ({name})" for name, count in left_out["sink_positions"].items())
    yield Finding(
        f"Left out of the counts: {int(left_out['early_positions'].iloc[0])} positions at the beginning of a window, {sinks}, "
        f"{int(left_out['special_positions'].iloc[0])} special tokens; the table sensitivity has early positions and sinks counted.",
        "warning",
    )
    texts = int(blocks["texts_left_out"].iloc[0])
    if texts:
        yield Finding(f"{texts} texts were left out because a dictionary was trained on them.", "warning")
    dense = tables["feature_profile"].groupby("dictionary", sort=False)[["dense", "single_token"]].sum()
    for dictionary, row in dense.iterrows():
        if isinstance(row, pd.Series):
            yield Finding(
                f"{dictionary}: {int(row['dense'])} features are active at more than a tenth of the positions, "
                f"{int(row['single_token'])} at one token almost only.",
                "warning",
            )
