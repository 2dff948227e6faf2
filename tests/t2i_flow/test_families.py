"""Real pipelines of tiny size: one that copies a token's vector, and every family through every part of the experiment."""

import json

import numpy as np
import pandas as pd
import pytest

from interp.models.identity import ModelIdentity
from interp.models.image.families import family_of
from interp.models.image.model import ImageModel
from probes.t2i_flow import measure
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.plan import ItemsUnit, plan_units
from probes.t2i_flow.prompts import Prompt, PromptItem
from tests.pictures import KINDS, LATER, pixels
from tests.t2i_flow.copying import copying_model
from tests.tiny_pipelines import tiny_pipeline


def test_a_denoiser_that_copies_one_tokens_vector_has_one_representative_token(monkeypatch):
    model = copying_model()
    texts = ("a red circle", "a blue circle")
    wanted = {text.removeprefix("a "): model.generate(model.encode([text]), model.noise([0]))[0] for text in texts}
    assert np.abs(wanted["red circle"] - wanted["blue circle"]).max() > 0.01

    def looks_like_it(picture, descriptions):
        return [bool(np.abs(picture - wanted[description]).max() < 1e-4) for description in descriptions]

    monkeypatch.setattr(measure, "judge_of", lambda settings: looks_like_it)
    prompts = tuple(Prompt(f"alone {text}", text, (PromptItem(text.removeprefix("a ")),), "alone") for text in texts)
    experiment = T2IFlow(seeds=2, parts=("in_item",))
    found = measure.measure_items(experiment, model, ItemsUnit("items", prompts, ()))["variants"]
    shown = found.groupby(["item_id", "variant", "kept_tokens"])["visible"].mean()
    assert {key for key, share in shown.items() if share == 1} == {
        (f"{colour} circle", variant, tokens)
        for colour in ("red", "blue")
        for variant, tokens in (("full", ""), ("item", f"{colour}</w> circle</w>"), ("tokens", "circle</w>"))
    }
    assert set(shown.unique()) == {0.0, 1.0}


# ---------------------------------------------------------------------- every family


@pytest.mark.parametrize(
    ("family", "pooled", "edit_blocks"),
    [
        ("sd", "clean", "encoder"),
        ("sdxl", "prompt", "encoder"),
        ("sd3", "clean", "encoder"),
        ("flux", "prompt", "encoder"),
        ("sd3", "clean", "every"),
        ("flux", "prompt", "every"),
        ("pixart_sigma", "clean", "encoder"),
        ("sana", "clean", "encoder"),
        ("qwen_image", "clean", "encoder"),
        pytest.param("qwen_image", "clean", "every", marks=pytest.mark.slow),
        *(
            pytest.param(family, "clean", "every" if KINDS[family].joint else "encoder", marks=pytest.mark.slow)
            for family in sorted(LATER)
            if family != "pixart_alpha"
        ),
    ],
)
def test_every_family_goes_through_every_part(family, pooled, edit_blocks, tmp_path, monkeypatch):
    kind = family_of(family, type(tiny_pipeline(family)).__name__)
    monkeypatch.setattr(tiny_pipeline(family), "default_sample_size", 8, raising=False)  # 128 latents take their time
    if family in ("sd3", "flux", "pixart_sigma"):
        monkeypatch.setattr(kind, "t5_positions", 20)  # and so do hundreds of positions of padding
    if isinstance(getattr(kind, "positions", None), int) and family != "lumina2":  # whose system prompt needs them
        monkeypatch.setattr(kind, "positions", 20)
    model = ImageModel(kind(tiny_pipeline(family)), ModelIdentity(family, "tests", "0", "float32"), {})
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"text": "le red circle", "items": ["red circle"]}))
    experiment = T2IFlow(
        prompts=path, judge="tests.t2i_flow.planted:bright", seeds=1, steps=1, pooled=pooled, repairs="all", grid_prompts=1,
        max_subsets=3, batch=8, edit_blocks=edit_blocks, **(pixels(model) if family in LATER else {}),
    )  # fmt: skip
    schemas = experiment.schemas()
    measured = {name: pd.DataFrame(columns=list(schema.to_schema().columns)) for name, schema in schemas.items()}
    done: set[str] = set()
    while missing := [unit for unit in plan_units(experiment, measured) if unit.id not in done]:
        for unit in missing:
            for name, frame in experiment.measure(model, unit).items():
                measured[name] = pd.concat([measured[name], frame], ignore_index=True) if len(measured[name]) else frame
            done.add(unit.id)
    variants = measured["variants"]
    arms = set(variants.loc[variants["part"] == "repair", "variant"])
    assert {"full", "paste", "random_paste"} <= arms
    assert ("attention" in arms) == (family in ("sd", "sdxl"))
    kept = variants[(variants["part"] == "inter_item") & (variants["variant"] == "item")]
    assert set(kept["encoder"]) == {"+".join(model.encoders)}  # an item stands in every block
    assert len(measured["attention_seeds"])
    assert set(measured["lens"]["encoder"]) == set(model.encoder_layers)
    assert set(experiment.summarise(model.facts, measured)) >= {"rates", "in_item", "repair"}
