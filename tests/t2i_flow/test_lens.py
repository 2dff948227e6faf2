"""Layer by layer: a planted encoder's layers are told apart, by hand, in a constructed CLIP encoder, and in a whole run."""

import numpy as np
import pandas as pd
import pytest
import torch

from figures.t2i_flow import plot_lens
from probes.t2i_flow import measure
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.measure import measure_lens
from probes.t2i_flow.plan import LensUnit
from probes.t2i_flow.prompts import Prompt, PromptItem
from probes.t2i_flow.scores import first_layer_rates, first_layers, lens_rates
from probes.t2i_flow.variants import lens_variants, spread_layers
from tests.t2i_flow.copying import copying_model
from tests.t2i_flow.planted import PlantedImages
from tests.tiny_pipelines import tiny_image


def rows(shown: dict[tuple[int, int], float], asked: str = "own", prompt: str = "p", role: str = "item") -> list[dict]:
    """Rows of `lens`: visible by (layer, seed)."""
    return [
        {
            "model": "any", "prompt_id": prompt, "group": "g", "encoder": "clip", "layer": layer, "n_layers": 3,
            "depth_fraction": layer / 3, "token_role": role, "source_item": "cat", "item_id": "cat", "asked": asked,
            "seed": seed, "visible": visible,
        }
        for (layer, seed), visible in shown.items()
    ]  # fmt: skip


def test_first_layers_and_rates_by_hand():
    table = pd.DataFrame(
        rows({(0, 0): 1, (1, 0): 0, (2, 0): 1, (3, 0): 1, (0, 1): 1, (1, 1): 0, (2, 1): 0, (3, 1): 1})
        + rows({(layer, 0): 1.0 for layer in range(4)}, prompt="q")
        + rows({(0, 0): 1, (1, 0): 1, (2, 0): 1, (3, 0): 0}, "leak")
    )
    found = first_layers(table, 0.5).set_index(["prompt_id", "asked"])["first_layer"]
    assert found["p", "own"] == 2  # once in 0 does not count: it is gone after 1
    assert found["q", "own"] == 0
    assert np.isnan(found["p", "leak"])
    assert first_layers(table, 1.0).set_index(["prompt_id", "asked"]).loc[("p", "own"), "first_layer"] == 3
    means = {row["quantity"]: row for row in first_layer_rates(table, 0.5, 0)}
    assert (means["first_layer_own"]["estimate"], means["first_layer_own"]["n"]) == (1, 2)
    by_layer = {(row["asked"], row["layer"]): row["estimate"] for row in lens_rates(table, 0).to_dict("records")}
    assert [by_layer["own", layer] for layer in range(4)] == pytest.approx([1, 1 / 3, 2 / 3, 1])
    assert [by_layer["leak", layer] for layer in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("n_layers", "at_most", "expected"),
    [(2, 9, [0, 1, 2]), (24, 9, [0, 3, 6, 9, 12, 15, 18, 21, 24]), (24, 2, [0, 24]), (8, 4, [0, 3, 5, 8])],
)
def test_layers_are_spread_evenly_from_the_embeddings_to_the_last(n_layers, at_most, expected):
    assert spread_layers(n_layers, at_most) == expected


@torch.no_grad()
@pytest.mark.parametrize("last_that_works", [1, 2, 3])
def test_a_clip_encoder_whose_later_layers_do_nothing_shows_the_item_from_the_last_that_works(
    last_that_works, monkeypatch
):
    model = copying_model()
    encoder = model.pipeline.text_encoder
    for layer in encoder.encoder.layers[last_that_works:]:  # what is left of these is the residual stream
        for part in (layer.self_attn.out_proj, layer.mlp.fc2):
            part.weight.zero_()
            part.bias.zero_()
    wanted = model.generate(model.encode(["a red circle"]), model.noise([0]))[0]

    def looks_like_it(picture, descriptions):
        return [bool(np.abs(picture - wanted).max() < 1e-5) for _ in descriptions]

    monkeypatch.setattr(measure, "judge_of", lambda settings: looks_like_it)
    alone = Prompt("alone", "a red circle", (PromptItem("red circle"),), "alone")
    found = measure_lens(T2IFlow(seeds=1), model, LensUnit("lens", alone=(alone,)))["lens"]
    curves = found.groupby(["token_role", "layer"])["visible"].mean()
    for role in ("full", "last_token"):
        assert curves[role].tolist() == [float(layer >= last_that_works) for layer in range(4)]


def test_the_layer_that_the_model_takes_is_what_the_encoder_alone_gives_and_others_are_clean():
    model, text = tiny_image("sd3"), "a red circle"
    clean, whole = model.clean(), model.encode([text])
    assert model.layers_taken == {"clip_l": 1, "clip_g": 2, "t5": 3}
    t5 = model.lens(text, [3], "t5", clean)
    block = model._blocks[1]
    assert torch.equal(t5.sequence[0, block.start : block.stop], whole.sequence[0, block.start : block.stop])
    assert torch.equal(t5.sequence[0, : block.start], clean.sequence[0, : block.start])
    assert clean.pooled is not None
    assert t5.pooled is not None
    assert torch.equal(t5.pooled, clean.pooled)
    first = model.lens(text, [1, 0], "clip_l", clean)
    assert torch.equal(first.sequence[0, :12, :16], whole.sequence[0, :12, :16])
    assert torch.equal(first.sequence[:, :12, 16:], clean.sequence[:, :12, 16:].expand(2, -1, -1))
    assert not torch.equal(first.sequence[1, :12, :16], whole.sequence[0, :12, :16])


def test_what_is_kept_of_an_item_alone_and_of_a_prompt():
    model = PlantedImages()
    alone = Prompt("alone", "a red triangle", (PromptItem("red triangle"),), "alone")
    assert [(one.role, one.positions) for one in lens_variants(model, alone, alone=True)] == [
        ("full", ()),
        ("last_token", (5,)),
    ]
    items = (PromptItem("red triangle", leaks=("blue triangle",)), PromptItem("blue circle"))
    prompt = Prompt("p", "a red triangle and a blue circle", items)
    assert [(one.item_id, one.positions) for one in lens_variants(model, prompt, alone=False)] == [
        ("red triangle", (2, 3, 4, 5))
    ]


def test_a_figure_has_a_panel_for_each_encoder_and_group():
    table = lens_rates(pd.DataFrame(rows({(0, 0): 0.0, (3, 0): 1.0})), 0).assign(model="any")
    two = pd.concat([table, table.assign(encoder="t5"), table.assign(group="alone", token_role="full")])
    figure = plot_lens(two)
    assert [note.text for note in figure.layout.annotations] == [
        "g · clip",
        "items alone · clip",
        "g · t5",
        "items alone · t5",
    ]
    assert [list(trace.y) for trace in figure.data] == [[0, 1]] * 3
    assert [trace.showlegend for trace in figure.data] == [True, False, True]
