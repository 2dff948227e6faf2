"""All summary tables of a function-token run, from its measured tables alone, and several runs side by side."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.estimates import beside, estimates
from interp.statistics import Estimate, bootstrap_interval, bounded, cluster_weights
from interp.tables import Tables, empty
from probes.function_tokens.coverage import (
    coverage_rows,
    frequency_intervals,
    sensitivity,
    shuffled_coverage,
    with_intervals,
)
from probes.function_tokens.degrees import TOP_TOKENS, accumulate, degree_intervals, degree_table, fit_degrees
from probes.function_tokens.graph import Counted, edge_overlap, edge_table, profile_table, total_counts
from probes.function_tokens.settings import Settings
from probes.function_tokens.tables import SCHEMAS
from probes.function_tokens.token_classes import FUNCTION, token_ranks

DRAWS = 200
"""Bootstrap draws of blocks."""
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


def summarise_all(settings: Settings, measured: Tables) -> Mapping[str, pd.DataFrame]:
    """Returns every summary table; those that have nothing to say are empty, with their columns."""
    frames: dict[str, list[pd.DataFrame]] = {table: [] for table in SUMMARIES}
    classes = measured["token_classes"]
    checks: Any = measured["dictionary_check"].itertuples() if "graph" in settings.parts else ()
    for check in checks:
        own = {
            table: measured[table][measured[table]["dictionary"] == check.dictionary]
            for table in ("block_pairs", "block_first_ranks")
        }
        ids = {"dictionary": check.dictionary, "layer": check.layer}
        summary = _DictionarySummary(settings, classes, own["block_pairs"], own["block_first_ranks"], int(check.width))
        for table, frame in summary.tables(str(check.neuronpedia_id)).items():
            frames[table].append(frame.assign(**ids))
    for table, source, summarise in (
        ("pair_losses", "pair_loss_documents", summarise_losses),
        ("reactivation", "reactivation_prompts", summarise_reactivation),
        ("steering", "steering_prompts", summarise_steering),
    ):
        if source in measured and len(measured[source]):
            frames[table].append(summarise(measured[source], seed=settings.seed))
    return {
        table: pd.concat(parts, ignore_index=True) if parts else empty(SCHEMAS[table])
        for table, parts in frames.items()
    }


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
            "shuffled_coverage": shuffled_coverage(self.counted, self.rank, self.first_ranks),
            "sensitivity": sensitivity(self.first_ranks, self.counted.n_features),
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
        for value, half in (("excess", "excess_half"), ("rarefied_20", "rarefied_half")):
            table[f"{value}_ci_low"] = table[value] - table[half]
            table[f"{value}_ci_high"] = table[value] + table[half]
        return table.drop(columns=["excess_half", "rarefied_half"])

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


def summarise_losses(table: pd.DataFrame, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Returns `pair_losses`: mean loss, frequency and share of the total per class pair and threshold, intervals over documents."""
    rows = []
    for threshold, part in table.groupby("threshold"):
        sums = part.pivot_table(
            index="document",
            columns=["current_class", "next_class"],
            values=["n", "loss_sum_nats", "bigram_sum_nats"],
            aggfunc="sum",
            fill_value=0,
        )
        documents = len(sums)
        weights = np.vstack([np.ones(documents), cluster_weights(documents, draws, seed)])
        n, loss, bigram = (weights @ sums[name].to_numpy() for name in ("n", "loss_sum_nats", "bigram_sum_nats"))
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                "mean_loss_nats": loss / n,
                "frequency": n / n.sum(axis=1, keepdims=True),
                "loss_share": loss / loss.sum(axis=1, keepdims=True),
                "above_bigram_nats": (loss - bigram) / n,
            }
        for column, pair in enumerate(sums["n"].columns):
            row = {"threshold": threshold, "current_class": pair[0], "next_class": pair[1]}
            row["n"], row["n_documents"] = int(n[0, column]), documents
            row["bigram_nats"] = bigram[0, column] / n[0, column]
            for name, values in found.items():
                is_share = name in ("frequency", "loss_share")
                limits = (0.0, 1.0) if is_share else (-np.inf, np.inf)
                low, high = bootstrap_interval(values[0, column], values[1:, column], documents, limits)
                estimate = Estimate(float(values[0, column]), float(low), float(high), documents)
                if is_share:
                    estimate = bounded(estimate)
                row |= estimate.columns(name)
            rows.append(row)
    return pd.DataFrame(rows)


def summarise_reactivation(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Returns `reactivation`: per dictionary and class, the mean share of the activation that is lost, and its excess over controls.

    A feature at the edge of its threshold may be found active when it is chosen and not when it is read again beside other
    prompts: such prompts (3 of 750 in bfloat16) have no share to lose and are left out; `n_prompts` counts the others.
    """
    by = ["dictionary", "layer", "token_class"]
    table = table[table["activation"] > 0].sort_values(by, kind="stable")
    table = table.assign(
        lost=1 - table["activation_sources_out"] / table["activation"],
        control_lost=1 - table["activation_controls_out"] / table["activation"],
        silenced=table["activation_sources_out"] == 0,
        control_silenced=table["activation_controls_out"] == 0,
    )
    share = partial(estimates, table, by, over="prompt", kind="share", seed=seed)
    found = [share(name, name=name) for name in ("lost", "control_lost", "silenced", "control_silenced")]
    beyond = share("lost", minus="control_lost", name="beyond_control")
    return beside(by, *found, beyond).rename(columns={"n_rows": "n_prompts"}).drop(columns="n")


def summarise_steering(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Returns `steering`: means per dictionary, place, class and direction, and the feature's excess over the random direction."""
    by = ["dictionary", "layer", "where", "token_class", "outcome"]
    rows = table.melt([*by[:-1], "prompt", "direction"], ["kl_nats", "promoted_gain_nats"], "outcome", "nats")
    rows = rows.pivot(index=[*by, "prompt"], columns="direction", values="nats").sort_index().reset_index()
    mean = partial(estimates, rows, by, over="prompt", seed=seed)
    found = [mean(name, name=name) for name in ("feature", "random")]
    means = beside(by, *found, mean("feature", minus="random", name="beyond_random"))
    return means.rename(columns={"n_rows": "n_prompts"}).drop(columns="n")


def compare_all(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns `pair_losses` and `top10_coverage` by run, and `edge_overlap` for every two runs."""
    losses, coverage = [], []
    for run, tables in runs.items():
        thresholds = tables["token_classes"]["threshold"]
        table = tables["pair_losses"]
        if len(table):
            losses.append(table[table["threshold"] == thresholds.iloc[0]].assign(run=run))
        table = tables["coverage"]
        if len(table):
            plain = (table["chosen_by"] == "frequency") & (table["min_count"] == 1) & (table["k"] == 10)
            coverage.append(table[plain].assign(run=run))
    return {
        "pair_losses": pd.concat(losses, ignore_index=True) if losses else pd.DataFrame(),
        "top10_coverage": pd.concat(coverage, ignore_index=True) if coverage else pd.DataFrame(),
        "edge_overlap": edge_overlap({run: tables["edges"] for run, tables in runs.items()}),
    }
