"""The findings of a verbatim-memory report, with intervals and controls."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.heads.given import sentences_on
from interp.heads.kinds import GIVEN
from interp.tables import Tables
from probes.verbatim_memory.plan import FLOAT32
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.summaries import mask_ratios

HEADLINE_K = 10
"""Silent heads that the report's sentences speak of, where this size was measured; else the largest."""


def find_all(settings: Settings, tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    return [
        *_headline(settings, tables),
        *_order(settings, tables),
        *_masks(tables),
        *_given(tables),
        *_words(tables),
        *_nulls(settings, tables),
        *_checkpoints(tables),
        *_precision(tables),
    ]


def _main(settings: Settings, tables: Tables, variant: str = "none") -> pd.DataFrame:
    """Raw ratios with the shortest intact text between, of the first pool."""
    table = tables["repeat_surprisal"]
    return table[
        (table["variant"] == variant)
        & (table["pool"] == settings.pools[0])
        & (table["context_type"] == "intact")
        & (table["intervening"] == settings.intervening[0])
        & (table["mode"] == "raw")
        & (table["estimator"] == "ratio")
    ]


def _headline(settings: Settings, tables: Tables) -> Iterator[Finding]:
    main = _main(settings, tables)
    longest = main[main["list_length"] == main["list_length"].max()]
    first = longest.iloc[0]
    shares = ", ".join(
        f"{row.condition} {row.value:.1f}% [{row.ci_low:.1f}, {row.ci_high:.1f}]"
        for row in longest.set_index("condition", drop=False).reindex(list(settings.conditions)).itertuples()
    )
    n = int(first["n_base_lists"])
    resampled = f"95% interval over {n} base lists" if n > 1 else "one base list, so no interval"
    yield Finding(
        f"Surprisal of a second list of {int(first['list_length'])} nouns after {int(first['intervening_tokens'])} tokens, as a share "
        f"of the first's: {shares} (median over {int(first['n_trials'])} trials, first noun left out, {resampled})."
    )


def _order(settings: Settings, tables: Tables) -> Iterator[Finding]:
    wanted = [condition for condition in ("repeat", "permute", "novel") if condition in settings.conditions]
    main = _main(settings, tables)
    if len(wanted) < 2:
        return
    order = " < ".join(wanted)
    grid, low, high = (
        main.pivot(index="list_length", columns="condition", values=column)[wanted]
        for column in ("value", "ci_low", "ci_high")
    )
    where = " in the one base list" if main["n_base_lists"].max() == 1 else ""
    broken = [str(length) for length, row in grid.iterrows() if not row.is_monotonic_increasing]
    apart = np.all(high.iloc[:, :-1].to_numpy() < low.iloc[:, 1:].to_numpy(), axis=1)
    unsure = [str(length) for length, shown in zip(grid.index, apart, strict=True) if not shown]
    if broken:
        yield Finding(f"{order} does not hold for lists of {', '.join(broken)}{where}.", "warning")
    elif unsure:
        why = "there are no intervals" if where else "intervals overlap"
        yield Finding(f"{order} is not shown for lists of {', '.join(unsure)}{where}: {why}.", "warning")
    else:
        yield Finding(f"{order} at every list length ({', '.join(map(str, grid.index))}){where}.")


def _words(tables: Tables) -> Iterator[Finding]:
    nouns = tables["token_surprisals"]
    nouns = nouns[(nouns["list_index"] > 0) & (nouns["variant"] == "none")]
    keys = ["trial_id", "pool", "list_length", "context_type", "intervening", "condition", "list_index", "position"]
    modes = nouns.pivot(index=keys, columns="mode", values="surprisal_nats")
    yield Finding(
        f"Counting where a word ends changes a noun by {(modes['boundary'] - modes['raw']).abs().mean():.3f} nats on average."
    )
    if "exact" in modes:
        both = modes.dropna(subset=["exact"])
        left_out = nouns.loc[nouns["mode"] == "exact", "left_out_share"]
        yield Finding(
            f"Counting every other spelling of a noun changes that by {(both['exact'] - both['boundary']).abs().mean():.3f} nats on "
            f"average, over {len(both)} nouns; at most {left_out.mean():.2%} of their probability was left out on average."
        )


def _nulls(settings: Settings, tables: Tables) -> Iterator[Finding]:
    for null in settings.nulls:
        main = _main(settings, tables, null)
        longest = main[main["list_length"] == main["list_length"].max()]
        shares = ", ".join(f"{row.condition} {row.value:.1f}%" for row in longest.itertuples())
        yield Finding(f"The same with the model damaged ({null.replace('_', ' ')}): {shares}.")


def _masks(tables: Tables) -> Iterator[Finding]:
    """Per ranking, one size that is fixed beforehand: the one with the largest effect would flatter the ranking."""
    summary = tables["masking_summary"]
    draws = _by_draw(tables)
    whole = summary[summary["control"] == "none"].set_index("condition")["value"]
    top = summary[(summary["control"] == "top") & (summary["condition"] == "repeat")]
    for head_set, part in top.groupby("head_set", sort=False):
        row = part[part["k"] == (HEADLINE_K if HEADLINE_K in set(part["k"]) else part["k"].max())].iloc[0]
        name = "--heads-from" if head_set == GIVEN else head_set
        novel = summary[
            (summary["head_set"] == head_set)
            & (summary["control"] == "top")
            & (summary["condition"] == "novel")
            & (summary["k"] == row["k"])
        ].iloc[0]
        yield Finding(
            f"Without the top {int(row['k'])} {name} heads a repeated list costs {row['value']:.1f}% "
            f"[{row['ci_low']:.1f}, {row['ci_high']:.1f}] of the first, against {whole['repeat']:.1f}% with all heads: "
            f"{row['beyond_random']:+.1f} points [{row['beyond_random_ci_low']:.1f}, {row['beyond_random_ci_high']:.1f}] beyond random "
            f"heads of the same layers{unshown(row['beyond_random_ci_low'], row['beyond_random_ci_high'])}. "
            f"Novel lists: {novel['value']:.1f}%, with all heads {whole['novel']:.1f}%."
        )
        random = draws.get((str(head_set), int(row["k"])))
        if random is not None and row["beyond_random_ci_low"] > 0 and random.max() >= row["value"]:
            yield Finding(
                f"One of the {len(random)} draws of random heads makes a repeated list cost {random.max():.1f}%, as much as the top "
                f"{int(row['k'])} {name} heads: intervals resample lists, not draws, so that these stand out is not shown. Use more "
                "--mask-draws.",
                "warning",
            )


def _by_draw(tables: Tables) -> dict[tuple[str, int], pd.Series]:
    """What a repeated list costs without each draw of random heads, in per cent, by head set and k: the median over trials."""
    if not len(tables["masking"]):
        return {}
    ratios = mask_ratios(tables["masking"], tables["token_surprisals"])
    random = ratios[(ratios["control"] == "random") & (ratios["condition"] == "repeat")]
    medians = random.groupby(["head_set", "k", "draw"], sort=False)["ratio"].median()
    return dict(iter(medians.groupby(level=[0, 1], sort=False)))  # type: ignore[arg-type]


def _given(tables: Tables) -> Iterator[Finding]:
    """What a file of heads is, and where its ranking was no order."""
    given, summary = tables.get(GIVEN), tables["masking_summary"]
    if given is not None:
        ks = sorted(set(summary.loc[summary["head_set"] == GIVEN, "k"]))
        for text, is_warning in sentences_on(given, ks):
            yield Finding(text, "warning" if is_warning else "result")


def _checkpoints(tables: Tables) -> Iterator[Finding]:
    table = tables["checkpoints"]
    repeated = table[(table["estimator"] == "ratio") & (table["condition"] == "repeat")]
    repeated = repeated[repeated["list_length"] == repeated["list_length"].max()]
    if len(repeated):
        steps = ", ".join(f"{row.revision} {row.value:.1f}%" for row in repeated.itertuples())
        yield Finding(f"Repeated lists of {int(repeated['list_length'].iloc[0])} over training: {steps}.")


def _precision(tables: Tables) -> Iterator[Finding]:
    """What half precision changes, where it was asked for: the same trials read again in float32."""
    nouns = tables["token_surprisals"]
    nouns = nouns[(nouns["mode"] == "raw") & (nouns["list_index"] > 0)]
    keys = ["pool", "list_length", "trial_id", "context_type", "intervening", "condition", "list_index", "position"]
    again = nouns[nouns["variant"] == FLOAT32]
    if not len(again):
        return
    both = again.merge(nouns[nouns["variant"] == "none"], on=keys, suffixes=("_float32", "_half"))
    change = both["surprisal_nats_half"] - both["surprisal_nats_float32"]
    repeated = both[both["condition"] == "repeat"]
    yield Finding(
        f"In half precision the surprisal of a noun differs from that in float32 by {change.abs().mean():.3f} nats on average and "
        f"{change.abs().max():.2f} at most ({len(both)} nouns, same weights); that of repeated nouns is "
        f"{repeated['surprisal_nats_half'].mean():.3f} instead of {repeated['surprisal_nats_float32'].mean():.3f} nats on average. Use "
        "--dtype float32 for numbers to report.",
        "warning",
    )
