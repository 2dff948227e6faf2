"""Where predictions settle and what reads them out: estimates with intervals over texts or questions. No model."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd

from interp.estimates import estimates
from interp.tables import Tables, of_runs
from probes.prediction_depth.scores import accuracy_draws, auroc_draws, matched_difference, slope

COVERAGES = tuple(round(0.1 * tenth, 1) for tenth in range(1, 11))
BIN = 0.5
"""Width of the bins of log10 frequency within which tokens are matched."""
FREQUENCIES = (-np.inf, 1.0, 2.0, 3.0, 4.0, np.inf)
SURPRISALS = (-np.inf, 0.5, 2.0, 5.0, np.inf)
N_POSITIONS = 4
Draws = np.ndarray
AGES = (-2, -1, 16, 64, 256, 10**9)
AGE_NAMES = ("never", "1-16", "17-64", "65-256", "over 256")


def summarise_all(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns the summary tables."""
    answers = measured["answers"]
    return {
        "settled": _settled(measured["tokens"], float(measured["depths"]["depth"].max()), seed),
        "contrasts": pd.concat([_prose_contrasts(measured["tokens"], seed), _fact_contrasts(measured["answer_tokens"], seed)]),
        "slopes": _slopes(measured["tokens"], seed),
        "quality": _long(measured["depths"], ["lens", "depth"], _QUALITY, "text_id", seed),
        "ways": _long(measured["readouts"], ["way", "depth"], _WAYS, "question_id", seed),
        "aurocs": pd.concat([_aurocs(answers, seed), _aurocs(measured["readout_depths"].assign(signal="readout"), seed, by_depth=True)]),
        "selective": _selective(answers, seed),
        **summarise_decoding(measured, seed),
    }  # fmt: skip


_QUALITY = {"kl_nats": "mean", "agreement": "share", "common_share": "share", "revised_common_share": "share"}
_WAYS = {"agrees": "share", "agrees_with_another": "share", "is_right": "share"}


def _long(table: pd.DataFrame, by: list[str], quantities: dict[str, str], over: str, seed: int) -> pd.DataFrame:
    """Estimates of several columns that are not negative, one below the other, with the column's name in `quantity`."""
    return pd.concat(
        [
            estimates(table, by, column, over, kind=kind, limits=(0.0, np.inf), seed=seed).assign(quantity=column)  # type: ignore[arg-type]
            for column, kind in quantities.items()
        ]
    )


# ---------------------------------------------------------------------- where predictions settle


def _settled(tokens: pd.DataFrame, last: float, seed: int) -> pd.DataFrame:
    position = pd.qcut(tokens["position"], N_POSITIONS, labels=False, duplicates="drop").astype(str)
    groups = {
        "all": pd.Series("all", index=tokens.index),
        "token class": tokens["token_class"],
        "log10 frequency": pd.cut(tokens["log10_per_million"], FREQUENCIES).astype(str),
        "quarter of the text": position,
        "surprisal": pd.cut(tokens["surprisal_nats"], SURPRISALS).astype(str),
    }
    return pd.concat(
        [
            estimates(
                tokens.assign(grouping=name, group=group), ["lens", "grouping", "group"], "settle_depth", "text_id",
                limits=(0.0, last), seed=seed,
            )
            for name, group in groups.items()
        ]
    )  # fmt: skip


def _prose_contrasts(tokens: pd.DataFrame, seed: int) -> pd.DataFrame:
    words = tokens[tokens["token_class"].isin(["function", "content"])]
    letters = tokens[tokens["token_class"].isin(["function", "content", "later part of a word"])]
    parts = {
        "function less content": words.assign(first=words["token_class"].eq("function")),
        "later part of a word less its beginning": letters.assign(first=letters["token_class"].eq("later part of a word")),
    }  # fmt: skip
    return pd.concat([_contrast(name, rows, "text_id", seed) for name, rows in parts.items()])


def _fact_contrasts(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    several = answers[answers["n_answer_tokens"] > 1]
    later = several.assign(first=several["place"] > 0)
    return pd.concat(
        [
            _contrast("later token of a fact less its first", later, "question_id", seed),
            _contrast(
                "later token of a fact less its first, both right", later[later["is_right"]], "question_id", seed
            ),
        ]
    )


def _contrast(name: str, rows: pd.DataFrame, over: str, seed: int) -> pd.DataFrame:
    """The difference as it is, and within bins of equal frequency."""
    bins = np.floor(rows["log10_per_million"] / BIN).astype(int)
    by = ["contrast", "lens", "matched"]
    both = [rows.assign(bin=bins if matched else 0, contrast=name, matched=matched) for matched in (False, True)]
    return pd.concat([estimates(part, by, _difference, over, seed=seed) for part in both])


def _difference(rows: pd.DataFrame, weights: Draws) -> Draws:
    values, first, bins = (rows[name].to_numpy() for name in ("settle_depth", "first", "bin"))
    return matched_difference(values.astype(float), first.astype(bool), bins, weights)


def _slopes(tokens: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Change for each hundred tokens of text before a prediction."""
    of_depth = tokens.assign(hundreds=tokens["position"] / 100, quantity="settle_depth")
    of_nats = of_depth[of_depth["lens"] == "logit"].assign(quantity="surprisal_nats")
    return pd.concat(
        [
            estimates(rows, ["quantity", "lens"], partial(_slope, rows["quantity"].iloc[0]), "text_id", seed=seed)
            for rows in (of_depth, of_nats)
        ]
    )


def _slope(column: str, rows: pd.DataFrame, weights: Draws) -> Draws:
    return slope(rows["hundreds"], rows[column], weights)


# ---------------------------------------------------------------------- will it be right?


def _aurocs(answers: pd.DataFrame, seed: int, *, by_depth: bool = False) -> pd.DataFrame:
    """Area under the curve within relations; depth -1 where none belongs to the signal."""
    table = answers if by_depth else answers.assign(depth=-1)
    return estimates(table.dropna(subset="score"), ["signal", "depth"], _auroc, "question_id", kind="share", seed=seed)


def _auroc(rows: pd.DataFrame, weights: Draws) -> Draws:
    return auroc_draws(rows["score"].to_numpy(), rows["is_right"].to_numpy(), rows["relation"].tolist(), weights)


def _selective(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    def accuracy(coverage: float) -> Callable[[pd.DataFrame, Draws], Draws]:
        return lambda rows, weights: accuracy_draws(
            rows["score"].to_numpy(), rows["is_right"].to_numpy(), coverage, weights
        )

    def parts() -> Iterator[pd.DataFrame]:
        for coverage in COVERAGES:
            kept = answers.dropna(subset="score").assign(coverage=coverage)
            yield estimates(kept, ["signal", "coverage"], accuracy(coverage), "question_id", kind="share", seed=seed)

    return pd.concat(list(parts()))


# ---------------------------------------------------------------------- several runs


def compared(runs: Mapping[str, Tables]) -> dict[str, pd.DataFrame]:
    """Returns settle depths of all tokens, their contrasts, and the quality of lenses of several runs."""
    settled = of_runs(runs, "settled")
    return {
        "settled": settled[settled["grouping"] == "all"],
        "contrasts": of_runs(runs, "contrasts"),
        "quality": of_runs(runs, "quality"),
    }


def summarise_decoding(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns the summary tables of skipped layers, reweaving and drafts."""
    skips = measured["skips"]
    by = ["budget", "arm", "schedule"]
    costs = [
        estimates(skips, by, "change_nats", "text_id", seed=seed).assign(quantity="change_nats"),
        estimates(skips, by, "agreement", "text_id", kind="share", seed=seed).assign(quantity="agreement"),
        estimates(skips, by, "mean_layers", "text_id", seed=seed).assign(quantity="mean_layers"),
    ]
    return {
        "skip_costs": pd.concat(costs),
        "schedules": _schedules(skips, seed),
        "woven": estimates(measured["reweaving"], ["site", "added", "beta"], "change_nats", "text_id", seed=seed),
        "accepted": estimates(
            _per_pass(measured["drafts"]), ["domain", "drafter"], "tokens", "text_id", limits=(1.0, np.inf), seed=seed
        ),
        "hits": _hits(measured["recurrences"], seed),
    }


def _schedules(skips: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What the falling schedule costs less the other two, on the same text with the same arm and budget."""
    keys = ["budget", "arm", "text_id"]
    wide = skips.pivot(index=keys, columns="schedule", values="change_nats").reset_index()
    return pd.concat(
        [
            estimates(wide.assign(against=other), ["budget", "arm", "against"], "falling", "text_id", minus=other, seed=seed)
            for other in ("constant", "rising")
        ]
    )  # fmt: skip


def _per_pass(drafts: pd.DataFrame) -> pd.DataFrame:
    return drafts.assign(tokens=drafts["accepted"] + 1)


def _hits(recurrences: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Share of tokens among the candidates: any of them, each rank, and by the age of what was kept."""
    by = ["domain", "drafter", "grouping", "group"]
    ages = pd.cut(recurrences["age_tokens"], AGES, labels=AGE_NAMES).astype(str)
    parts = [recurrences.assign(grouping="any", group="any", hit=recurrences["rank"] >= 0)]
    parts += [
        recurrences.assign(grouping="rank", group=str(rank), hit=recurrences["rank"] == rank)
        for rank in sorted(set(recurrences["rank"]) - {-1})
    ]
    aged = recurrences["drafter"] != "unigram"
    parts.append(recurrences.assign(grouping="age", group=ages, hit=recurrences["rank"] >= 0)[aged])
    return pd.concat([estimates(part, by, "hit", "text_id", kind="share", seed=seed) for part in parts])
