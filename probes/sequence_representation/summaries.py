"""What is said of all pairs, sentences and queries together. Intervals resample sentences (clusters of pairs) or news sentences."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from interp.agreement import weighted_spearman
from interp.estimates import ESTIMATE, Statistic, beside, estimates
from interp.statistics import Array, resampled
from interp.tables import Tables, empty, of_runs
from probes.sequence_representation.pairs import TRAPS
from probes.sequence_representation.scores import chance_reciprocal
from probes.sequence_representation.settings import Settings
from probes.sequence_representation.tables import BY_WAY, SCHEMAS

DRAWS = 500
WAY = [*BY_WAY]
READ_AT = {"7/8 of depth": 27 / 32, "last layer": 1.0}
"""Layers that arms are compared at: the published code reads after 27 of 32 layers. Settled before anything was measured."""
RECALLED = (1, 10, 100)


def correlation(rows: pd.DataFrame, weights: Array, *, column: str, held: str | None = None) -> Array:
    """Returns Spearman's correlation of a column with the grade in every draw; with `held`, the partial one given that column."""
    found = weighted_spearman(rows[column], rows["grade"], weights)
    if held is None:
        return found
    a = weighted_spearman(rows[column], rows[held], weights)
    b = weighted_spearman(rows["grade"], rows[held], weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (found - a * b) / np.sqrt((1 - a**2) * (1 - b**2))


MEASURES: dict[str, Statistic] = {
    "cosine": partial(correlation, column="cosine"),
    "cosine, centred": partial(correlation, column="cosine_centred"),
    "cosine, length held": partial(correlation, column="cosine", held="length_difference"),
    "cosine, words held": partial(correlation, column="cosine", held="word_overlap"),
}
BASELINES: dict[str, Statistic] = {
    "shared words": partial(correlation, column="word_overlap"),
    "length": lambda rows, weights: -correlation(rows, weights, column="length_difference"),
}


def summarise(measured: Tables, settings: Settings) -> dict[str, pd.DataFrame]:
    """Returns all summary tables."""
    pairs = measured["pairs"]
    seed = settings.seed
    depths = measured["spreads"].drop_duplicates("reader").set_index("reader")["n_layers"]
    at = {(reader, layer) for reader, n_layers in depths.items() for layer in compared_layers(n_layers).values()}
    compared = pairs[pd.MultiIndex.from_frame(pairs[["reader", "layer"]]).isin(at)]
    found = {
        "correlations": _correlations(pairs, compared, seed).assign(
            n_layers=lambda table: table["reader"].map(depths).fillna(0)
        ),
        "gains": _gains(pairs, depths, seed),
        "kinds": estimates(
            compared, [*WAY, "kind"], "cosine_centred", "cluster", kind="correlation", seed=seed, draws=DRAWS
        ),
        "orders": _orders(compared, seed),
    }
    if "shifts" in measured and len(measured["shifts"]):
        moved = estimates(
            measured["shifts"], ["arm", "layer", "position"], "relative_change", "text_id", seed=seed, draws=DRAWS
        )
    else:
        moved = empty(SCHEMAS["moved"])
    words = measured["words"]
    bags = _bags(words, seed) if len(words) else empty(SCHEMAS["bags_of_words"])
    tokens, documents = measured["tokens"], measured["documents"]
    return {
        **found, "moved": moved, "bags_of_words": bags,
        "recalls": _recalls(tokens, seed) if len(tokens) else empty(SCHEMAS["recalls"]),
        "ranks": _ranks(documents, seed) if len(documents) else empty(SCHEMAS["ranks"]),
    }  # fmt: skip


def subsets(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Returns all pairs, and those whose kind is no trap, where there are both."""
    plain = pairs[~pairs["kind"].isin(TRAPS)]
    return {"all": pairs} | ({"without traps": plain} if 0 < len(plain) < len(pairs) else {})


def _correlations(pairs: pd.DataFrame, compared: pd.DataFrame, seed: int) -> pd.DataFrame:
    tables = []
    for name, part in subsets(pairs).items():
        held = subsets(compared)[name]
        for measure, statistic in MEASURES.items():
            rows = held if measure.endswith("held") else part
            table = estimates(rows, WAY, statistic, "cluster", kind="correlation", seed=seed, draws=DRAWS)
            tables.append(table.assign(pairs=name, measure=measure))
        once = part.drop_duplicates("pair_id").assign(reader="none", arm="baseline", exit=0, pool="none", layer=0)
        for measure, statistic in BASELINES.items():
            table = estimates(once, WAY, statistic, "cluster", kind="correlation", seed=seed)
            tables.append(table.assign(pairs=name, measure=measure))
    return pd.concat(tables, ignore_index=True)


def compared_layers(n_layers: int) -> dict[str, int]:
    """Returns the layers at which arms are compared, by name."""
    return {name: max(0, round(share * n_layers) - 1) for name, share in READ_AT.items()}


def _gains(pairs: pd.DataFrame, depths: pd.Series, seed: int) -> pd.DataFrame:
    """Every arm's last-token correlation minus that of `prompt`, and prepend's minus every control's, on the same draws."""
    rows = []
    alone = pairs[(pairs["pool"] == "last") & (pairs["arm"] != "encoder")]
    arms = dict(iter(alone.groupby(["arm", "exit"], sort=False)))
    against = [(key, ("prompt", 0)) for key in arms if key != ("prompt", 0)]
    prepends = [key for key in arms if key[0] == "prepend"]
    against += [(one, key) for one in prepends for key in arms if key[0] in ("slot", "other", "mean", "random")]
    for first, second in against:
        reader = str(arms[first]["reader"].iloc[0])
        for read_at, layer in compared_layers(int(depths[reader])).items():
            both = [arms[key][arms[key]["layer"] == layer].set_index("pair_id") for key in (first, second)]
            joined = both[0].assign(other=both[1]["cosine"], other_centred=both[1]["cosine_centred"]).reset_index()
            for name, part in subsets(joined).items():
                for measure, columns in (
                    ("cosine", ("cosine", "other")),
                    ("cosine, centred", ("cosine_centred", "other_centred")),
                ):

                    def difference(
                        weights: Array, part: pd.DataFrame = part, columns: tuple[str, str] = columns
                    ) -> Array:
                        a, b = (correlation(part, weights, column=column) for column in columns)
                        return a - b

                    estimate = resampled(difference, part["cluster"], seed=seed)
                    rows.append((reader, *first, second[0], layer, read_at, name, measure, *estimate, len(part)))
    columns = ["reader", "arm", "exit", "against", "layer", "read_at", "pairs", "measure", *ESTIMATE]
    return pd.DataFrame(rows, columns=columns)


def _orders(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    own = pairs[pairs["kind"] != "given"]
    if own.empty:
        return empty(SCHEMAS["orders"])
    paraphrase = own[own["kind"] == "paraphrase"].set_index([*WAY, "cluster"])["cosine"]
    others = own[own["kind"] != "paraphrase"]
    keys = pd.MultiIndex.from_frame(others[[*WAY, "cluster"]])
    closer = (paraphrase.reindex(keys).to_numpy() > others["cosine"].to_numpy()).astype(float)
    return estimates(
        others.assign(closer=closer), [*WAY, "kind"], "closer", "cluster", kind="share", seed=seed, draws=DRAWS
    )


def _bags(words: pd.DataFrame, seed: int) -> pd.DataFrame:
    by = ["reader", "layer", "n_layers", "pool", "half"]
    shuffled = words.dropna(subset=["ndcg_shuffled"])
    words = pd.concat(
        [words, shuffled.assign(pool="mean of another", ndcg=shuffled["ndcg_shuffled"])], ignore_index=True
    )
    level = estimates(words, by, "ndcg", "sentence_id", kind="share", name="ndcg", seed=seed, draws=DRAWS)
    gain = estimates(
        words, by, "ndcg", "sentence_id", minus="ndcg_frequency", kind="share", name="gain", seed=seed, draws=DRAWS
    )
    return beside(by, level, gain)


def _recalls(tokens: pd.DataFrame, seed: int) -> pd.DataFrame:
    by = ["reader", "layer", "n_layers", "centred", "kind", "token_class"]
    tokens = pd.concat([tokens, tokens.assign(**{"token_class": "all"})], ignore_index=True)
    same = estimates(tokens, by, "finds_itself", "cluster", kind="share", name="same_token", seed=seed, draws=DRAWS)
    tables = []
    for k in RECALLED:
        rows = tokens.assign(hit=(tokens["gold_rank"] <= k).astype(float), chance=_chance_of_hit(tokens, k))
        found = estimates(rows, by, "hit", "cluster", kind="share", seed=seed, draws=DRAWS)
        chance = rows.groupby(by, sort=False)["chance"].mean().reset_index()
        tables.append(beside(by, found, same).merge(chance, on=by).assign(k=k))
    return pd.concat(tables, ignore_index=True)


def _chance_of_hit(tokens: pd.DataFrame, k: int) -> pd.Series:
    """The probability that k of all tokens, taken at random, hold one of the right document's."""
    n, gold = tokens["n_tokens"].to_numpy(float), tokens["n_gold_tokens"].to_numpy(float)
    steps = np.arange(k)[:, None]
    missed = np.clip((n - gold - steps) / np.maximum(n - steps, 1), 0, 1).prod(axis=0)
    return pd.Series(1 - missed, index=tokens.index)


def _ranks(documents: pd.DataFrame, seed: int) -> pd.DataFrame:
    by = ["reader", "layer", "n_layers", "centred", "kind", "scoring", "top_k"]
    reciprocal = estimates(documents, by, "reciprocal_rank", "cluster", kind="share", seed=seed, draws=DRAWS)
    first = estimates(documents, by, "is_first", "cluster", kind="share", name="first", seed=seed, draws=DRAWS)
    return beside(by, reciprocal, first).assign(chance=chance_reciprocal(int(documents["n_documents"].iloc[0])))


# ---------------------------------------------------------------------- several runs


def compared(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns the correlations of cosine and grade after the last layer, and what arms gain, of several runs."""
    correlations = of_runs(runs, "correlations")
    last = correlations["layer"] == correlations["n_layers"] - 1
    gains = of_runs(runs, "gains")
    return {
        "correlations": correlations[last & (correlations["measure"] == "cosine")],
        "gains": gains[(gains["against"] == "prompt") & (gains["measure"] == "cosine")],
    }
