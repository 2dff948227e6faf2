"""What the tables of sequence_representation say, sentence by sentence."""

from typing import Any

import pandas as pd

from interp.experiments.experiment import Finding
from interp.tables import Tables

CLASSES = ("content", "function")
VALUES = ["value", "ci_low", "ci_high"]


def find(tables: Tables) -> list[Finding]:
    """Returns a sentence on each claim of the papers: whether it is shown here."""
    return [
        *_of_prepending(tables["gains"]),
        *_of_baselines(tables["correlations"]),
        *_of_order(tables["orders"]),
        *_of_words(tables["bags_of_words"]),
        *_of_tokens(tables["recalls"], tables["ranks"]),
        *_of_unread(tables["texts"]),
    ]


def said(value: float, low: float, high: float) -> str:
    """Returns a number with its interval."""
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _of_prepending(gains: pd.DataFrame) -> list[Finding]:
    rows = gains[(gains["arm"] == "prepend") & (gains["measure"] == "cosine") & (gains["pairs"] == fairest(gains))]
    rows = (
        rows[(rows["read_at"] == rows["read_at"].iloc[0]) & (rows["exit"] == rows["exit"].max())] if len(rows) else rows
    )
    found = []
    controls: Any = rows[rows["against"].isin(["prompt", "slot", "other", "random"])].itertuples()
    for row in controls:
        verdict = "shown" if row.ci_low > 0 else "not shown"
        against = {
            "prompt": "the prompt alone",
            "slot": "an empty slot",
            "other": "another text's state",
            "random": "noise",
        }[row.against]
        found.append(
            Finding(
                f"Token Prepending against {against}, after layer {row.layer}: difference in Spearman correlation with the grades of "
                f"{row.n_rows} pairs ({row.pairs}) {said(row.value, row.ci_low, row.ci_high)}; a gain is {verdict}."
            )
        )
    return found


def fairest(table: pd.DataFrame) -> str:
    """Returns which pairs a claim about similarity is judged by: those without traps, where there are others."""
    return "without traps" if (table["pairs"] == "without traps").any() else "all"


def _of_baselines(correlations: pd.DataFrame) -> list[Finding]:
    found = []
    for pairs, rows in correlations.groupby("pairs", sort=False):
        words = rows[rows["measure"] == "shared words"].iloc[0]
        sentence = f"Pairs ({pairs}), Spearman correlation with the grades: share of common words alone "
        sentence += said(words["value"], words["ci_low"], words["ci_high"])
        means = rows[(rows["measure"] == "cosine") & (rows["arm"] == "encoder") & (rows["pool"] == "mean")]
        if len(means):
            last = means[means["layer"] == means["layer"].max()].iloc[0]
            sentence += f", {last['reader']}'s mean state {said(last['value'], last['ci_low'], last['ci_high'])}"
        found.append(Finding(f"{sentence}."))
    return found


def _of_order(orders: pd.DataFrame) -> list[Finding]:
    rows = orders[(orders["kind"] == "roles") & (orders["pool"] != "first")]
    rows = rows[rows["arm"].isin(["encoder", "prompt"])]
    found = []
    for (reader, _), part in rows.groupby(["reader", "arm"], sort=False):
        last = part[part["layer"] == part["layer"].max()].iloc[0]
        found.append(
            Finding(
                f"{reader}: a paraphrase is closer than the same words with roles swapped for "
                f"{said(last['value'], last['ci_low'], last['ci_high'])} of {last['n']} sentences, chance 0.5."
            )
        )
    return found


def _of_words(bags: pd.DataFrame) -> list[Finding]:
    found = []
    for reader, rows in bags[bags["half"] == "all"].groupby("reader", sort=False):
        last = rows[rows["layer"] == rows["layer"].max()].set_index("pool")
        parts = [f"{pool} {said(*last.loc[pool, ['gain', 'gain_ci_low', 'gain_ci_high']])}" for pool in last.index]
        found.append(
            Finding(
                f"{reader}, last layer, nDCG of a sentence's words beyond ranking by frequency: {', '.join(parts)}."
            )
        )
    return found


def _of_tokens(recalls: pd.DataFrame, ranks: pd.DataFrame) -> list[Finding]:
    found = []
    rows = recalls[(recalls["k"] == 10) & recalls["centred"]]
    for (reader, kind), part in rows.groupby(["reader", "kind"], sort=False):
        last = part[part["layer"] == part["layer"].max()].set_index("token_class")
        parts = [f"{name} tokens {said(*last.loc[name, VALUES])}" for name in CLASSES if name in last.index]
        chance = float(last["chance"].mean())
        scored = ranks[(ranks["reader"] == reader) & (ranks["kind"] == kind) & ranks["centred"]]
        scored = scored[scored["layer"] == scored["layer"].max()]
        ways = []
        for row in scored.itertuples():
            way = f"{row.scoring} ({row.top_k})" if row.top_k else row.scoring
            ways.append(f"{way} {said(row.value, row.ci_low, row.ci_high)}")
        found.append(
            Finding(
                f"{reader}, {kind}: share of tokens with the right document among their 10 nearest: {', '.join(parts)}, "
                f"chance {chance:.2f}; mean reciprocal rank {'; '.join(ways)}; chance {float(scored['chance'].mean()):.2f}."
            )
        )
    return found


def _of_unread(texts: pd.DataFrame) -> list[Finding]:
    lost = texts[texts["unread_characters"] > 0]
    return [
        Finding(
            f"{reader} lacks some characters of {len(rows)} texts: their states are partly those of unknown tokens.",
            "warning",
        )
        for reader, rows in lost.groupby("reader", sort=False)
    ]
