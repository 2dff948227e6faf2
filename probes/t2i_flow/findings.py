"""The sentences of a text-to-image flow report, with intervals, controls and the paper's number beside ours."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from interp.estimates import unshown
from interp.experiments.experiment import Finding
from interp.tables import Tables
from probes.t2i_flow.repair import ARMS, REMOVAL
from probes.t2i_flow.settings import Settings

NOT_MOVED = 1e-4
"""Relative change of vectors that is only rounding."""
ARM_WORDS = {
    "paste": "pasting the item's vectors, encoded alone",
    "random_paste": "pasting them over other words",
    "attention": "scaling attention to the context",
}


def find_all(settings: Settings, tables: Tables) -> list[Finding]:
    """Returns the report's headlines and warnings."""
    rates = tables["rates"]
    return [
        *_in_item(rates),
        *_floors(rates),
        *_flow(rates),
        *_repair(rates, tables["repair"], settings),
        *_pairs(tables["paired"]),
        *_predictor(tables["predictor"]),
        *_attention(rates),
        *_lens(tables["lens_rates"]),
        *_judge(tables["judge_check"]),
    ]


def _one(rates: pd.DataFrame, quantity: str, **labels: str) -> Any | None:
    rows = rates[rates["quantity"] == quantity]
    for name, value in ({"group": "all"} | labels).items():
        rows = rows[rows[name] == value]
    rows = rows.dropna(subset=["estimate"])
    return next(rows.itertuples(), None)


def _share(row: Any, form: str = ".0%") -> str:
    """The estimate with its interval, where there is one that says anything; an estimate of nothing is NaN."""
    interval = "" if not row.ci_low < row.ci_high else f" [{row.ci_low:{form}}, {row.ci_high:{form}}]"
    return f"{row.estimate:{form}}{interval}" if row.estimate == row.estimate else "undefined"


def _number(row: Any) -> str:
    return _share(row, ".2f")


def _in_item(rates: pd.DataFrame) -> Iterator[Finding]:
    drawn, representative = _one(rates, "drawn_alone"), _one(rates, "representative_rate")
    size, redundancy = _one(rates, "minimal_set_size"), _one(rates, "redundancy_share")
    if drawn is not None and drawn.estimate < 1:
        yield Finding(
            f"The model draws {drawn.estimate:.0%} of {drawn.n} items from their own text; the others are left out of what follows.",
            "warning",
        )
    if representative is not None:
        yield Finding(
            f"A single token shows the item in {_share(representative)} of {representative.n} items (the paper: 89%; 95% interval "
            "over items)."
        )
    if size is not None:
        yield Finding(
            f"The smallest set of tokens that shows an item has {_number(size)} of them (the paper: one or two)."
        )
    if redundancy is not None:
        yield Finding(
            f"{_share(redundancy)} of the {redundancy.n_rows} tokens of items with several show nothing of them alone (the paper: 52%)."
        )


def _floors(rates: pd.DataFrame) -> Iterator[Finding]:
    """What positions that name no item carry: near the floor of nothing at all, or not."""
    for group, words in (("alone", "of an item alone"), ("prompts", "of a prompt")):
        rows = rates[(rates["quantity"] == "kept_visible") & (rates["group"] == group)].drop_duplicates("level")
        by_level: dict[Any, Any] = {row.level: row for row in rows.itertuples()}
        if "clean" not in by_level:
            continue
        roles = [name for name in ("bos", "eos", "pad", "article", "other_words") if name in by_level]
        said = ", ".join(f"{name.replace('_', ' ')} {_share(by_level[name])}" for name in roles)
        carriers = [name for name in roles if by_level[name].ci_low > by_level["clean"].ci_high]
        yield Finding(
            f"Kept alone, positions {words} that name no item show it in: {said}; nothing at all in {_share(by_level['clean'])}."
        )
        if carriers:
            yield Finding(
                f"Not only an item's own tokens carry it {words}: {' and '.join(name.replace('_', ' ') for name in carriers)} do "
                "too, so what keeping or removing single tokens shows is not all of its information.",
                "warning",
            )


def _flow(rates: pd.DataFrame) -> Iterator[Finding]:
    for group in dict.fromkeys(rates.loc[rates["question"] == "inter_item", "group"]):
        leak, alone, full = (
            _one(rates, f"leak_{name}", group=group) for name in ("from_prompt", "from_alone", "in_full")
        )
        if group == "all" or leak is None or alone is None or full is None:
            continue
        yield Finding(
            f"{group.replace('_', ' ').capitalize()}: the leaked look is seen in {_share(full)} of whole pictures, in {_share(leak)} "
            f"with the item's vectors from the prompt, in {_share(alone)} with those of the item alone ({full.n} prompts)."
        )
    neglect = _one(rates, "neglect")
    if neglect is not None:
        yield Finding(f"Seen alone and missing in the whole picture: {_share(neglect)} of items (the paper: about 7%).")
    moves = rates[(rates["quantity"] == "vectors_move_without_after") & (rates["group"] == "all")]
    for encoder, moved in zip(moves["encoder"], moves["estimate"], strict=True):
        if moved < NOT_MOVED:
            words = "do not move: nothing flows back to it from later words"
        else:
            words = f"move by {moved:.0%} of their length: later words flow back into it"
        yield Finding(f"When the text after an item is cut away its {encoder} vectors {words}.")


def _repair(rates: pd.DataFrame, repairs: pd.DataFrame, settings: Settings) -> Iterator[Finding]:
    if "repair" in settings.parts and not repairs["chosen"].any():
        yield Finding(
            "No item's reading differs between its vectors in the prompt and alone: nothing was repaired.", "warning"
        )
        return
    taken = rates[(rates["quantity"] == "chosen") & (rates["level"] == "with a leak to look for")]
    if len(taken):
        shares = ", ".join(
            f"{str(row.group).replace('_', ' ')} {_share(row)} of {row.n_rows}" for row in taken.itertuples()
        )
        yield Finding(f"Chosen for repair, of the items that have a leak to look for: {shares}.")
    for arm in ARMS:
        before, after = (_one(rates, f"leak_{when}", level=arm) for when in ("before", "after"))
        fall = _one(rates, "relative_reduction", level=arm)
        others = _one(rates, "others_change", level=arm)
        if before is None or after is None:
            continue
        paper = " (the paper: 94% to 14% on FLUX-schnell)" if arm == "paste" else ""
        relative = "" if fall is None else f", relative fall {_share(fall)}{unshown(fall.ci_low, fall.ci_high)}"
        side = (
            f"; other items are seen {100 * others.estimate:+.0f} points [{100 * others.ci_low:+.0f}, {100 * others.ci_high:+.0f}]"
            f"{unshown(others.ci_low, others.ci_high)}"
            if others
            else ""
        )
        yield Finding(
            f"With {ARM_WORDS[arm]}, the leak goes from {_share(before)} to {_share(after)}{relative}{paper}{side} ({before.n} prompts)."
        )


def _pairs(paired: pd.DataFrame) -> Iterator[Finding]:
    for row in paired[paired["comparison"].str.startswith(REMOVAL) & (paired["group"] == "all")].itertuples():
        yield Finding(
            f"Without redundant tokens {row.right_after} of {row.n} pictures show every item, with them {row.right_before}: "
            f"{row.fixed} fixed, {row.broken} broken (exact test over {row.n_prompts} prompts, p = {row.p_value:.2g}; "
            "the paper: 83.5% to 87.0% of 339 prompts)."
        )


def _predictor(predictor: pd.DataFrame) -> Iterator[Finding]:
    by_item = predictor[predictor["left_out"] == "item"].set_index(["rule", "metric"])
    if not len(by_item):
        return
    cell = {key: next(some.itertuples()) for key, some in by_item.groupby(level=[0, 1])}
    if ("linear", "precision") not in cell:  # of a single item nothing is left to fit on
        return
    precision, recall, auroc, base = (cell["linear", name] for name in ("precision", "recall", "auroc", "base_rate"))
    last = cell["last_token", "precision"], cell["last_token", "recall"]
    yield Finding(
        f"Representative tokens of unseen items by a linear rule on their vectors: precision {_share(precision)}, recall "
        f"{_share(recall)}, AUROC {_number(auroc)}{unshown(auroc.ci_low, auroc.ci_high, 0.5)}; {_share(base)} of "
        f"{base.n_tokens} tokens are (the paper: 90% precision). "
        f"Taking the last token instead: precision {_share(last[0])}, recall {_share(last[1])}."
    )


def _attention(rates: pd.DataFrame) -> Iterator[Finding]:
    every, words = (_one(rates, "rank_correlation_change_removed", level=level) for level in ("all tokens", "words"))
    if every is not None:
        yield Finding(
            f"Attention and cause: a word's share of attention and what the picture changes without it have a rank correlation of "
            f"{_number(every)} within prompts" + (f", {_number(words)} over the words of the text." if words else ".")
        )


def _lens(rates: pd.DataFrame) -> Iterator[Finding]:
    """What is seen after each layer: of items alone, and of items in prompts whose leak the last layer shows."""
    for (group, encoder), some in rates.groupby(["group", "encoder"], sort=False):
        by_layer = {key: part.sort_values("layer") for key, part in some.groupby(["token_role", "asked"], sort=False)}
        layers = " / ".join(map(str, sorted(set(some["layer"]))))
        said = {key: " / ".join(f"{value:.0%}" for value in part["estimate"]) for key, part in by_layer.items()}
        where = f"Layer by layer, after {layers} of {int(some['n_layers'].iloc[0])} layers of {encoder}"
        if ("full", "own") in said:
            yield Finding(
                f"{where}: an item alone is seen in {said['full', 'own']} of pictures, from its last token's vector in "
                f"{said['last_token', 'own']}."
            )
        elif ("item", "leak") in said and by_layer["item", "leak"]["ci_low"].iloc[-1] > 0:
            name = str(group).replace("_", " ")
            yield Finding(
                f"{where}, {name}: an item's vectors show the leak in {said['item', 'leak']} of pictures, its own look in "
                f"{said['item', 'own']}."
            )


def _judge(checks: pd.DataFrame) -> Iterator[Finding]:
    for row in checks.itertuples():
        if row.n and row.errors:
            yield Finding(f"The judge {row.judge}: {row.errors} errors in {row.n} ({row.check}).", "warning")
