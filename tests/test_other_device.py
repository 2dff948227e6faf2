"""What is measured does not depend on where the model is: every family and whole runs on a device that refuses mixed tensors."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pandas.testing import assert_frame_equal

from interp.experiments import runner
from interp.models.language.recording import TopKeys, WeightAt, Weights
from tests.abuse import small
from tests.elsewhere import DEVICE, Elsewhere, OtherDevice, move
from tests.tiny_models import FAMILIES, random_ids, tiny

pytestmark = pytest.mark.slow

IDS = random_ids(24)


@pytest.fixture
def other_device() -> Iterator[None]:
    with OtherDevice(), torch.no_grad():
        yield


# ---------------------------------------------------------------------- the device itself


@pytest.mark.usefixtures("other_device")
def test_the_device_computes_and_refuses_what_a_gpu_refuses() -> None:
    there = torch.arange(6.0, device=DEVICE).reshape(2, 3)
    here = torch.ones(2, 3)
    assert there.device == DEVICE
    assert (there @ there.T).tolist() == [[5, 14], [14, 50]]
    assert (there + here.to(DEVICE)).to("cpu").tolist() == [[1, 2, 3], [4, 5, 6]]
    there[0, torch.tensor([0])] += 7  # a place may be named from anywhere
    assert there[0].tolist() == [7, 1, 2]
    for mix in (
        lambda: there + here,
        lambda: torch.cat([there, here]),
        lambda: there.masked_fill(here > 0, 0),
        lambda: here.index_select(0, torch.tensor([0], device=DEVICE)),
    ):
        with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
            mix()
    with pytest.raises(RuntimeError, match="same device"):
        there[0] = here[0]
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        there.numpy()


# ---------------------------------------------------------------------- models


def read(model: Any) -> dict[str, torch.Tensor]:
    """All that a model is asked for: logits of shared, ragged rows, what heads look at, edits, and answers."""
    at = torch.tensor([[len(IDS) - 2, len(IDS) - 1]])
    found: dict[str, torch.Tensor] = {}
    with model.record(at, TopKeys(2), WeightAt(torch.zeros_like(at)[..., None]), Weights(len(IDS))) as recording:
        found["logits"] = model.extend(model.prefix(), [IDS])
    found |= {name: recording[name] for name in ("top_position", "top_logit", "weight_at", "weights")}
    rows = model.prefix(IDS[:9]).fork(2)
    found["ragged"] = model.extend(rows, [IDS[9:20], IDS[5:9]])
    for how in ("zero", "uniform"):
        with model.edit_heads([(0, 1), (2, 3)], how):
            found[how] = model.extend(model.prefix(), [IDS])
    return {name: tensor.to("cpu") for name, tensor in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_any_family_gives_the_same_on_the_other_device(family: str) -> None:
    expected = read(tiny(family))
    model = tiny(family)
    if family == "mixtral":  # its kernel for experts on a GPU is one that no device of ours can stand for
        model.hf.set_experts_implementation("eager")
    with OtherDevice(), torch.no_grad():
        move(model.hf)
        assert isinstance(model.hf.get_input_embeddings().weight, Elsewhere)
        found = read(model)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, msg=lambda text, name=name: f"{name}: {text}")


# ---------------------------------------------------------------------- whole runs

SMALLER: dict[str, dict[str, Any]] = {
    "retrieval_heads": dict(
        model="transformer-news-2", max_new_tokens=4, random_draws=1, finding_needles=4, held_out_share=0.1
    ),
    "verbatim_memory": dict(model="transformer-news-1", list_lengths=(3,), n_base_lists=3, mask_draws=1),
    "t2i_flow": dict(steps=1, max_subsets=2, judge_check=0, n_prompts=1, n_items=1, repairs="all"),
}
"""For what is computed everywhere, a step of each kind is enough."""
MEASURED = {
    "retrieval_heads": ("sample_head_scores", "logit_contribution", "echo_induction", "ablation"),
    "verbatim_memory": ("token_surprisals", "list_attention", "masking"),
    "t2i_flow": ("variants", "token_vectors", "vector_change", "lens", "attention_seeds", "heat_maps", "repair"),
}
"""Tables that hold something of every kind of unit."""


@pytest.mark.real
@pytest.mark.usefixtures("without_pages")
@pytest.mark.parametrize("name", ["retrieval_heads", "verbatim_memory", "t2i_flow"])
def test_a_run_on_the_other_device_writes_the_same_tables(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = dataclasses.replace(small(name, tmp_path), **SMALLER[name])
    expected = experiment.run(out=tmp_path / "here", device="cpu")
    loaders = runner._loaders

    def loaders_elsewhere(kind: Any) -> tuple[Any, Any]:
        load, look_up = loaders(kind)

        def load_elsewhere(*given: Any, **how: Any) -> Any:
            model = load(*given, **how)
            parts = model.pipeline.components.values() if kind == "image" else [model.hf]
            for part in parts:
                if isinstance(part, torch.nn.Module):
                    move(part)
            return model

        return load_elsewhere, look_up

    monkeypatch.setattr(runner, "_loaders", loaders_elsewhere)
    with OtherDevice(), torch.no_grad():
        found = experiment.run(out=tmp_path / "elsewhere", device="cpu")
    assert all(len(expected.tables[table]) for table in MEASURED[name])
    for table, rows in expected.tables.items():
        stored = [column for column in ("png", "vector") if column in rows]  # rounding of a whole picture
        assert_frame_equal(found.tables[table].drop(columns=stored), rows.drop(columns=stored), rtol=1e-4, atol=1e-5)
