"""All summary tables of a function-token run, put together from its measured tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.models.identity import ModelFacts
from interp.tables import Tables, checked, empty
from probes.function_tokens.accumulation import accumulate
from probes.function_tokens.coverage import sizes
from probes.function_tokens.curves import coverage_rows, frequency_intervals, ranks_over_blocks, with_intervals
from probes.function_tokens.degree_fit import fit_degrees
from probes.function_tokens.graph import (
    TOP_TOKENS,
    Z95,
    Counted,
    degree_intervals,
    degree_table,
    edge_table,
    profile_table,
    total_counts,
)
from probes.function_tokens.knockout import summarise_reactivation
from probes.function_tokens.losses import summarise_losses
from probes.function_tokens.settings import Settings
from probes.function_tokens.steering import summarise_steering
from probes.function_tokens.tables import SCHEMAS
from probes.function_tokens.tally import NEVER
from probes.function_tokens.token_classes import FUNCTION

DRAWS = 200
"""Bootstrap draws of blocks."""
SENSITIVITY_SIZES = (1, 10, 100)
SUMMARIES = (
    "edges",
    "token_degrees",
    "coverage",
    "accumulation",
    "shuffled_coverage",
    "sensitivity",
    "degree_fit",
    "feature_profile",
    "pair_losses",
    "reactivation",
    "steering",
)


def summarise_all(settings: Settings, facts: ModelFacts, measured: Tables) -> Mapping[str, pd.DataFrame]:
    """Returns every summary table; those that have nothing to say are empty, with their columns."""
    name, seed = facts.name, settings.seed
    frames: dict[str, list[pd.DataFrame]] = {table: [] for table in SUMMARIES}
    classes = measured["token_classes"]
    checks: Any = measured["dictionary_check"].itertuples() if "graph" in settings.parts else ()
    for check in checks:
        own = {
            table: measured[table][measured[table]["dictionary"] == check.dictionary]
            for table in ("block_pairs", "block_first_ranks")
        }
        ids = {"model": name, "dictionary": check.dictionary, "layer": check.layer}
        summary = _DictionarySummary(settings, classes, own["block_pairs"], own["block_first_ranks"], int(check.width))
        for table, frame in summary.tables(str(check.neuronpedia_id)).items():
            frames[table].append(frame.assign(**ids))
    for table, source, summarise in (
        ("pair_losses", "pair_loss_documents", summarise_losses),
        ("reactivation", "reactivation_prompts", summarise_reactivation),
        ("steering", "steering_prompts", summarise_steering),
    ):
        if source in measured and len(measured[source]):
            frames[table].append(summarise(measured[source], name, seed=seed))
    return {
        table: checked(pd.concat(parts, ignore_index=True), SCHEMAS[table]) if parts else empty(SCHEMAS[table])
        for table, parts in frames.items()
    }


def token_ranks(classes: pd.DataFrame, largest_id: int) -> NDArray[np.int32]:
    """Returns each token id's frequency rank; ids that never occurred come after all others, in id order (as Corpus.rank)."""
    size = int(max(classes["token_id"].max(), largest_id)) + 1
    ranks = len(classes) + 1 + np.arange(size)
    ranks[classes["token_id"]] = classes["rank"]
    return ranks.astype(np.int32)


class _DictionarySummary:
    """The summary tables of one dictionary."""

    def __init__(
        self,
        settings: Settings,
        classes: pd.DataFrame,
        pairs: pd.DataFrame,
        first_ranks: pd.DataFrame,
        width: int,
    ) -> None:
        self.settings, self.classes, self.pairs, self.first_ranks = settings, classes, pairs, first_ranks
        self.counted: Counted = total_counts(pairs, width)
        self.rank = token_ranks(classes, int(pairs["token_id"].max()))
        self.function_ids = classes.loc[classes["token_class"] == FUNCTION, "token_id"].to_numpy()

    def tables(self, neuronpedia_id: str) -> dict[str, pd.DataFrame]:
        """Returns every summary table that rests on the graph."""
        degrees = self._degrees()
        profile = profile_table(self.counted, self.function_ids)
        pages = profile["feature_id"].map(lambda feature: f"https://www.neuronpedia.org/{neuronpedia_id}/{feature}")
        names = self.classes.set_index("token_id")["token"]
        profile = profile.assign(
            page=pages if neuronpedia_id else "", top_token=profile["top_token_id"].map(names).fillna("")
        )
        fits = [
            fit_degrees(table["degree"]).assign(side=side) for side, table in (("token", degrees), ("feature", profile))
        ]
        fits = [fit for fit in fits if len(fit)]
        coverage = pd.DataFrame(
            coverage_rows(
                self.counted,
                self.rank,
                self.function_ids,
                random_sets=self.settings.random_sets,
                seed=self.settings.seed,
            )
        )
        return {
            "edges": edge_table(self.counted),
            "token_degrees": degrees,
            "coverage": self._coverage_with_intervals(coverage),
            "accumulation": self._accumulation(),
            "shuffled_coverage": self._shuffled(),
            "sensitivity": self._sensitivity(),
            "feature_profile": profile,
            **({"degree_fit": pd.concat(fits, ignore_index=True)} if fits else {}),
        }

    def _degrees(self) -> pd.DataFrame:
        table = degree_table(self.counted)
        names = self.classes.set_index("token_id")[["token", "kind", "token_class"]]
        table = table.join(names, on="token_id").assign(rank=self.rank[table["token_id"].to_numpy()])
        table = table.fillna({"token": "", "kind": "other", "token_class": "content"})
        table = table.sort_values("rank", kind="stable", ignore_index=True)
        top = table["token_id"].head(TOP_TOKENS).tolist()
        spread = degree_intervals(self.pairs, self.counted, top, DRAWS, self.settings.seed)
        table = table.merge(spread, on="token_id", how="left")
        for value, sd in (("excess", "excess_sd"), ("rarefied_20", "rarefied_sd")):
            table[f"{value}_ci_low"] = table[value] - Z95 * table[sd]
            table[f"{value}_ci_high"] = table[value] + Z95 * table[sd]
        return table.drop(columns=["excess_sd", "rarefied_sd"])

    def _coverage_with_intervals(self, coverage: pd.DataFrame) -> pd.DataFrame:
        plain = coverage[(coverage["chosen_by"] == "frequency") & (coverage["min_count"] == 1)]
        ks = np.sort(plain["k"].to_numpy())
        observed = self.first_ranks[
            (self.first_ranks["labels"] == "observed") & (self.first_ranks["positions"] == "kept")
        ]
        spread = frequency_intervals(self.pairs, observed, self.rank, self.counted, ks, DRAWS, self.settings.seed)
        return with_intervals(coverage, spread)

    def _accumulation(self) -> pd.DataFrame:
        ids = self.counted.token_ids
        function = np.isin(ids, self.function_ids)
        by_rank = ids[np.argsort(self.rank[ids], kind="stable")]
        sets = {"ten most frequent": by_rank[:10], "function": ids[function], "content": ids[~function], "all": ids}
        return accumulate(self.pairs, self.counted.n_features, sets, seed=self.settings.seed)

    def _shuffled(self) -> pd.DataFrame:
        """Coverage in frequency order by shuffled labels: the same features, the same tokens, other company."""
        shuffled = self.first_ranks[self.first_ranks["labels"] != "observed"]
        kth = np.sort(self.rank[self.counted.token_ids])
        ks = sizes(len(kth))
        rows = []
        for (labels, replicate), first in ranks_over_blocks(shuffled, ["labels", "replicate"]).items():
            reached = np.searchsorted(np.sort(first[first < NEVER]), kth[ks - 1], side="right")
            alive = max(1, int((first < NEVER).sum()))
            rows += [
                {"labels": labels, "replicate": replicate, "k": int(k), "coverage_alive": n / alive}
                for k, n in zip(ks, reached, strict=True)
            ]
        return pd.DataFrame(rows)

    def _sensitivity(self) -> pd.DataFrame:
        observed = self.first_ranks[self.first_ranks["labels"] == "observed"]
        rows = []
        for (positions,), first in ranks_over_blocks(observed, ["positions"]).items():
            for k in SENSITIVITY_SIZES:
                n = int((first <= k).sum())
                rows.append(
                    {"positions": positions, "k": k, "features": n, "coverage_width": n / self.counted.n_features}
                )
        return pd.DataFrame(rows)
