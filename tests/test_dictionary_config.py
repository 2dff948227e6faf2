"""What a dictionary's configuration says is applied or refused by name; folders of several makers; the gate under sabotage."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from interp.errors import ArgumentError, RunError
from interp.models.dictionary import config as dictionary_config
from interp.models.dictionary.config import layer_of
from interp.models.dictionary.dictionary import Dictionary
from interp.models.dictionary.fidelity import explained, refuse_mismatch
from interp.models.language.residuals import read_residuals
from interp.models.loading.language import load
from tests.counting import save_model
from tests.test_dictionary import VECTORS, WIDTH, D, identity_dictionary, make_sae, wrap
from tests.tiny_models import random_ids, tiny

# sae-lens imports a module that TransformerLens 3.9 has renamed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:(?s).*non-empty model_from_pretrained_kwargs:UserWarning"),
]


def save(folder: Path, sae: Any, **changes: Any) -> Path:
    """A folder that SAELens saved, with fields of its configuration changed; metadata__x is a field of the metadata."""
    sae.save_model(folder)
    config = json.loads((folder / "cfg.json").read_text())
    for name, value in changes.items():
        place = config["metadata"] if name.startswith("metadata__") else config
        place[name.removeprefix("metadata__")] = value
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


# ---------------------------------------------------------------------- the fields


def saelens_fields() -> set[str]:
    from sae_lens import registry
    from sae_lens.config import LanguageModelSAERunnerConfig, LoggingConfig
    from sae_lens.loading.pretrained_sae_loaders import LLM_METADATA_KEYS

    classes = [config for _, config in registry.SAE_CLASS_REGISTRY.values()]
    classes += [config for _, config in registry.SAE_TRAINING_CLASS_REGISTRY.values()]
    classes += [LanguageModelSAERunnerConfig]
    assert LoggingConfig  # nested, under the field logger
    return {field.name for config in classes for field in dataclasses.fields(config)} | set(LLM_METADATA_KEYS)


def test_every_field_of_the_installed_saelens_is_of_exactly_one_kind():
    kinds = (dictionary_config.APPLIED, dictionary_config.HARMLESS, frozenset(dictionary_config.REFUSED))
    wrong = {name: n for name in saelens_fields() if (n := sum(name in kind for kind in kinds)) != 1}
    assert wrong == {}


def test_every_architecture_of_the_installed_saelens_is_read_or_refused():
    from sae_lens import registry

    known = set(registry.SAE_CLASS_REGISTRY) | set(registry.SAE_TRAINING_CLASS_REGISTRY)
    assert known <= set(dictionary_config._ARCHITECTURES)


REFUSED = {
    "a field of tomorrow": ("standard", {"whitening_strength": 0.5}, "whitening_strength: 0.5"),
    "one in the metadata": ("standard", {"metadata__input_noise": 1}, "input_noise: 1"),
    "one head": ("standard", {"metadata__hook_head_index": 3}, "hook_head_index: 3"),
    "heads side by side": ("standard", {"reshape_activations": "hook_z"}, "reshape_activations: hook_z"),
    "two places": ("standard", {"metadata__hook_name_out": "blocks.1.hook_mlp_out"}, "hook_name_out"),
    "positions": ("standard", {"metadata__seqpos_slice": [0, 64]}, r"seqpos_slice: \[0, 64\]"),
    "every other position": ("standard", {"metadata__seqpos_slice": [0, None, 2]}, "seqpos_slice"),
    "another checkpoint": (
        "standard",
        {"metadata__model_from_pretrained_kwargs": {"checkpoint_value": 3000}},
        "model_from_pretrained_kwargs.checkpoint_value: 3000",
    ),
    "an unfolded scale": ("topk", {"normalize_activations": "expected_average_only_in"}, "expected_average_only_in"),
    "unfolded whitening": ("topk", {"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
    "factors of its own": ("standard", {"finetuning_scaling_factor": True}, "finetuning_scaling_factor: True"),
    "k above the width": ("topk", {"k": WIDTH + 1}, f"k: {WIDTH + 1} .*it has {WIDTH} features"),
    "norms that SAELens drops": ("jumprelu", {"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm"),
    "another activation": ("standard", {"activation_fn": "tanh-relu"}, "activation_fn: tanh-relu"),
    "both directions": ("topk", {"architecture": "abstopk"}, "architecture: abstopk .*both directions"),
    "a transcoder": ("standard", {"architecture": "transcoder"}, "architecture: transcoder"),
    "a training class": ("standard", {"architecture": "batchtopk"}, "save_inference_model"),
    "k among the arguments alone": ("topk", {"k": None, "activation_fn_kwargs": {"k": 2}}, "k: 2"),
    "k in the metadata alone": ("topk", {"metadata__k": 1}, "metadata.k: 1"),
    "no k": ("topk", {"k": None}, "no k"),
    "k that is no whole number": ("topk", {"k": 2.0}, "k: 2.0"),
    "k as a word": ("topk", {"k": "2"}, "k: '2'"),
    "k as a switch": ("topk", {"k": True}, "k: True"),
    "k of a plain one": ("standard", {"k": 2}, "k: 2"),
    "topk of a plain one": ("standard", {"activation_fn": "topk", "activation_fn_kwargs": {"k": 2}}, "k: 2"),
    "norms in the metadata": (
        "topk",
        {"metadata__rescale_acts_by_decoder_norm": True},
        "metadata.rescale_acts_by_decoder_norm",
    ),
    "one head beside null": (
        "standard",
        {"hook_head_index": None, "metadata__hook_head_index": 3},
        "hook_head_index: 3",
    ),
    "a scale in the metadata": (
        "standard",
        {"metadata__normalize_activations": "layer_norm"},
        "metadata.normalize_activations",
    ),
    "the bias in the metadata": (
        "standard",
        {"metadata__apply_b_dec_to_input": False},
        "metadata.apply_b_dec_to_input",
    ),
    "two hooks": ("standard", {"hook_name": "blocks.0.hook_resid_post"}, "metadata.hook_name"),
    "another tower": ("standard", {"metadata__hook_name": "vision_model.encoder.layers.1"}, "vision_model"),
    "a model of another kind": ("standard", {"metadata__model_class_name": "HookedMamba"}, "model_class_name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_applied_is_refused_by_its_name(case, tmp_path):
    kind, changes, sentence = REFUSED[case]
    with pytest.raises(ArgumentError, match=sentence):
        Dictionary.from_folder(save(tmp_path / "one", make_sae(kind), **changes))


def test_fields_of_training_change_nothing(tmp_path):
    harmless = dict.fromkeys(sorted(dictionary_config.HARMLESS - {"dtype", "device", "sae_lens_version"}), 7)
    harmless |= {"neuronpedia_id": "x/y", "sae_lens_training_version": "6.0.0"}
    sae = make_sae("topk")
    loaded = Dictionary.from_folder(save(tmp_path / "one", sae, dtype="bfloat16", **harmless))
    torch.testing.assert_close(loaded.encode(VECTORS), sae.encode(VECTORS).detach(), atol=1e-5, rtol=1e-5)


def test_centring_is_heard_beside_the_metadata_too(tmp_path):
    loading = {"center_writing_weights": True}
    loaded = Dictionary.from_folder(save(tmp_path / "one", make_sae("standard"), model_from_pretrained_kwargs=loading))
    assert loaded.training.centred


def test_what_training_read_is_kept(tmp_path):
    said = dict(metadata__prepend_bos=True, metadata__context_size=64, metadata__seqpos_slice=[3, None])
    training = Dictionary.from_folder(save(tmp_path / "one", make_sae("topk"), **said)).training
    assert (training.prepend_bos, training.context_tokens, training.first_position) == (True, 64, 3)


# ---------------------------------------------------------------------- scale and centring


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk", "topk-rescaled", "gated"])
@pytest.mark.parametrize("subtract", [True, False])
def test_an_unfolded_scale_is_folded_in(kind, subtract, tmp_path):
    sae = make_sae(kind, apply_b_dec_to_input=subtract)
    folder = save(tmp_path / "one", sae, normalize_activations="expected_average_only_in")
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.37, "has_whitening": False}))
    loaded = Dictionary.from_folder(folder)
    expected = sae.encode(0.37 * VECTORS).detach()
    # Where activations count the decoder's norm they are in units of the stream, not of the scaled one.
    unit = 0.37 if kind == "topk-rescaled" else 1.0
    torch.testing.assert_close(unit * loaded.encode(VECTORS), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        loaded.decode(loaded.encode(VECTORS)), sae.decode(expected).detach() / 0.37, atol=1e-3, rtol=1e-3
    )


def test_a_scale_beside_a_dictionary_that_says_it_has_none_is_refused(tmp_path):
    folder = save(tmp_path / "one", make_sae("topk"))
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.37}))
    with pytest.raises(ArgumentError, match=r"normalize_activations: none .*activation_scaler.json"):
        Dictionary.from_folder(folder)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return load(str(save_model(tmp_path_factory.mktemp("centred"), "gpt2")), device="cpu")


def test_centred_writing_weights_are_those_of_transformerlens(gpt2, tmp_path):
    sae = make_sae("topk")
    centred = {"metadata__model_from_pretrained_kwargs": {"center_writing_weights": True}, "metadata__model_name": None}
    dictionary = Dictionary.from_folder(save(tmp_path / "one", sae, **centred))
    dictionary.check_fits(gpt2)
    bridge = gpt2.bridge()
    others = dict(fold_ln=False, center_unembed=False, fold_value_biases=False, refactor_factored_attn_matrices=False)
    bridge.enable_compatibility_mode(disable_warnings=True, center_writing_weights=True, **others)
    ids = torch.tensor([random_ids(24, 3)])
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids, names_filter="blocks.1.hook_resid_post")
    stream = read_residuals(gpt2, ids, [1])[1][0]
    theirs = cache["blocks.1.hook_resid_post"][0]
    torch.testing.assert_close(dictionary.take(stream), theirs, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(dictionary.encode(stream), sae.encode(theirs).detach(), atol=1e-3, rtol=1e-3)
    assert ((sae.encode(stream) > 0) != (sae.encode(theirs) > 0)).any()  # it matters here


def test_centring_is_refused_where_the_mean_is_read(tmp_path):
    centred = {"metadata__model_from_pretrained_kwargs": {"center_writing_weights": True}}
    dictionary = Dictionary.from_folder(save(tmp_path / "one", make_sae("topk"), **centred))
    with pytest.raises(ArgumentError, match=r"center_writing_weights: True .*tiny-llama"):
        dictionary.check_fits(tiny("llama"))


@pytest.mark.parametrize("kind", ["standard", "jumprelu", "topk", "topk-rescaled"])
@pytest.mark.parametrize("normalised", ["none", "layer_norm", "constant_norm_rescale"])
def test_a_direction_is_what_one_unit_of_activation_adds(kind, normalised):
    sae = make_sae(kind, normalize_activations=normalised, apply_b_dec_to_input=False)
    dictionary = wrap(sae)
    for row in VECTORS[:5]:
        active = dictionary.encode(row)
        feature = int(active.argmax())
        without = active.clone()
        without[feature] = 0
        both = []
        for acts in (active, without):
            dictionary.encode(row)  # what was read last decides the scale of what is written
            both.append(dictionary.decode(acts))
        direction = float(active[feature]) * dictionary.direction(feature, row)
        torch.testing.assert_close(direction, both[0] - both[1], atol=1e-4, rtol=1e-3)


# ---------------------------------------------------------------------- hooks


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.1.hook_resid_post", 1),
        ("blocks.1.hook_out", 1),
        ("blocks.2.hook_resid_pre", 1),
        ("blocks.2.hook_in", 1),
        ("model.layers.1", 1),
        ("model.layers.1.output", 1),
        ("model.language_model.layers.7", 7),
        ("transformer.h.1", 1),
        ("gpt_neox.layers.1", 1),
        ("model.decoder.layers.3", 3),
        ("layers.0", 0),
    ],
)
def test_hooks_of_the_residual_stream_are_read_by_any_of_their_names(hook, layer):
    assert layer_of(hook, "one") == layer


@pytest.mark.parametrize(
    "hook",
    [
        "blocks.1.hook_resid_mid",
        "blocks.1.hook_mlp_out",
        "blocks.1.attn.hook_z",
        "hook_embed",
        "model.layers.1.mlp",
        "model.layers.0.input",
        "blocks.0.hook_in",
        "model.layers.x",
        "",
        None,
    ],
)
def test_other_hooks_are_refused_in_a_sentence(hook):
    with pytest.raises(ArgumentError, match="only residual streams after a layer can be read"):
        layer_of(hook, "one")


# ---------------------------------------------------------------------- folders of others


def sparsify_folder(place: Path, **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    shapes = {"encoder.weight": (WIDTH, D), "encoder.bias": (WIDTH,), "W_dec": (WIDTH, D), "b_dec": (D,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    folder = place / "sparsify-tiny" / "layers.1"
    folder.mkdir(parents=True)
    save_file(tensors, folder / "sae.safetensors")
    config = dict(activation="topk", expansion_factor=32, normalize_decoder=True, num_latents=WIDTH, k=6)
    config |= dict(multi_topk=False, skip_connection=False, transcode=False, d_in=D) | changes
    (folder / "cfg.json").write_text(json.dumps(config))
    (folder.parent / "config.json").write_text(json.dumps({"model": "org/tiny-llama", "ctx_len": 2048}))
    return folder, tensors


def test_a_folder_of_sparsify_is_encoded_as_sparsify_does(tmp_path):
    folder, tensors = sparsify_folder(tmp_path)
    dictionary = Dictionary.from_folder(folder)
    before = (VECTORS - tensors["b_dec"]) @ tensors["encoder.weight"].T + tensors["encoder.bias"]
    best = before.relu().topk(6, dim=1)
    expected = torch.zeros_like(before).scatter(1, best.indices, best.values)
    torch.testing.assert_close(dictionary.encode(VECTORS), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        dictionary.decode(expected), expected @ tensors["W_dec"] + tensors["b_dec"], atol=1e-3, rtol=1e-4
    )
    assert (dictionary.layer, dictionary.model_name, dictionary.training.prepend_bos) == (1, "org/tiny-llama", None)


@pytest.mark.parametrize(
    "changes",
    [{"signed": True}, {"skip_connection": True}, {"transcode": True}, {"activation": "groupmax"}, {"novelty": 2}],
)
def test_what_sparsify_does_otherwise_is_refused_by_its_name(changes, tmp_path):
    with pytest.raises(ArgumentError, match=f"{next(iter(changes))}: "):
        Dictionary.from_folder(sparsify_folder(tmp_path, **changes)[0])


def test_arrays_of_gemma_scope_are_read_from_their_folder(tmp_path):
    sae = make_sae("jumprelu", apply_b_dec_to_input=False)
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_1" / "width_16k" / "average_l0_21"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in sae.state_dict().items()})
    dictionary = Dictionary.load(str(folder))
    torch.testing.assert_close(dictionary.encode(VECTORS), sae.encode(VECTORS).detach(), atol=1e-5, rtol=1e-5)
    assert (dictionary.layer, dictionary.model_name, dictionary.published_l0) == (1, "gemma-2-2b", 21.0)
    assert dictionary.training.prepend_bos is True
    bare = tmp_path / "bare"
    bare.mkdir()
    (folder / "params.npz").rename(bare / "params.npz")
    with pytest.raises(ArgumentError, match="no folder on the way to them says of which layer"):
        Dictionary.load(str(bare))


@pytest.mark.parametrize("kind", ["mlp", "att", "transcoder"])
def test_arrays_of_gemma_scope_of_other_places_are_refused(kind, tmp_path):
    folder = tmp_path / kind / "layer_5" / "width_16k" / "average_l0_30"
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", W_enc=np.zeros((2, 3)))
    with pytest.raises(ArgumentError, match=f"a folder {kind}"):
        Dictionary.from_folder(folder)


@pytest.mark.parametrize("name", ["encoder.layers.1", "mlp.layers.1", "foolayers.1"])
def test_a_folder_of_sparsify_of_another_place_is_refused(name, tmp_path):
    folder, _ = sparsify_folder(tmp_path)
    with pytest.raises(ArgumentError, match=r"layers\.L"):
        Dictionary.from_folder(folder.rename(folder.with_name(name)))


@pytest.mark.parametrize("k", ["2", 2.0, None, 0, True])
def test_a_k_of_sparsify_that_is_no_whole_number_is_refused(k, tmp_path):
    with pytest.raises(ArgumentError, match="k: "):
        Dictionary.from_folder(sparsify_folder(tmp_path, k=k)[0])


def test_a_pickle_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "ae.pt").write_bytes(b"\x80\x04N.")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopK", "layer": 1}}))
    with pytest.raises(ArgumentError, match=r"ae\.pt is a pickle.*weights_only=True.*save_model"):
        Dictionary.load(str(tmp_path))


def test_files_and_broken_links_are_no_dictionaries(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name, what in (("a.txt", "not a folder"), ("broken", "a link to nothing")):
        with pytest.raises(ArgumentError, match=f"{name} is {what}: give the folder"):
            Dictionary.load(str(tmp_path / name))


# ---------------------------------------------------------------------- the gate


def planted_top_k(scale: float = 1.0, shift: float = 0.0, **changes: Any) -> Dictionary:
    """Top-k over signed dimensions around a mean of 3: it gives back most of what it reads, at the right scale and centre."""
    sae = make_sae("topk", apply_b_dec_to_input=True)
    sae.cfg.k, sae.cfg.d_sae = 24, 2 * D
    sae.activation_fn = sae.get_activation_fn()
    eye = torch.eye(D)
    sae.W_enc.data, sae.W_dec.data = scale * torch.cat([eye, -eye], dim=1), torch.cat([eye, -eye])
    sae.b_enc.data, sae.b_dec.data = torch.zeros(2 * D), torch.full((D,), 3.0 + shift)
    return wrap(sae, **changes)


@pytest.mark.parametrize("sabotage", ["scale", "centre", "layer"])
def test_the_gate_is_not_blind_to_a_top_k_dictionary(sabotage):
    rows = VECTORS + 3
    right = explained(planted_top_k(), rows)
    assert right.l0 == 24
    published = dict(published_l0=24.0, published_explained_variance=right.explained_variance)
    refuse_mismatch(planted_top_k(**published), right)
    wrong, read = planted_top_k(**published), rows
    if sabotage == "scale":
        wrong = planted_top_k(scale=2.0, **published)
    elif sabotage == "centre":
        wrong = planted_top_k(shift=-3.0, **published)
    else:
        read = torch.linspace(0.5, 4, D) * VECTORS.roll(1, dims=1) - 1
    measured = explained(wrong, read)
    assert measured.l0 == 24
    with pytest.raises(RunError, match=rf"should leave 0\.\d+ .*but leaves {1 - measured.explained_variance:.3f} here"):
        refuse_mismatch(wrong, measured)


def test_a_top_k_dictionary_is_not_counted_with_before_its_explained_variance_is_known():
    dictionary = planted_top_k(published_l0=24.0)
    measured = explained(dictionary, VECTORS + 3)
    with pytest.raises(RunError, match=r"whatever it reads.*give --expected-explained-variance"):
        refuse_mismatch(dictionary, measured)
    refuse_mismatch(dictionary, measured, None, measured.explained_variance)
    with pytest.raises(RunError, match="of the variance unexplained but leaves"):
        refuse_mismatch(dictionary, measured, None, measured.explained_variance + 0.11)


def test_whatever_is_published_a_dictionary_must_do_better_than_the_mean():
    dictionary = identity_dictionary(published_l0=explained(identity_dictionary(), VECTORS).l0)
    dictionary.sae.W_dec.data *= -1
    with pytest.raises(RunError, match="more than the mean alone would"):
        refuse_mismatch(dictionary, explained(dictionary, VECTORS))
