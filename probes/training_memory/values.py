"""The memorization problem: exact values by year, inside and outside the training window, against two nulls.

arXiv:2504.14765 asks closed models. Here a value's log-probability is compared with that of values 1, 5 and 20 percent beside it. The
nulls: the value of another year of the same series, and a random walk with the series' own steps in another order.
"""

import csv
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import encode_piece
from probes.training_memory.settings import Settings
from probes.training_memory.stimuli import begun

QUESTIONS = {
    "carbon_dioxide": "The annual mean carbon dioxide concentration at Mauna Loa in {year}, in parts per million, was",
    "unemployment": "The annual average unemployment rate in the United States in {year}, in percent, was",
    "consumer_prices": "The annual average of the United States consumer price index (1982-84 = 100) in {year} was",
}
"""Series of series.tsv and how each is asked for."""
INSTRUCTIONS = {"none": "", "ignore": "Answer without using anything that you know of the years after {before}. "}
CHANGES = (-0.20, -0.05, -0.01, 0.01, 0.05, 0.20)


@cache
def series() -> dict[str, dict[int, float]]:
    """Returns the shipped annual values (1990 to 2024) by series and year."""
    found: dict[str, dict[int, float]] = {}
    with Path(__file__).with_name("series.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found.setdefault(row["series"], {})[int(row["year"])] = float(row["value"])
    return found


def random_walk(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns a series that begins like this one and takes its steps, up and down at random, in another order; it stays above 0."""
    steps = generator.permutation(np.diff(np.log(values))) * generator.choice([-1, 1], len(values) - 1)
    return values[0] * np.exp(np.concatenate([[0.0], steps.cumsum()]))


def candidates(value: float) -> list[str]:
    """Returns a value as it is written, and others a little or much beside it that are written otherwise."""
    own = f"{value:.1f}"
    others = {f"{max(0.1, value * (1 + change)):.1f}" for change in CHANGES}
    others |= {f"{value + step:.1f}" for step in (-0.1, 0.1)} if len(others - {own}) < len(CHANGES) else set()
    return [own, *sorted(others - {own})]


def measure_values(model: LanguageModel, name: str, settings: Settings) -> pd.DataFrame:
    """Returns a row for each year, instruction and null: by how much a value is likelier than those beside it."""
    tokenizer: Any = model.tokenizer
    values = series()[name]
    years = sorted(values)
    generator = np.random.default_rng([settings.seed, *name.encode()])
    told = np.array([values[year] for year in years])
    walk = random_walk(told, generator)
    shuffled = derangement(len(years), generator)
    rows = []
    for place in range(0, len(years), settings.years_step):
        year = years[place]
        asked = {"none": told[place], "another year": told[shuffled[place]], "random walk": walk[place]}
        for instruction, opening in INSTRUCTIONS.items():
            text = opening.format(before=year - 1) + QUESTIONS[name].format(year=year)
            lead = begun(tokenizer, encode_piece(tokenizer, text, first=True).ids)
            for null, value in asked.items():
                written = candidates(float(value))
                log_p = log_probabilities(model, lead, [f" {one}" for one in written])
                rows.append(
                    {
                        "series": name, "year": year, "in_window": year <= settings.window_end, "instruction": instruction,
                        "null": null, "value": written[0], "logp_nats": log_p[0], "margin_nats": log_p[0] - float(np.mean(log_p[1:])),
                        "rank_share": float(np.mean([other < log_p[0] for other in log_p[1:]])), "n_candidates": len(written),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def derangement(n: int, generator: np.random.Generator) -> np.ndarray:
    """Returns a permutation that leaves nothing in its place."""
    order = generator.permutation(n)
    found = np.empty(n, dtype=int)
    found[order] = np.roll(order, 1)
    return found


@torch.inference_mode()
def log_probabilities(model: LanguageModel, lead: list[int], endings: list[str]) -> list[float]:
    """Returns ln p of each ending's tokens behind the same beginning."""
    tokenizer: Any = model.tokenizer
    ids = [encode_piece(tokenizer, ending).ids for ending in endings]
    rows = model.rows(1, len(lead) + max(map(len, ids)))
    before = model.extend(rows, [lead])
    behind = model.extend(rows.fork(len(ids)), ids, logits="all")
    log_p = torch.cat([before.expand(len(ids), -1, -1), behind], dim=1).log_softmax(dim=-1)
    return [float(log_p[row, range(len(one)), one].sum()) for row, one in enumerate(ids)]
