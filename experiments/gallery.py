"""The figures in figures/gallery: `measure` makes the small tables they are drawn from, `draw` draws them in seconds.

    python -m experiments.gallery draw       # figures/gallery/*.pdf, *.svg, *.png from figures/gallery/tables
    python -m experiments.gallery measure    # the tables, from experiments/*.toml on the models that ship (two hours)
    python -m experiments.gallery keep SOURCE RUN    # the tables of one source, from a run made elsewhere

The tables kept are those that a figure reads, without columns of lists, and of the graph only what its picture shows.
"""

import dataclasses
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

import figures.critical_tokens
import figures.retrieval_heads
import figures.verbatim_memory
from figures.function_tokens import plot_accumulation, plot_coverage, plot_pair_losses, plot_reactivation, plot_steering
from figures.function_tokens_graph import most_specific, plot_bipartite
from figures.t2i_flow import plot_attention, plot_flow_matrix, plot_lens, plot_repair, plot_roles
from figures.t2i_flow_grids import plot_grid, repair_grid, token_grid
from interp.errors import ArgumentError
from interp.experiments.catalogue import find_experiment
from interp.experiments.experiment import Experiment
from interp.experiments.export import shrink_png, write_images
from interp.experiments.run import Run, configured, open_run
from interp.tables import Tables

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "figures" / "gallery"
TABLES = GALLERY / "tables"

Figures = dict[str, go.Figure]


def _chosen(drawn: Mapping[str, go.Figure], *names: str) -> Figures:
    return {name: drawn[name] for name in names}


def _function_tokens(tables: Tables) -> Figures:
    return {
        "coverage": plot_coverage(tables["coverage"], tables["shuffled_coverage"]),
        "accumulation": plot_accumulation(tables["accumulation"]),
        "bipartite": plot_bipartite(
            tables["token_degrees"], tables["edges"], tables["feature_profile"], _middle_dictionary(tables)
        ),
        "pair_losses": plot_pair_losses(tables["pair_losses"], float(tables["token_classes"]["threshold"].iloc[0])),
        "reactivation": plot_reactivation(tables["reactivation"]),
        "steering": plot_steering(tables["steering"]),
    }


def _middle_dictionary(tables: Tables) -> str:
    dictionaries = list(tables["coverage"]["dictionary"].unique())
    return str(dictionaries[len(dictionaries) // 2])


def _t2i_flow(tables: Tables) -> Figures:
    rates, pictures, prompts = tables["rates"], tables["pictures"], tables["prompts"]
    return {
        "token_grid": plot_grid(token_grid(pictures, prompts)),
        "roles": plot_roles(rates),
        "flow_matrix": plot_flow_matrix(rates),
        "repair_grid": plot_grid(repair_grid(pictures, prompts)),
        "repair": plot_repair(rates),
        "lens": plot_lens(tables["lens_rates"]),
        "attention_effect": plot_attention(tables["attention_mass"], rates),
    }


SOURCES: dict[str, Callable[[Tables], Figures]] = {
    "retrieval_heads": lambda tables: _chosen(
        figures.retrieval_heads.draw_all(tables), "head_map", "ranked_scores", "ablation", "detector_ablation"
    ),
    "verbatim_memory": lambda tables: _chosen(
        figures.verbatim_memory.draw_all(tables), "list_length", "positions", "masking"
    ),
    "function_tokens_million": _function_tokens,
    "critical_tokens": lambda tables: _chosen(
        figures.critical_tokens.draw_all(tables), "trajectory_1", "replacement", "agreement", "relative_to_error"
    ),
    "t2i_flow": _t2i_flow,
    "t2i_flow_free": _t2i_flow,
}
"""For each configuration in experiments/: the figures drawn from its tables."""


# ---------------------------------------------------------------------- tables


class ReadTables(Mapping[str, pd.DataFrame]):
    """Tables that remember which of them were read."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.read: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Returns one table."""
        return self.read.setdefault(name, self._tables[name])

    def __iter__(self) -> Iterator[str]:
        """Names of the tables."""
        return iter(self._tables)

    def __len__(self) -> int:
        """Number of tables."""
        return len(self._tables)


def configured_as(source: str) -> Experiment:
    """Returns the experiment that a configuration describes."""
    values = tomllib.loads((ROOT / "experiments" / f"{source}.toml").read_text(encoding="utf-8"))
    return configured(find_experiment(values.pop("experiment")), values)


def small_tables(source: str, tables: Tables) -> dict[str, pd.DataFrame]:
    """Returns what the figures of a source need of its tables.

    Raises ValueError when a figure drawn from that differs from the one drawn from everything.
    """
    reading = ReadTables(tables)
    whole = SOURCES[source](reading)
    kept = {name: _without_lists(table) for name, table in reading.read.items()}
    if "edges" in kept:
        kept |= _drawn_graph(kept)
        kept["token_classes"] = kept["token_classes"].head(1)
    for name, figure in SOURCES[source](kept).items():
        if figure.to_json() != whole[name].to_json():
            raise ValueError(f"{source}: {name} needs more of its tables than is kept")
    return kept


def _without_lists(table: pd.DataFrame) -> pd.DataFrame:
    lists = [
        column
        for column in table
        if len(table) and hasattr(table[column].iloc[0], "tolist") and table[column].dtype.kind not in "biuf"
    ]
    return table.drop(columns=lists)


def _drawn_graph(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The rows of the graph that its picture shows."""
    degrees, edges, profile = tables["token_degrees"], tables["edges"], tables["feature_profile"]
    dictionary = _middle_dictionary(tables)
    shown: Any = most_specific(degrees, edges, profile, dictionary)
    pairs = pd.MultiIndex.from_frame(shown["links"][["token_id", "feature_id"]])
    own = edges[edges["dictionary"] == dictionary]
    return {
        "token_degrees": shown["tokens"],
        "edges": own[pd.MultiIndex.from_frame(own[["token_id", "feature_id"]]).isin(pairs)],
        "feature_profile": profile[
            (profile["dictionary"] == dictionary) & profile["feature_id"].isin(shown["links"]["feature_id"])
        ],
    }


def read_tables(source: str) -> dict[str, pd.DataFrame]:
    """Returns the committed tables of a source."""
    return {path.stem: pd.read_parquet(path) for path in sorted((TABLES / source).glob("*.parquet"))}


def measure(out: Path) -> None:
    """Replaces the committed tables by those of the configurations' runs, made under `out` unless they are there."""
    for source in SOURCES:
        keep(source, configured_as(source).run(out=out))


def keep(source: str, run: Run) -> None:
    """Replaces the committed tables of one source by those of a finished run of its configuration.

    Raises ArgumentError when the run is of another configuration.
    """
    wanted = dataclasses.replace(configured_as(source), model=run.experiment.model)  # wherever the model lay
    if run.experiment != wanted:
        raise ArgumentError(f"{run.folder} is not a run of experiments/{source}.toml.")
    kept = small_tables(source, run.tables)
    shutil.rmtree(TABLES / source, ignore_errors=True)
    (TABLES / source).mkdir(parents=True)
    for name, table in kept.items():
        table.to_parquet(TABLES / source / f"{name}.parquet", index=False, compression="zstd")


# ---------------------------------------------------------------------- figures


def gallery() -> Figures:
    """Returns every figure of the gallery by the name of its files."""
    return {
        f"{source.removesuffix('_million')}_{name}": figure
        for source, draw in SOURCES.items()
        for name, figure in draw(read_tables(source)).items()
    }


def draw() -> list[Path]:
    """Writes every figure as PDF, SVG and PNG; returns the paths."""
    paths = write_images(gallery(), GALLERY, ("pdf", "svg", "png"), pixels_per_png_pixel=1.25)
    for path in paths:
        if path.suffix == ".png":
            shrink_png(path)
        elif path.suffix == ".pdf":  # the day it was drawn would be a change for git
            path.write_bytes(
                re.sub(rb"/(Creation|Mod)Date \(D:\d{14}", rb"/\1Date (D:20260101000000", path.read_bytes())
            )
        else:  # so would the random names of its parts
            path.write_text(_with_fixed_names(path.read_text(encoding="utf-8"), path.stem), encoding="utf-8")
    return paths


def _with_fixed_names(svg: str, name: str) -> str:
    """The drawing with its own name in place of plotly's random one, and its traces numbered."""
    drawing = re.search(r'id="defs-([0-9a-f]+)"', svg)
    if drawing:
        svg = svg.replace(drawing[1], name)
    numbers: dict[str, int] = {}
    return re.sub(
        r"\b(trace|y?cb)([0-9a-f]{6})(?=tick|title|\b)",
        lambda found: f"{found[1]}-{numbers.setdefault(found[2], len(numbers))}",
        svg,
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["draw"]:
            draw()
        case ["measure"]:
            measure(Path("runs"))
        case ["keep", source, folder] if source in SOURCES:
            keep(source, open_run(folder))
        case _:
            sys.exit("usage: python -m experiments.gallery draw | measure | keep SOURCE RUN")
