"""Lenses: the last depth is the model in every family and precision, TransformerLens agrees, tuned lenses belong to one model."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from interp.errors import ArgumentError, RunError, UserError
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.lens import training
from interp.models.lens.lens import LogitLens, read_through
from interp.models.lens.training import Recipe, held_out_nats, read_states, train_on
from interp.models.lens.tuned import Translators, TunedLens, save_lens, shipped_lens
from tests.test_bridge import with_tokenizer
from tests.tiny_models import FAMILIES, REACHED, random_ids, tiny, tiny_hf
from tests.tiny_tokenizers import byte_level

MAMBA = dict(hidden_size=32, num_hidden_layers=2, vocab_size=97)
OWN_STATES = ("mamba",)
"""Families whose `hidden_states` in transformers are counted otherwise."""
IDS = random_ids(24)
TEXTS = [" ".join(3 * [f"{word} the cat and a hand and the band"]) for word in ("he", "an", "and", "the", "cat")]
HALF = ("llama", "gemma2", "gpt2", "falcon", "cohere", "lfm2", "qwen3_next", "mamba")
"""Families that are read in bfloat16 too."""


def model_of(family, dtype=torch.float32):
    model = tiny(family, **(MAMBA if family == "mamba" else {}))
    model.hf.to(dtype)
    return model


@pytest.mark.parametrize(
    ("family", "dtype"),
    [
        *((family, torch.float32) for family in (*FAMILIES, *REACHED, "mamba")),
        *((family, torch.bfloat16) for family in HALF),
    ],
    ids=str,
)
def test_every_depth_is_the_models_own(family, dtype):
    """The last depth gives the model's logits, the others transformers' hidden states; and a text of two tokens that is run through the
    layers above, from any depth, is the model's answer to it."""
    model = model_of(family, dtype)
    lens = LogitLens(model)
    near = dict(atol=1e-4, rtol=0) if dtype == torch.float32 else dict(atol=0.05, rtol=0.02)
    with torch.no_grad():
        whole = model.hf(torch.tensor([IDS]), output_hidden_states=True, use_cache=False)
        two = torch.tensor([IDS[:2]])
        wanted = model.hf(two, use_cache=False).logits[0, -1].float()
    torch.testing.assert_close(lens.each_depth(IDS)[-1], whole.logits[0].float(), **near)
    states = lens.states(torch.tensor([IDS]))
    if family not in OWN_STATES:
        for depth in range(lens.n_depths - 1):
            torch.testing.assert_close(states[depth], whole.hidden_states[depth], **near)
    pair = lens.states(two)
    for depth in range(lens.n_depths):
        found = read_through(lens, pair[depth, :, 0], pair[depth, :, 1], depth, two)
        torch.testing.assert_close(found[0], wanted, **near)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen3", "gemma3_text"])
def test_the_logit_lens_is_that_of_transformer_lens(family, tmp_path):
    model = with_tokenizer(family, tmp_path)
    bridge = model.bridge()
    ours = LogitLens(model).each_depth(IDS)
    names = ["blocks.0.hook_resid_pre", *(f"blocks.{layer}.hook_resid_post" for layer in range(3))]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.tensor([IDS]), names_filter=names)
        for depth, name in enumerate(names):
            theirs = bridge.unembed(bridge.ln_final(cache[name]))[0]
            torch.testing.assert_close(ours[depth], theirs, atol=1e-4, rtol=0)


def test_soft_capping_and_scales_are_read_out():
    capped, scaled = LogitLens(model_of("gemma2")), LogitLens(model_of("cohere"))
    assert (capped.head.cap, scaled.head.after) == (8.0, 0.0625)
    assert capped.each_depth(IDS).abs().max() <= 8
    plain = scaled.head.head(scaled.head.norm(scaled.states(torch.tensor([IDS]))[1, 0]))
    torch.testing.assert_close(scaled.each_depth(IDS)[1], plain / 16)


class Twist(nn.Module):
    """Something behind the final norm that no multiple undoes."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, stream):
        return torch.tanh(self.norm(stream))


def test_a_model_without_a_final_norm_is_refused():
    hf = tiny_hf("llama")
    hf.model.norm = nn.Identity()
    with pytest.raises(UserError, match="has no final norm that this toolkit knows"):
        LogitLens(LanguageModel(hf, None, ModelIdentity("bare", "tests", "0", "float32")))


def test_a_model_that_changes_what_the_final_norm_made_is_refused():
    hf = tiny_hf("llama")
    hf.model.norm = Twist(hf.model.norm)
    with pytest.raises(UserError, match="cannot be read by a lens: its final norm's output is changed"):
        LogitLens(LanguageModel(hf, None, ModelIdentity("twisted", "tests", "0", "float32")))


def test_a_last_layer_that_does_not_hand_on_what_the_final_norm_gets_is_refused():
    """What enters the final norm is changed on the way: everything is found, and only the check of the logits sees it."""
    model = LanguageModel(tiny_hf("llama"), None, ModelIdentity("shifted", "tests", "0", "float32"))
    states = LogitLens.states
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogitLens, "states", lambda self, ids: states(self, ids) + torch.randn(64))
        with pytest.raises(
            UserError, match=r"cannot be read by a lens: what its last layer hands on, .* is off from its logits by"
        ):
            LogitLens(model)


def test_a_depth_that_is_not_there_is_refused():
    lens = LogitLens(model_of("llama"))
    with pytest.raises(ArgumentError, match="has no depth 4: depths go from 0"):
        lens.logits(torch.zeros(64), 4)


# ---------------------------------------------------------------------- tuned


def maps(n_depths=3, width=64, rank=2):
    generator = torch.Generator().manual_seed(0)
    parts = [(n_depths, width, rank), (n_depths, rank, width), (n_depths, width)]
    return Translators(*(torch.randn(size, generator=generator).half().float() for size in parts))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", ["llama", "gemma2", "mamba"])
def test_a_lens_comes_back_from_its_file_and_does_what_it_says(family, dtype, tmp_path):
    model = model_of(family, dtype)
    lens = LogitLens(model)
    own = maps(lens.n_depths - 1, lens.states(torch.tensor([IDS])).shape[-1])
    save_lens(tmp_path / "a", own, model.identity, "tuned", {"held_out_nats": {"tuned": [1.0]}, "recipe": {}})
    read = TunedLens.load(model, tmp_path / "a")
    assert (read.name, read.held_out_nats) == ("tuned", {"tuned": [1.0]})
    states = lens.states(torch.tensor([IDS]))[1, 0]
    moved = states.float() + states.float() @ own.down[1] @ own.up[1] + own.bias[1]
    torch.testing.assert_close(read.logits(states, 1), lens.logits(moved.to(states.dtype), 1))
    torch.testing.assert_close(read.each_depth(IDS)[-1], lens.each_depth(IDS)[-1], atol=0, rtol=0)


def test_a_lens_of_another_model_or_precision_is_refused(tmp_path):
    model = tiny("llama")
    save_lens(tmp_path / "a", maps(), model.identity, "tuned", {"held_out_nats": {}, "recipe": {}})
    other = tiny("llama")
    other.identity = dataclasses.replace(model.identity, revision="1")
    with pytest.raises(ArgumentError, match="belongs to other weights"):
        TunedLens.load(other, tmp_path / "a")
    other.identity = dataclasses.replace(model.identity, dtype="bfloat16")
    with pytest.raises(
        ArgumentError, match="was trained in float32 and tiny-llama is read in bfloat16: use --dtype float32"
    ):
        TunedLens.load(other, tmp_path / "a")
    save_lens(tmp_path / "b", maps(width=32), model.identity, "tuned", {"held_out_nats": {}, "recipe": {}})
    with pytest.raises(ArgumentError, match="maps for 3 layers of width 32, and tiny-llama has 3 layers of width 64"):
        TunedLens.load(model, tmp_path / "b")


def test_what_is_no_lens_is_refused(tmp_path):
    model = tiny("llama")
    with pytest.raises(ArgumentError, match="There is no lens"):
        TunedLens.load(model, tmp_path / "none")
    (tmp_path / "text").write_text("a lens")
    with pytest.raises(ArgumentError, match="cannot be read"):
        TunedLens.load(model, tmp_path / "text")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "weights")
    with pytest.raises(ArgumentError, match="is no lens of this toolkit"):
        TunedLens.load(model, tmp_path / "weights")
    parts = {name: getattr(maps(), name) for name in ("down", "up", "bias")}
    save_file(parts, tmp_path / "bare", {"format": "interp lens 1"})
    with pytest.raises(ArgumentError, match="is no lens of this toolkit"):
        TunedLens.load(model, tmp_path / "bare")


def test_maps_that_half_precision_cannot_hold_are_stored_whole_and_others_refused(tmp_path):
    """Residual streams with massive activations are of tens of thousands; float16 ends at 65504."""
    model, large = tiny("llama"), maps()
    large.bias[0] *= 1e6
    facts = {"held_out_nats": {}, "recipe": {}}
    save_lens(tmp_path / "large", large, model.identity, "tuned", facts)
    torch.testing.assert_close(
        TunedLens.load(model, tmp_path / "large").translators.bias[0].float(), large.bias[0], rtol=1e-3, atol=0
    )
    large.bias[0, 0] = float("nan")
    save_lens(tmp_path / "broken", large, model.identity, "tuned", facts)
    with pytest.raises(ArgumentError, match="holds numbers that are none"):
        TunedLens.load(model, tmp_path / "broken")


def test_a_control_is_not_taken_for_the_lens(tmp_path):
    from probes.prediction_depth.experiment import PredictionDepth
    from probes.prediction_depth.measure import lenses

    model = tiny("llama")
    for kind in ("tuned", "shuffled"):
        save_lens(tmp_path / kind, maps(), model.identity, kind, {"held_out_nats": {}, "recipe": {}})
    right = PredictionDepth(lens=tmp_path / "tuned", shuffled_lens=tmp_path / "shuffled")
    assert [lens.name for lens in lenses(right, model).values()] == ["logit", "tuned", "shuffled"]
    with pytest.raises(
        ArgumentError, match=r"shuffled is a shuffled lens, and --lens takes a tuned one: name it as --shuffled-lens"
    ):
        lenses(PredictionDepth(lens=tmp_path / "shuffled"), model)
    with pytest.raises(
        ArgumentError, match=r"tuned is a tuned lens, and --shuffled-lens takes a shuffled one: name it as --lens"
    ):
        lenses(PredictionDepth(shuffled_lens=tmp_path / "tuned"), model)


def test_no_lens_ships_for_other_weights_of_the_same_name():
    assert shipped_lens(ModelIdentity("smollm2-135m", "elsewhere", "1", "float32")) is None


# ---------------------------------------------------------------------- training


def trained_model():
    return tiny("llama", tokenizer=byte_level(), vocab_size=len(byte_level()))


def recipe(path, **changes):
    small = dict(windows=3, held_out_windows=2, context_tokens=24, steps=6, tokens_per_step=8, rank=4)
    return Recipe(out=path, **{**small, **changes})


def test_training_lowers_the_divergence_from_the_model(tmp_path, capsys):
    model = trained_model()
    train_on(model, TEXTS[:3], TEXTS[3:], recipe(tmp_path / "lens", steps=40, learning_rate=1e-2))
    nats = TunedLens.load(model, tmp_path / "lens").held_out_nats
    assert len(nats["tuned"]) == 3
    assert sum(nats["tuned"]) < 0.8 * sum(nats["logit"])
    assert capsys.readouterr().out.count("held-out KL") == 3
    assert not (tmp_path / "lens.checkpoint").exists()


def test_the_divergence_is_nothing_where_the_layers_above_do_nothing():
    model = trained_model()
    for layer in model.hf.model.layers[1:]:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    lens = LogitLens(model)
    first, *others = held_out_nats(lens, None, read_states(lens, TEXTS, 3, 24))
    assert first > 0.1
    assert max(others) < 1e-4


@pytest.mark.parametrize("kind", ["tuned", "shuffled"])
def test_a_training_that_was_killed_ends_as_one_that_was_not(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 2)
    model = trained_model()
    train_on(model, TEXTS[:3], TEXTS[3:], recipe(tmp_path / "whole", kind=kind))
    steps = iter(range(5))

    def stops(*args, **options):
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return kl_div(*args, **options)

    kl_div = training.kl_div
    monkeypatch.setattr(training, "kl_div", stops)
    with pytest.raises(KeyboardInterrupt):
        train_on(model, TEXTS[:3], TEXTS[3:], recipe(tmp_path / "killed", kind=kind))
    monkeypatch.setattr(training, "kl_div", kl_div)
    with pytest.raises(ArgumentError, match="checkpoint of another recipe"):
        train_on(model, TEXTS[:3], TEXTS[3:], recipe(tmp_path / "killed", kind=kind, rank=3))
    train_on(model, TEXTS[:3], TEXTS[3:], recipe(tmp_path / "killed", kind=kind))
    whole, killed = (TunedLens.load(model, tmp_path / name).translators for name in ("whole", "killed"))
    for name in ("down", "up", "bias"):
        assert torch.equal(getattr(whole, name), getattr(killed, name))


def test_a_training_that_diverges_stops_and_keeps_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY", 1)
    plain = training.kl_div
    calls = iter(range(2))

    def broken(*args, **options):
        return plain(*args, **options) * (torch.nan if next(calls, None) is None else 1)

    monkeypatch.setattr(training, "kl_div", broken)
    with pytest.raises(
        RunError, match=r"Training diverged at step 2; the maps of step 2 are kept in .*: lower --learning-rate"
    ):
        train_on(trained_model(), TEXTS[:3], TEXTS[3:], recipe(tmp_path / "lens"))
    from safetensors import safe_open

    with safe_open(tmp_path / "lens.checkpoint", framework="pt") as file:
        assert len(json.loads(file.metadata()["curve"])) == 2
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118 (a safetensors file is no dict)
    assert not (tmp_path / "lens").exists()


def test_too_few_texts_are_refused():
    with pytest.raises(ArgumentError, match="1 texts have 24 tokens and 3 are needed: lower --windows"):
        read_states(LogitLens(trained_model()), [TEXTS[0], "a"], 3, 24)
