"""Vectors put in place before every block, and pictures of other sizes, through the experiment's own drawing."""

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pytest

from interp.errors import ArgumentError
from interp.experiments.forecast import forecast
from interp.experiments.options import RunOptions
from interp.models.image.model import ImageModel
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.measure import measure_prompts
from probes.t2i_flow.pictures import Cell, Sampling, draw
from probes.t2i_flow.plan import PromptsUnit, prompts_of
from probes.t2i_flow.prompts import Prompt, PromptItem
from probes.t2i_flow.variants import Encoded, Variant
from tests.tiny_pipelines import save, tiny_image, tiny_pipeline

PROMPT = Prompt("p", "a red circle", (PromptItem("red circle"),))
POSITIONS = (1, 2)
VARIANTS = {
    "keep": Variant("item", "keep", POSITIONS, "item", "red circle"),
    "without": Variant("word_without", "without", POSITIONS),
    "alone": Variant("alone", "alone", POSITIONS, "item", "red circle", POSITIONS),
    "paste": Variant("paste", "paste", POSITIONS, "item", "red circle", POSITIONS),
}


def small(family: str, monkeypatch: pytest.MonkeyPatch) -> ImageModel:
    model = tiny_image(family)
    monkeypatch.setattr(type(model._family), "t5_positions", 20)
    monkeypatch.setattr(tiny_pipeline(family), "default_sample_size", 8)
    return ImageModel(type(model._family)(model.pipeline), model.identity, {"steps": 2})


def pictures(model: ImageModel, encoded: Encoded, *, every_block: bool) -> dict[str, np.ndarray]:
    cells = [Cell(PROMPT, encoded, variant) for variant in (Variant("full", "full"), *VARIANTS.values())]
    drawn = draw(model, cells, Sampling((3, 5), every_block=every_block, batch=4))
    return dict(zip(("full", *VARIANTS), drawn, strict=True))


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_before_every_block_is_another_picture_than_behind_the_encoder(family, monkeypatch):
    model = small(family, monkeypatch)
    other = model.encode(["a blue triangle"])
    encoded = Encoded(model.encode([PROMPT.text]), model.clean(), {"red circle": other}, "prompt")
    behind, before = (pictures(model, encoded, every_block=every) for every in (False, True))
    np.testing.assert_allclose(before["full"], behind["full"], atol=1e-5)
    for name in VARIANTS:
        assert np.abs(before[name] - behind[name]).max() > 1e-6, name


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_the_prompt_itself_as_source_changes_nothing(family, monkeypatch):
    model = small(family, monkeypatch)
    text = model.encode([PROMPT.text])
    drawn = pictures(model, Encoded(text, text, {"red circle": text}, "prompt"), every_block=True)
    for name in VARIANTS:
        np.testing.assert_allclose(drawn[name], drawn["full"], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_with_nothing_kept_before_every_block_the_picture_is_the_clean_one(family, monkeypatch):
    model = small(family, monkeypatch)
    text, clean = model.encode([PROMPT.text]), model.clean()
    cell = Cell(PROMPT, Encoded(text, clean, {}, "clean"), Variant("clean", "keep"))
    drawn = draw(model, [cell], Sampling((3,), every_block=True))[0]
    np.testing.assert_allclose(drawn, model.generate(clean, model.noise([3])), atol=1e-5)


def test_models_without_joint_blocks_are_refused():
    everywhere = T2IFlow(edit_blocks="every")
    with pytest.raises(ArgumentError, match="same text vectors: leave out --edit-blocks every"):
        everywhere.check_model(tiny_image("sd").facts)
    everywhere.check_model(tiny_image("flux").facts)


@pytest.mark.parametrize("n_words", [1, 12, 14, 15, 29])
def test_what_cannot_be_drawn_side_by_side_is_refused_before_anything_is_measured(tmp_path, n_words):
    """CogView4 draws texts of one number of sixteens together; two tokens stand before each text."""
    path, text = tmp_path / "prompts.jsonl", " ".join(["red"] * (n_words - 1) + ["blue"])
    path.write_text(json.dumps({"text": text, "items": ["blue"]}))
    folder = save("cogview4", tmp_path / "tiny-cogview4")
    everywhere = T2IFlow(model=str(folder), prompts=path, judge="tests.t2i_flow.planted:bright", edit_blocks="every")
    model = tiny_image("cogview4")
    (prompt,) = prompts_of(everywhere)
    cell = Cell(
        prompt,
        Encoded(model.encode([text]), model.clean(), {}, "clean"),
        Variant("item", "keep", model.spans(text, "blue")),
    )
    words = "fills 32 where the clean text fills 16: shorten it, or leave out --edit-blocks every"
    too_long = n_words > 14
    with pytest.raises(ArgumentError) if too_long else nullcontext():
        draw(model, [cell], Sampling((3,), steps=1, height=16, width=16, every_block=True))
    with pytest.raises(ArgumentError, match=words) if too_long else nullcontext():
        everywhere.check_loaded(model)
    with pytest.raises(ArgumentError, match=words) if too_long else nullcontext():
        forecast(everywhere, RunOptions(device="cpu", out=tmp_path / "runs"))
    dataclasses.replace(everywhere, edit_blocks="encoder").check_loaded(model)


def test_a_text_that_cannot_be_read_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    """The last of several prompts, so that others would be measured first."""
    path, folder = tmp_path / "prompts.jsonl", save("sd", tmp_path / "tiny-sd")
    lines = [{"text": f"a red circle {number}", "items": ["red circle"]} for number in range(5)]
    for last, words in (
        (
            {"text": "a red circle and a blue triangle and a red triangle", "items": ["red circle"]},
            "tokens long for the encoder clip",
        ),
        (
            {"text": "a red circle", "items": [{"phrase": "circle", "alone": "a circle " + "and " * 20}]},
            "tokens long for the encoder clip",
        ),
    ):
        path.write_text("\n".join(json.dumps(line) for line in [*lines, last]))
        experiment = T2IFlow(model=str(folder), prompts=path, judge="tests.t2i_flow.planted:bright", seeds=1, steps=1)
        monkeypatch.setattr(T2IFlow, "measure", lambda *_: pytest.fail("something is measured first"))
        with pytest.raises(ArgumentError, match=words):
            experiment.run(out=tmp_path / "runs", device="cpu")


# ---------------------------------------------------------------------- sizes


def test_pictures_and_heat_maps_have_the_size_that_is_asked_for(tmp_path):
    experiment = T2IFlow(judge="tests.t2i_flow.planted:bright", seeds=1, steps=1, height=24, width=16)
    found = measure_prompts(experiment, tiny_image("sd"), PromptsUnit("u", (PROMPT,), ("p",), ("p",)))
    from figures.t2i_flow_grids import read_png

    assert {read_png(png).shape for png in found["pictures"]["png"]} == {(24, 16, 3)}
    assert set(found["heat_maps"][["height", "width"]].itertuples(index=False, name=None)) == {(24, 16)}
    assert {len(attention) for attention in found["heat_maps"]["attention"]} == {24 * 16}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"height": 32}, "The pixel judge reads pictures of 16 × 16 pixels: leave out --height"),
        ({"width": 0}, "--width must be at least 1 pixel"),
    ],
)
def test_sizes_that_cannot_be_are_refused(more, said):
    with pytest.raises(ArgumentError, match=said):
        T2IFlow(**more)
    T2IFlow(judge="some:judge", height=32)


def test_a_size_that_the_model_cannot_draw_is_said():
    experiment = T2IFlow(judge="tests.t2i_flow.planted:bright", seeds=1, height=20)
    with pytest.raises(ArgumentError, match="cannot draw 20 × 16 pixels: height and width must be multiples of 8"):
        measure_prompts(experiment, tiny_image("sd"), PromptsUnit("u", (PROMPT,), (), ()))
