"""What is said of all prompts, words and names together: means with intervals over prompts or texts."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.estimates import Kind, beside, estimates
from interp.tables import Tables

ALL = "all"
"""The row of all domains together."""
FREQUENCIES = (0, 1, 4, 16, 64, 256, 1024)
"""The least count of each class of frequency."""


def summarise(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns ways and ratios, for every domain and for all together; and what was read of words and of names."""
    found = _of_prompts(measured, seed)
    if len(measured["words"]):
        found |= _of_words(measured["words"], seed)
    if len(measured["concepts"]):
        found |= _of_concepts(measured["concepts"], seed)
    return found


def _of_prompts(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    places, continuations = (_with_all(measured[name]) for name in ("places", "continuations"))
    by = ["domain", "is_token_border", "way"]
    columns: tuple[tuple[str, str, Kind], ...] = (
        ("true_byte_nats", "nats", "mean"), ("kl_nats", "kl", "mean"), ("missed_share", "missed", "share"),
    )  # fmt: skip
    ways = [
        estimates(places, by, column, "prompt_id", kind=kind, name=name, limits=(0.0, np.inf), seed=seed)
        for column, name, kind in columns
    ]
    ratios = estimates(continuations, ["domain", "is_token_border"], "log10_ratio", "prompt_id", seed=seed)
    return {"ways": beside(by, *ways), "ratios": ratios.rename(columns={"value": "log10_ratio"})}


def _with_all(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.assign(domain=ALL)], ignore_index=True)


def _of_words(words: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    places = np.searchsorted(FREQUENCIES, words["count_elsewhere"], side="right") - 1
    words = words.assign(
        frequency=[_frequency(place) for place in places.tolist()],
        pieces=np.where(words["n_pieces"] > 2, "3+", words["n_pieces"].astype(str)),
    )
    both = pd.concat([words.iloc[np.argsort(places, kind="stable")], words.assign(frequency=ALL)], ignore_index=True)
    both = both.sort_values("pieces", kind="stable")
    by = ["frequency", "pieces"]
    surprisal = estimates(both, by, "surprisal_nats", "text_id", name="surprisal_nats", limits=(0.0, np.inf), seed=seed)
    likeliest = estimates(both, by, "is_likeliest", "text_id", kind="share", name="likeliest", seed=seed)
    rows, known = [], words[words["count_elsewhere"] > 0]
    for measure in ("surprisal_nats", "is_likeliest"):
        matched = estimates(
            known.assign(measure=measure), ["measure"], lambda rows, weights, m=measure: beyond_one_piece(rows, m, weights),
            "text_id", seed=seed,
        )  # fmt: skip
        several = known["n_pieces"] > 1
        unmatched = float(known.loc[several, measure].mean() - known.loc[~several, measure].mean())
        rows.append(matched.rename(columns={"value": "difference"}).assign(unmatched=unmatched))
    return {"pieces": beside(by, surprisal, likeliest), "fragmentation": pd.concat(rows, ignore_index=True)}


def _of_concepts(concepts: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    by = ["kind", "offset", "depth", "map"]
    above = estimates(concepts, by, "above_share", "text_id", kind="share", name="above", seed=seed)
    likeliest = estimates(concepts, by, "is_likeliest", "text_id", kind="share", name="likeliest", seed=seed)
    known = concepts[(concepts["map"] == "linear") & (concepts["count_elsewhere"] > 0)].dropna(subset="above_share")
    known = known.assign(frequency=np.searchsorted(FREQUENCIES, known["count_elsewhere"], side="right") - 1)
    gaps = []
    for kind in sorted(set(known["kind"]) - {"free"}):
        both = known[known["kind"].isin([kind, "free"])].assign(asked=kind)
        keys = ["asked", "offset", "depth"]
        matched = estimates(
            both, keys, lambda rows, weights: beyond_free(rows, "above_share", weights), "text_id", seed=seed
        )
        means = both.groupby([*keys, both["kind"] == kind])["above_share"].mean().unstack()
        unmatched = (means[True] - means[False]).rename("unmatched").reset_index()
        gaps.append(matched.merge(unmatched, on=keys).rename(columns={"asked": "kind", "value": "difference"}))
    return {
        "concept_depths": beside(by, above, likeliest),
        **({"concept_gaps": pd.concat(gaps, ignore_index=True)} if gaps else {}),
    }


def _frequency(place: int) -> str:
    first = FREQUENCIES[place]
    if place == len(FREQUENCIES) - 1:
        return f"{first}+"
    last = FREQUENCIES[place + 1] - 1
    return str(first) if first == last else f"{first}-{last}"


def beyond_one_piece(
    rows: pd.DataFrame, measure: str, weights: Float[np.ndarray, "draw row"]
) -> Float[np.ndarray, " draw"]:
    """Returns what words of several pieces have beyond those of one, cell by cell of frequency and capitals, in every draw."""
    return _beyond(rows, rows["n_pieces"] > 1, ["frequency", "is_capitalised"], measure, weights)


def beyond_free(rows: pd.DataFrame, measure: str, weights: Float[np.ndarray, "draw row"]) -> Float[np.ndarray, " draw"]:
    """Returns what names or words have beyond free runs, class by class of frequency, in every draw."""
    return _beyond(rows, rows["kind"] != "free", ["frequency"], measure, weights)


def _beyond(
    rows: pd.DataFrame, asked: pd.Series, by: list[str], measure: str, weights: Float[np.ndarray, "draw row"]
) -> Float[np.ndarray, " draw"]:
    """What the rows asked for have beyond the others, cell by cell. Cells count by rows asked for; those without others are left out."""
    several, values = asked.to_numpy(), rows[measure].to_numpy(dtype=float)
    cells = rows.groupby(by, sort=False).ngroup().to_numpy()
    total, matched = np.zeros(len(weights)), np.zeros(len(weights))
    for cell in np.unique(cells):
        w_many, w_one = (np.where((cells == cell) & some, weights, 0.0) for some in (several, ~several))
        n_many, n_one = w_many.sum(axis=1), w_one.sum(axis=1)
        known = (n_many > 0) & (n_one > 0)
        gap = (w_many @ values) / np.maximum(n_many, 1e-12) - (w_one @ values) / np.maximum(n_one, 1e-12)
        total += np.where(known, n_many * gap, 0.0)
        matched += np.where(known, n_many, 0.0)
    return np.where(matched > 0, total / np.maximum(matched, 1e-12), np.nan)
