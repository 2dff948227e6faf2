"""Whole runs of a model with planted flow: it is found and repaired, and a killed run is finished."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from figures.t2i_flow_comparison import draw_comparison
from interp.errors import ArgumentError
from interp.experiments import runner
from interp.experiments.run import Run
from probes.t2i_flow import measure
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.plan import ItemsUnit
from probes.t2i_flow.predictor import predict_representative
from probes.t2i_flow.prompts import Prompt, PromptItem
from probes.t2i_flow.summaries import compare_all
from tests.t2i_flow.planted import PlantedImages

LINES = [
    {"text": "a blue triangle and red circle", "items": ["blue triangle", "red circle"], "group": "plain"},
    {"text": "le blue circle", "items": [{"phrase": "blue circle", "leaks": ["blue square"]}], "group": "before"},
    {
        "text": "le red circle and blue triangle",
        "items": [{"phrase": "red circle", "leaks": ["red square"]}, "blue triangle"],
        "group": "before",
    },
    {"text": "a red circle le", "items": [{"phrase": "red circle", "leaks": ["red square"]}], "group": "after"},
]


def settings(folder: Path, **more) -> T2IFlow:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in LINES))
    return T2IFlow(model="planted", prompts=path, judge="tests.t2i_flow.planted:judge", **{"seeds": 2, **more})


@pytest.fixture(scope="module")
def loaded():
    """The runner gets the planted model by any name."""
    model = PlantedImages()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runner, "check_kind", lambda experiment: None)
        patched.setattr(runner, "_loaders", lambda kind: (lambda *a, **k: model, lambda *a, **k: model.facts))
        yield model


@pytest.fixture(scope="module")
def run(loaded, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("planted")
    return settings(folder).run(out=folder / "runs")


def rates(run: Run, **wanted: str) -> pd.DataFrame:
    table = run.tables["rates"]
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table


def estimate(run: Run, quantity: str, **wanted: str) -> float:
    found = rates(run, quantity=quantity, **wanted)["estimate"]
    assert len(found) == 1
    return float(found.iloc[0])


def test_the_planted_token_is_the_only_representative_one(run):
    single = run.tables["in_item"].query("n_kept == 1").set_index(["item_id", "kept_tokens"])["visible_share"]
    assert {tokens for (_, tokens), share in single.items() if share} == {"le</w>", "circle</w>"}
    assert single.to_dict()["blue triangle", "le</w>"] == 1
    assert estimate(run, "representative_rate") == 1
    assert estimate(run, "minimal_set_size") == 1
    assert estimate(run, "redundancy_share") == pytest.approx(
        5 / 8
    )  # three of blue triangle's four, one of each other's two
    for level in ("bos", "eos", "pad", "article", "clean"):
        assert estimate(run, "kept_visible", group="alone", level=level) == 0
    predictor = run.tables["predictor"].set_index(["left_out", "rule", "metric"])["estimate"]
    assert predictor["item", "linear", "precision"] == 1


def test_the_planted_leak_is_found_where_it_is_and_not_after_the_item(run):
    for quantity, before in (("leak_in_full", 1), ("leak_from_prompt", 1), ("leak_from_alone", 0)):
        assert estimate(run, quantity, group="before") == before
        assert estimate(run, quantity, group="after") == 0
    assert estimate(run, "flow", group="plain") == 0
    assert estimate(run, "vectors_move_without_after", group="all") == 0
    moved = run.tables["vector_change"].set_index(["prompt_id", "item_id"])["alone"]
    assert moved["p0003", "red circle"] > 0.05
    assert moved["p0001", "red circle"] == 0


def test_layer_by_layer_the_item_enters_before_the_context(run):
    last = int(run.tables["lens"]["n_layers"].iloc[0])
    for level in ("full", "last_token"):
        assert estimate(run, "first_layer_own", group="alone", level=level) == last - 1
    assert estimate(run, "first_layer_leak", group="before") == last
    assert estimate(run, "first_layer_own", group="after") == last - 1
    shares = run.tables["lens_rates"].query("group == 'before'").set_index(["asked", "layer"])["estimate"]
    assert shares["own"].tolist() == [0.0] * (last - 1) + [1.0, 0.0]
    assert shares["leak"].tolist() == [0.0] * last + [1.0]


def test_the_leak_is_repaired_by_pasting_and_by_nothing_else(run):
    table = run.tables["repair"]
    assert {tuple(pair) for pair in table[["prompt_id", "item_id"]].to_numpy()} == {
        ("p0002", "blue circle"),
        ("p0003", "red circle"),
    }
    by_arm = table.groupby("arm")[["leak_before", "leak_after", "own_after"]].mean()
    assert by_arm.loc["paste"].tolist() == [1, 0, 1]
    assert by_arm.loc["attention"].tolist() == [1, 1, 0]
    assert by_arm.loc["random_paste", "leak_after"] == 1
    paired = run.tables["paired"].query("group == 'all'").set_index("comparison")
    assert paired.loc["paste: repaired item", ["n", "fixed", "broken"]].tolist() == [4, 4, 0]
    assert paired.loc["paste: other items", ["fixed", "broken"]].tolist() == [0, 0]
    assert paired.loc["without_redundant: all items", ["fixed", "broken"]].tolist() == [0, 0]


def test_repairs_are_measured_from_noises_they_were_not_chosen_by(run):
    variants = run.tables["variants"]
    chosen_by = set(variants.loc[variants["part"] == "inter_item", "seed"])
    measured_on = set(variants.loc[variants["part"] == "repair", "seed"])
    assert (len(chosen_by), len(measured_on), chosen_by & measured_on) == (2, 2, set())


def test_every_figure_is_drawn_and_the_report_says_what_was_found(run):
    assert list(run.figures) == [
        "roles", "flow_matrix", "token_grid", "prompt_grid", "flow_rates", "repair", "repair_grid", "lens", "heat_maps", "attention_effect",
    ]  # fmt: skip
    said = " ".join(finding.text for finding in run.experiment.findings(run.tables))
    assert "A single token shows the item in 100% [44%, 100%] of 3 items" in said
    assert "its clip vectors do not move" in said
    assert "the leak goes from 100% [34%, 100%] to 0% [0%, 66%]" in said
    assert all(
        run.figures[name].data[0].source.startswith("data:image/png;base64,") for name in ("token_grid", "heat_maps")
    )
    from_prompt, from_alone = (np.asarray(trace.z, dtype=float) for trace in run.figures["flow_matrix"].data)
    assert from_prompt.tolist() == [[0.5, 0.0], [0.0, 1.0]]
    assert from_alone.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_run_leaves_its_grids_as_png_files_and_its_predictor(run):
    names = sorted(path.name for path in (run.folder / "grids").iterdir())
    assert names == ["heat_maps.png", "prompt_grid.png", "repair_grid.png", "token_grid.png"]
    assert all((run.folder / "grids" / name).read_bytes().startswith(b"\x89PNG\r\n") for name in names)
    found = predict_representative(
        PlantedImages(), "a red triangle", "red triangle", run.folder / "redundancy_predictor.json"
    )
    assert found["representative"].tolist() == [False, False, False, True]


@pytest.mark.usefixtures("without_pages")
@pytest.mark.slow
def test_a_killed_run_is_finished_as_if_it_had_not_been(loaded, run, tmp_path, monkeypatch):
    measure = T2IFlow.measure
    left = iter(range(2))

    def stop(self, model, unit):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return measure(self, model, unit)

    monkeypatch.setattr(T2IFlow, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        run.experiment.run(out=tmp_path)
    monkeypatch.setattr(T2IFlow, "measure", measure)
    again = run.experiment.run(out=tmp_path)
    assert again.folder.name == run.folder.name
    for name in run.tables:
        pd.testing.assert_frame_equal(again.tables[name], run.tables[name])


def test_pictures_a_judge_fails_on_are_counted_and_left_out(loaded, tmp_path):
    failing = dataclasses.replace(settings(tmp_path), judge="tests.t2i_flow.planted:failing_judge", parts=("in_item",))
    run = failing.run(out=tmp_path / "runs")
    variants = run.tables["variants"]
    failed = variants["failure"] == "ValueError: nothing to see"
    assert failed.sum() > 20
    assert variants.loc[failed, "visible"].isna().all()
    check = run.tables["judge_check"].set_index("check").loc["failed on drawn pictures"]
    assert (check["errors"], check["n"]) == (failed.sum(), len(variants))  # one item, one question a picture
    assert any("failed on drawn pictures" in finding.text for finding in failing.findings(run.tables))
    clean = rates(run, quantity="kept_visible", level="clean")
    assert not len(clean)  # nothing is known of pictures of nothing


def test_parts_can_be_left_out(loaded, tmp_path):
    run = dataclasses.replace(settings(tmp_path), parts=("inter_item",)).run(out=tmp_path / "runs")
    assert set(run.tables["variants"]["part"]) == {"inter_item"}
    assert not len(run.tables["attention_mass"]) + len(run.tables["repair"]) + len(run.tables["in_item"])
    assert "word_only" not in set(run.tables["variants"]["variant"])
    assert list(run.figures) == ["roles", "flow_matrix", "prompt_grid", "flow_rates"]


def test_runs_are_set_side_by_side_and_must_share_something(loaded, run, tmp_path):
    other = dataclasses.replace(settings(tmp_path), seed=1).run(out=tmp_path / "runs")
    tables = compare_all({"one": run.tables, "two": other.tables})
    assert set(tables["rates"].groupby("run").size()) == {len(run.tables["rates"])}
    assert list(draw_comparison(tables)) == ["roles_alone", "roles_prompts", "headlines"]
    few = {"rates": run.tables["rates"].query("question == 'in_item'")}
    rest = {"rates": run.tables["rates"].query("question == 'repair'")}
    with pytest.raises(ArgumentError, match="measured nothing in common"):
        compare_all({"one": few, "two": rest})


def test_long_items_go_up_in_size_until_a_set_shows_them(loaded):
    class TwoTogether(PlantedImages):
        """Paints only when the third and the last token of the item are both there."""

        def generate(self, conditioning, noise, **options):
            pictures = super().generate(conditioning, noise, **options)
            for picture, row in zip(pictures, conditioning.sequence, strict=True):
                if not row[at[2], 6]:
                    picture[:] = 0
            return pictures

    text = "a red tritri triangle"
    item = PromptItem("red tritri triangle", looks="red triangle", alone=text)
    prompt = Prompt("alone", text, (item,), "alone")
    planted = TwoTogether()
    planted_encode = planted._planted
    planted._planted = lambda some: (
        planted_encode(some.replace("tritri triangle", "triangle")) if some != text else _spelled(planted)
    )
    at = planted.spans(text, "red tritri triangle")
    assert len(at) > 6
    experiment = T2IFlow(judge="tests.t2i_flow.planted:judge", seeds=2, max_subsets=100)
    found = measure.measure_items(experiment, planted, ItemsUnit("items", (prompt,), ()))["variants"]
    subsets = found[found["variant"] == "tokens"]
    sizes = subsets["kept_positions"].str.split().str.len()
    assert sorted(sizes.unique()) == [1, 2]
    shown = subsets.loc[subsets["visible"] == 1, "kept_positions"].unique().tolist()
    assert shown == [f"{at[2]} {at[-1]}"]


def _spelled(planted: PlantedImages):
    """The text of the test above: what to paint stands in its last token."""
    tokens = planted.tokens("a red tritri triangle")
    sequence = torch.zeros(1, len(tokens), 16)
    sequence[0, :, 5] = torch.tensor([1.0 + token.token_id % 7 for token in tokens])
    spelled = [token.position for token in tokens if token.role == "text"]
    sequence[0, spelled, 6] = 1.0
    sequence[0, spelled[-1], :2] = 1.0
    return dataclasses.replace(planted.encode(["a"]), sequence=sequence)
