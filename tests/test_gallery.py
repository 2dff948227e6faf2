"""Committed configurations parse as the command line reads them; the gallery's figures come from its committed tables."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments import gallery
from figures.function_tokens_graph import plot_bipartite
from interp.errors import ArgumentError
from interp.experiments.__main__ import main
from interp.experiments.atlas_settings import Atlas, configured_experiments, read_configuration
from interp.experiments.experiment import Experiment
from interp.experiments.export import shrink_png
from interp.experiments.run import Run, configured
from interp.models.loading.names import aliases

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATIONS = sorted((ROOT / "experiments").glob("*.toml"))
README = ROOT / "experiments" / "README.md"
ATLAS = ROOT / "experiments" / "atlas.toml"


def test_the_atlas_names_experiments_and_settings_that_there_are() -> None:
    shared, tables = read_configuration(ATLAS)
    experiments = configured_experiments(configured(Atlas, shared), tables)
    assert tables
    for name, values in tables.items():
        assert values.items() <= experiments[name].configuration().items()


@pytest.mark.parametrize("path", [path for path in CONFIGURATIONS if path != ATLAS], ids=lambda path: path.stem)
def test_a_configuration_is_read_by_the_command_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # one names a file beside it
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    name = values.pop("experiment")
    read: list[Experiment] = []

    def run(experiment: Experiment, **_: Any) -> None:
        read.append(experiment)
        raise KeyboardInterrupt  # nothing is measured

    monkeypatch.setattr(Experiment, "run", run)
    main([name, "--config", str(path)])
    (experiment,) = read
    assert path.stem.startswith(name)
    assert experiment.name == name
    as_read = experiment.configuration()
    assert {key: as_read[key] for key in values} == values
    assert replace(experiment) == experiment  # it passes its own checks
    assert experiment.model in aliases()


def test_configurations_are_listed_and_those_for_a_gpu_say_what_they_will_cost() -> None:
    text = README.read_text(encoding="utf-8").split("## Figures of the papers")[0]
    for path in CONFIGURATIONS:
        assert f"`{path.name}`" in text
        model = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
        if model != "smollm2-135m":
            assert "# Expected cost: " in path.read_text(encoding="utf-8")
    assert text.count(".toml` |") == len(CONFIGURATIONS)


def test_the_papers_figures_are_made_by_configurations_and_figures_that_there_are() -> None:
    table = README.read_text(encoding="utf-8").split("## Figures of the papers")[1].split("## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if "`" in line and line.startswith("|")]
    assert len(rows) > 5
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "figures").glob("*.py"))
    for *_, configuration, figures in rows:
        for file in re.findall(r"`([\w.]+\.toml)`", configuration):
            assert (ROOT / "experiments" / file).is_file(), file
        for figure in re.findall(r"`(\w+)…?`", figures):
            assert f'"{figure}' in code, figure


# ---------------------------------------------------------------------- the gallery


def test_every_figure_is_there_in_three_formats_and_no_other() -> None:
    expected = {f"{name}.{format}" for name in gallery.gallery() for format in ("pdf", "svg", "png")}
    assert {path.name for path in gallery.GALLERY.iterdir() if path.is_file()} == expected
    assert sum(path.stat().st_size for path in gallery.GALLERY.iterdir()) < 3_000_000
    assert sum(path.stat().st_size for path in gallery.TABLES.rglob("*.parquet")) < 600_000


def test_figures_show_what_the_tables_hold() -> None:
    figures = gallery.gallery()
    tables = gallery.read_tables("retrieval_heads")
    scores = tables["head_scores"].query("definition == 'set'").pivot(index="layer", columns="head", values="score")
    drawn: Any = figures["retrieval_heads_head_map"].data[0]
    assert drawn.z.tolist() == scores.to_numpy().tolist()
    best = scores.stack().idxmax()
    assert best == (17, 3)  # docs/results/retrieval_heads.md
    for name, figure in figures.items():
        layout: Any = figure.layout
        assert layout.meta["caption"], name


def test_a_pdf_is_no_other_file_on_another_day() -> None:
    for path in gallery.GALLERY.glob("*.pdf"):
        assert b"/CreationDate (D:20260101000000" in path.read_bytes()


def test_a_smaller_picture_keeps_a_rare_colour(tmp_path: Path) -> None:
    """Half white, half nearly black, some greys, a magenta square of many shades, and nine red pixels."""
    picture = np.full((400, 400, 3), 255, np.uint8)
    dark, shade = np.arange(200 * 400), np.arange(40 * 50)
    picture[:200] = np.stack([dark % 4, dark // 4 % 4, dark // 16 % 4], axis=-1).reshape(200, 400, 3)
    picture[200:202] = (np.arange(800) % 256).reshape(2, 400, 1)
    picture[210:250, :50] = np.stack([255 - shade % 30, shade % 12, 255 - shade % 17], axis=-1).reshape(40, 50, 3)
    picture[260:263, 10:13] = (255, 0, 60)
    path = tmp_path / "dot.png"
    Image.fromarray(picture).save(path)
    shrink_png(path)
    small = Image.open(path)
    assert len(small.getcolors() or ()) <= 128
    moved = np.abs(np.asarray(small.convert("RGB")).astype(int) - picture).max()
    assert moved <= 16  # 137 with the palette that Pillow makes by itself


def test_names_in_a_drawing_are_fixed() -> None:
    svg = (
        '<g id="defs-a1b2c3"><clipPath id="clipa1b2c3xy"/></g><g class="trace traceaa11bb"/><g class="tracecc22dd"/>'
        '<g class="ycbaa11bbtick"/><text class="ycbaa11bbtitle"/>#aa11bb'
    )
    assert gallery._with_fixed_names(svg, "map") == (
        '<g id="defs-map"><clipPath id="clipmapxy"/></g><g class="trace trace-0"/><g class="trace-1"/>'
        '<g class="ycb-0tick"/><text class="ycb-0title"/>#aa11bb'
    )


def graph() -> dict[str, pd.DataFrame]:
    """30 tokens, every one of them with 4 features of its own."""
    tokens = range(30)
    degrees = pd.DataFrame(
        {
            "dictionary": "d",
            "token_id": tokens,
            "token": [f"t{token}" for token in tokens],
            "token_class": "content",
            "rank": tokens,
            "occurrences": [100 - token for token in tokens],
            "degree": 4,
        }
    )
    edges = pd.DataFrame(
        [
            {"dictionary": "d", "token_id": token, "feature_id": 4 * token + own, "count": 20 + own}
            for token in tokens
            for own in range(4)
        ]
    )
    profile = pd.DataFrame(
        {"dictionary": "d", "feature_id": range(120), "occurrences": 40, "effective_tokens": 1.0, "function_share": 0.0}
    )
    coverage = pd.DataFrame({"dictionary": ["d"]})
    return {"token_degrees": degrees, "edges": edges, "feature_profile": profile, "coverage": coverage}


def test_of_the_graph_only_what_its_picture_shows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {**graph(), "token_classes": pd.DataFrame({"threshold": [0.4, 0.4]})}

    def draw(given: Any) -> gallery.Figures:
        return {
            "bipartite": plot_bipartite(given["token_degrees"], given["edges"], given["feature_profile"], "d"),
            "classes": gallery.go.Figure(layout={"title": {"text": str(given["token_classes"]["threshold"].iloc[0])}}),
            "unread": gallery.go.Figure(layout={"title": {"text": str(len(given["coverage"]))}}),
        }

    monkeypatch.setitem(gallery.SOURCES, "planted", draw)
    kept = gallery.small_tables("planted", tables)
    assert len(kept["token_degrees"]) == 24
    assert len(kept["edges"]) == 24 * 2  # two features each
    assert sorted(kept["edges"]["count"].unique()) == [22, 23]
    assert len(kept["feature_profile"]) == 48
    assert len(kept["token_classes"]) == 1

    monkeypatch.setattr(gallery, "_drawn_graph", lambda kept: {"edges": kept["edges"].head(3)})
    with pytest.raises(ValueError, match="planted: bipartite needs more of its tables than is kept"):
        gallery.small_tables("planted", tables)


def test_only_a_run_of_its_configuration_is_kept_for_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "TABLES", tmp_path / "tables")
    monkeypatch.setattr(Run, "tables", {"levels": pd.DataFrame({"success": [0.5]}), "unread": pd.DataFrame({"x": [1]})})
    monkeypatch.setitem(
        gallery.SOURCES,
        "critical_tokens",
        lambda tables: {
            "levels": gallery.go.Figure(layout={"title": {"text": str(tables["levels"]["success"].sum())}})
        },
    )
    published = gallery.configured_as("critical_tokens")
    gallery.keep("critical_tokens", Run(tmp_path, replace(published, model="a/folder"), {}))
    assert [path.name for path in (tmp_path / "tables" / "critical_tokens").iterdir()] == ["levels.parquet"]
    with pytest.raises(ArgumentError, match=r"is not a run of experiments/critical_tokens\.toml"):
        gallery.keep("critical_tokens", Run(tmp_path, replace(published, seed=1), {}))


def test_all_sources_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Experiment, Path]] = []

    def run(experiment: Experiment, *, out: Path) -> Run:
        asked.append((experiment, out))
        return Run(tmp_path, experiment, {})

    monkeypatch.setattr(gallery, "TABLES", tmp_path / "tables")
    monkeypatch.setattr(Experiment, "run", run)
    monkeypatch.setattr(Run, "tables", {"levels": pd.DataFrame({"success": [0.5]})})
    for source in gallery.SOURCES:
        monkeypatch.setitem(
            gallery.SOURCES,
            source,
            lambda tables: {"levels": gallery.go.Figure(layout={"height": 10 + len(tables["levels"])})},
        )
    gallery.measure(tmp_path / "runs")
    assert [experiment for experiment, _ in asked] == [gallery.configured_as(source) for source in gallery.SOURCES]
    assert {out for _, out in asked} == {tmp_path / "runs"}
    assert {path.name for path in (tmp_path / "tables").iterdir()} == set(gallery.SOURCES)


def test_the_readme_shows_the_gallery_in_words_too() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for part in text.split("![")[1:]:
        alt, rest = part.split("](", 1)
        assert len(alt.split()) >= 3
        assert (ROOT / rest.split(")")[0]).is_file()
    assert text.count("](figures/gallery/") >= 8
