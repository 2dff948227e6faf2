"""What is said of all texts, words and tokens together: means with intervals over whole texts, words or tokens."""

import numpy as np
import pandas as pd

from interp.estimates import beside, estimates
from interp.tables import Tables, empty
from probes.embedding_swap.pieces import OWN
from probes.embedding_swap.scores import frame_effect, word_effect
from probes.embedding_swap.tables import SCHEMAS

ANY = "any"
"""The row of all tokens, whatever was there before them."""
CONDITION = ["kind", "among", "share"]


def summarise(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns the summary tables; a part that was not measured has none of their rows."""
    found = {
        **_of_ciphers(measured["places"], seed), **_of_lens(measured["lens"], seed), **_of_frames(measured, seed),
        **_of_rules(measured["rebuilt"], seed),
    }  # fmt: skip
    return {name: table if len(table) else empty(SCHEMAS[name]).drop(columns="model") for name, table in found.items()}


def _of_ciphers(places: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    keys = ["text_id", "position"]
    plain = places[places["kind"] == "plain"].set_index(keys)["surprisal_nats"].rename("own_nats")
    rows = places[places["kind"] != "plain"].join(plain, on=keys)
    if not len(rows):
        return {"ciphers": rows, "course": rows}
    rows = rows.assign(gap=rows["surprisal_nats"] - rows["own_nats"])
    every = pd.concat([rows, rows.assign(seen=ANY)], ignore_index=True)
    by = [*CONDITION, "is_changed", "seen"]
    gaps = estimates(every, by, "gap", "text_id", seed=seed).rename(columns={"value": "gap_nats"})
    own = every.groupby(by, sort=False)["own_nats"].mean().rename("plain_nats").reset_index()
    edges = _edges(int(rows["position"].max()) + 1)
    bins = np.searchsorted(edges, every["position"], side="right") - 1
    changed = every.assign(position_low=edges[bins], position_high=edges[bins + 1])[every["is_changed"]]
    course = estimates(changed, [*CONDITION, "seen", "position_low", "position_high"], "gap", "text_id", seed=seed)
    return {"ciphers": gaps.merge(own, on=by), "course": course.rename(columns={"value": "gap_nats"})}


def _edges(n_tokens: int) -> np.ndarray:
    """Beginnings of the bins of positions: each as long as all before it together."""
    edges = [0, 16]
    while 2 * edges[-1] < n_tokens:
        edges.append(2 * edges[-1])
    return np.array([*edges, max(n_tokens, edges[-1] + 1)])


def _of_lens(lens: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    if not len(lens):
        return {"lens_layers": lens}
    found = estimates(lens, ["kind", "layer", "where", "which", "seen"], "margin_nats", "text_id", seed=seed)
    return {"lens_layers": found.rename(columns={"value": "margin_nats"})}


WITH_CLASS = ("known", "conflict")
"""Kinds of words that have a part of speech of their own."""


def _of_frames(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    behaviour, readouts = measured["behaviour"], measured["readouts"]
    if not len(behaviour):
        return {"effects": behaviour, "accuracy": readouts}
    effects = pd.concat([part for _, rows in behaviour.groupby("revision", sort=False) for part in _effects(rows)])
    by = ["revision", "kind", "source"]
    found = estimates(effects, by, "effect", "word", seed=seed).rename(columns={"value": "effect_nats"})
    own = ["revision", "kind", "layer", "place"]
    # Before the slot stands the frame alone: all words share what is read there, and tell nothing of other frames.
    frames = readouts["frame_class"] + " " + readouts["frame"].astype(str)
    readouts = readouts.assign(cluster=readouts["word"].where(readouts["place"] == "word", frames))
    with_class = readouts[readouts["kind"].isin(WITH_CLASS)]
    shares = [
        estimates(rows, own, column, "cluster", kind="share", name=name, seed=seed)
        for rows, column, name in (
            (readouts, "is_frame_class", "frame_share"), (with_class, "is_word_class", "word_share")
        )
    ]  # fmt: skip
    chance = readouts.groupby(own, sort=False)["shuffled_share"].mean().rename("chance").reset_index()
    return {"effects": found, "accuracy": beside(own, *shares).merge(chance, on=own)}


def _effects(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """One row for every word: what the frame does; and for known words what the word itself does."""
    classes = list(rows["frame_class"].drop_duplicates())
    names = {"revision": rows["revision"].iloc[0]}
    frames = []
    for (kind, word), own in rows.groupby(["kind", "word"], sort=False):
        nats = own.pivot_table(index="frame_class", columns="test_class", values="log_p").loc[classes, classes]
        frames.append({**names, "kind": kind, "word": word, "source": "frame", "effect": frame_effect(nats.to_numpy())})
    known = rows[rows["kind"] == "known"].pivot_table(
        index=["word", "word_class"], columns="test_class", values="log_p"
    )[classes]
    of = known.index.get_level_values("word_class").map(classes.index).to_numpy(dtype=int)
    words = pd.DataFrame(
        {
            **names,
            "kind": "known",
            "word": known.index.get_level_values("word"),
            "source": "word",
            "effect": word_effect(known.to_numpy(), of),
        }
    )
    return [pd.DataFrame(frames), words]


def _of_rules(rebuilt: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    if not len(rebuilt):
        return {"rules": rebuilt}
    own = rebuilt[rebuilt["rule"] == OWN].set_index("token_id")[["token_nats", "after_nats"]].add_prefix("own_")
    rows = rebuilt[rebuilt["rule"] != OWN].join(own, on="token_id")
    rows = rows.assign(
        output=rows["token_nats"] - rows["own_token_nats"], input=rows["after_nats"] - rows["own_after_nats"]
    )
    parts = [
        estimates(rows, ["rule"], column, "token_id", name=name, seed=seed)
        for column, name in (("output", "output_nats"), ("input", "input_nats"))
    ]
    with_rows = rows.dropna(subset="cosine")
    cosine = estimates(with_rows, ["rule"], "cosine", "token_id", kind="correlation", name="cosine", seed=seed)
    return {"rules": beside(["rule"], parts[0], parts[1], cosine)}
