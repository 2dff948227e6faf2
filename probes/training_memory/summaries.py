"""What is said of all sentences, and of texts with known duplicates: means and paired differences, items or texts resampled."""

from collections.abc import Iterator, Mapping

import pandas as pd

from interp.estimates import beside, estimates
from interp.tables import Tables, empty, of_runs
from probes.training_memory.tables import SCHEMAS

DRAWS = 1000
OF_DUPLICATES = {
    "is_recognised": "recognised", "margin_nats": "margin, nats", "rouge_second": "recall", "exact": "exact",
}  # fmt: skip
WHO = ["checkpoint", "is_twin", "duplicates"]


def summarise(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns all summary tables; those of parts that were left out are empty."""
    found = {
        "recognised": lambda: _recognised(measured["recognition"], seed),
        "recalled": lambda: _recalled(measured["recall"], seed),
        "lasting": lambda: _lasting(measured["lasting_recognition"], measured["lasting_recall"], seed),
        "carriers": lambda: _carriers(measured["layers_recognition"], measured["layers_recall"], seed),
        "known_values": lambda: _values(measured["values"], seed),
        "recall_gains": lambda: _recall_gains(measured["recall"], seed),
        "lasting_changes": lambda: _lasting_changes(measured["lasting_recognition"], measured["lasting_recall"], seed),
        "by_duplicates": lambda: by_duplicates(measured["duplicates"], seed),
        "duplicate_effects": lambda: duplicate_effects(measured["duplicates"], seed),
    }
    needs = {
        "recognised": "recognition", "recalled": "recall", "lasting": "lasting_recall", "carriers": "layers_recall",
        "known_values": "values", "recall_gains": "recall", "lasting_changes": "lasting_recall", "by_duplicates": "duplicates",
        "duplicate_effects": "duplicates",
    }  # fmt: skip
    return {name: make() if len(measured[needs[name]]) else empty(SCHEMAS[name]) for name, make in found.items()}


def _recognised(recognition: pd.DataFrame, seed: int) -> pd.DataFrame:
    by = ["condition", "learning_rate", "exposures", "foil"]
    margin = estimates(recognition, by, "margin_nats", "item_id", name="margin", seed=seed, draws=DRAWS)
    share = estimates(
        recognition, by, "is_recognised", "item_id", kind="share", name="recognised", seed=seed, draws=DRAWS
    )
    return beside(by, margin, share)


def _recalled(recall: pd.DataFrame, seed: int) -> pd.DataFrame:
    by = ["condition", "learning_rate", "exposures"]
    columns = {
        "second": "rouge_second", "exact": "exact", "released": "rouge_released", "another": "rouge_of_another", "floor": "rouge_floor",
    }  # fmt: skip
    return beside(
        by,
        *(
            estimates(recall, by, column, "item_id", kind="share", name=name, seed=seed, draws=DRAWS)
            for name, column in columns.items()
        ),
    )


MEASURES = {
    "recognised (changed)": "is_recognised",
    "margin (changed), nats": "margin_nats",
    "margin (other), nats": "margin_nats",
}


def _measures(recognition: pd.DataFrame, recall: pd.DataFrame, by: list[str], seed: int) -> pd.DataFrame:
    """Estimates of recognition against each foil, and of recall, in long form."""
    tables = []
    for name, column in MEASURES.items():
        rows = recognition[recognition["foil"] == ("changed" if "changed" in name else "other")]
        kind = "share" if column == "is_recognised" else "mean"
        tables.append(estimates(rows, by, column, "item_id", kind=kind, seed=seed, draws=DRAWS).assign(measure=name))
    second = estimates(recall, by, "rouge_second", "item_id", kind="share", seed=seed, draws=DRAWS)
    return pd.concat([*tables, second.assign(measure="recall")], ignore_index=True)


def _recall_gains(recall: pd.DataFrame, seed: int) -> pd.DataFrame:
    """By how much more of natural sentences is recalled than of what stands in their place in another condition, paired."""
    keys = ["learning_rate", "training_seed", "exposures", "item_id"]
    by, column = ["condition", "learning_rate", "exposures", "minus"], "rouge_second"
    natural = recall[recall["condition"] == "natural"]
    tables = []
    for minus, rows in recall[recall["condition"] != "natural"].groupby("condition", sort=False):
        other = rows[[*keys, column]].rename(columns={column: "other"})
        joined = natural.merge(other, on=keys).assign(minus=str(minus))
        gain = estimates(joined, by, column, "item_id", minus="other", kind="share", seed=seed, draws=DRAWS)
        tables.append(gain)
    return pd.concat(tables, ignore_index=True) if tables else empty(SCHEMAS["recall_gains"])


def _lasting_changes(recognition: pd.DataFrame, recall: pd.DataFrame, seed: int) -> pd.DataFrame:
    """By how much each measure has changed since study ended, paired by sentence."""
    by, keys = ["learning_rate", "updates_since"], ["learning_rate", "training_seed", "item_id"]
    tables = []
    for rows, column, measure in (
        (recognition[recognition["foil"] == "other"], "margin_nats", "margin (other), nats"),
        (recall, "rouge_second", "recall"),
    ):
        then = rows[rows["updates_since"] == 0][[*keys, column]].rename(columns={column: "then"})
        joined = rows[rows["updates_since"] != 0].merge(then, on=keys)
        kind = "share" if measure == "recall" else "mean"
        found = estimates(joined, by, column, "item_id", minus="then", kind=kind, seed=seed, draws=DRAWS)
        tables.append(found.assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def _lasting(recognition: pd.DataFrame, recall: pd.DataFrame, seed: int) -> pd.DataFrame:
    return _measures(recognition, recall, ["learning_rate", "updates_since"], seed)


def _carriers(recognition: pd.DataFrame, recall: pd.DataFrame, seed: int) -> pd.DataFrame:
    """By how much each measure falls, from the trained model, when a change is taken back: paired by item."""
    by, keys = ["learning_rate", "taken_back", "control", "share"], ["learning_rate", "item_id"]
    tables = []
    for rows, column, measure in (
        (recognition[recognition["foil"] == "other"], "margin_nats", "margin (other), nats"),
        (recall, "rouge_second", "recall"),
    ):
        whole = rows[rows["taken_back"] == "nothing"][[*keys, column]].rename(columns={column: "whole"})
        joined = rows[rows["taken_back"] != "nothing"].merge(whole, on=keys)
        kind = "share" if measure == "recall" else "mean"
        found = estimates(joined, by, "whole", "item_id", minus=column, kind=kind, seed=seed, draws=DRAWS)
        tables.append(found.assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def _values(values: pd.DataFrame, seed: int) -> pd.DataFrame:
    by = ["in_window", "instruction", "null"]
    values = values.assign(cluster=values["series"] + values["year"].astype(str))
    margin = estimates(values, by, "margin_nats", "cluster", seed=seed, draws=DRAWS)
    return margin.merge(values.groupby(by, sort=False)["rank_share"].mean().reset_index(), on=by)


def compared(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns the tables of what is recognised and recalled of several runs, as far as any of them has rows."""
    found = {name: of_runs(runs, name) for name in ("recognised", "recalled", "by_duplicates", "duplicate_effects")}
    return {name: table for name, table in found.items() if len(table)}


AGAINST_TWIN, AT_START = "less the twin's", "at the start less behind other text"


def lost_without(off: str) -> str:
    """Returns the name of the effect of switching heads off."""
    return f"lost without {off} heads"


def by_duplicates(duplicates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns the mean of every measure by checkpoint, duplicates, place and heads that are switched off."""
    tables = []
    for column, measure in OF_DUPLICATES.items():
        rows = duplicates.dropna(subset=[column])
        if len(rows):
            kind = "mean" if column == "margin_nats" else "share"
            found = estimates(rows, [*WHO, "place", "off"], column, "text_id", kind=kind, seed=seed, draws=DRAWS)
            tables.append(found.assign(measure=measure))
    return pd.concat(tables, ignore_index=True)


def duplicate_effects(duplicates: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns differences by checkpoint, duplicates and place: from the twin, from other places, and with heads switched off."""
    tables = []
    for column, measure in OF_DUPLICATES.items():
        rows = duplicates.dropna(subset=[column])
        kind = "mean" if column == "margin_nats" else "share"
        for effect, pairs in _paired(rows, column):
            if len(pairs):
                found = estimates(
                    pairs, [*WHO, "place"], column, "text_id", minus="other", kind=kind, seed=seed, draws=DRAWS
                )
                tables.append(found.assign(measure=measure, effect=effect))
    return pd.concat(tables, ignore_index=True) if tables else empty(SCHEMAS["duplicate_effects"])


def _paired(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Each effect with its rows: what is measured, and `other`, what is taken off."""
    plain = rows[rows["off"] == "none"]
    behind = _other(plain[plain["place"] == "offset"], column, ["checkpoint", "text_id"])
    yield AT_START, plain[plain["place"] == "start"].merge(behind)
    twin = _other(plain[plain["is_twin"]], column, ["place", "text_id"])
    yield AGAINST_TWIN, plain[~plain["is_twin"]].merge(twin)
    for off, without in rows[rows["off"] != "none"].groupby("off", sort=False):
        means: pd.DataFrame = without.groupby(["checkpoint", "place", "text_id"])[column].mean().reset_index()
        yield lost_without(str(off)), plain.merge(means.rename(columns={column: "other"}))


def _other(rows: pd.DataFrame, column: str, keys: list[str]) -> pd.DataFrame:
    return rows[[*keys, column]].rename(columns={column: "other"})
