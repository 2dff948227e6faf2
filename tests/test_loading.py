"""From a name or a folder to a model: every alias, and every way to fail."""

import copy
import errno
import json
import math
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from interp import assets
from interp.assets import ASSETS, fetch_asset, file_sha256
from interp.errors import ArgumentError, RunError, UserError
from interp.models.language.architecture import context_window
from interp.models.loading import converted
from interp.models.loading import language as loading
from interp.models.loading.converted import converted_asset
from interp.models.loading.language import load, look_up, pick_device, pick_dtype
from interp.models.loading.names import aliases, resolve
from tests.tiny_models import random_ids, tiny_hf
from tests.tiny_tokenizers import byte_level, word_level

# ---------------------------------------------------------------------- names


def test_the_promised_aliases_exist_and_every_alias_resolves():
    promised = """smollm2-135m gpt2 pythia-70m pythia-160m pythia-410m pythia-1b pythia-1.4b pythia-2.8b pythia-6.9b pythia-12b
        llama2-7b llama2-13b llama3-8b llama3.1-8b-instruct mistral-7b mixtral-8x7b qwen1.5-14b qwen2.5-7b qwen3-8b gemma2-2b
        gemma2-9b yi-6b-200k""".split()
    assert set(promised) <= set(aliases())
    for name in aliases():
        entry = resolve(name)
        assert entry.name == name
        kind, colon, rest = entry.source.partition(":")
        assert {"asset": rest in ASSETS, "trained": rest == name}[kind] if colon else kind.count("/") == 1
        assert entry.notes
    assert resolve("smollm2-135m").source == "asset:smollm2-135m"
    assert resolve("pythia-70m", "step0").revision == "step0"
    hub = resolve("someone/some-model", "v2")
    assert (hub.name, hub.source, hub.revision) == ("someone--some-model", "someone/some-model", "v2")


@pytest.mark.parametrize(
    ("name", "near"), [("smolm2-135m", "smollm2-135m"), ("lama2-7b", "llama2-7b"), ("gpt-2", "gpt2"), ("zzzz", None)]
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name, near):
    with pytest.raises(ArgumentError) as caught:
        resolve(name)
    sentence = str(caught.value)
    assert sentence.startswith(f"There is no model or folder named {name}.")
    assert (f" Did you mean {near}?" in sentence) if near else ("Did you mean" not in sentence)
    assert "`python -m interp.experiments models` lists the names" in sentence


# ---------------------------------------------------------------------- folders


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "tiny-llama"
    tiny_hf("llama").save_pretrained(folder)
    word_level().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "tiny-llama"))


def test_a_saved_folder_loads_with_the_weights_and_tokenizer_it_was_saved_with(saved):
    ids = random_ids(30)
    model = load(str(saved))
    with torch.no_grad():
        wanted = tiny_hf("llama", attention="eager")(torch.tensor([ids])).logits
    torch.testing.assert_close(model.extend(model.prefix(), [ids], logits="all"), wanted, atol=1e-4, rtol=0)
    assert model.tokenizer("w5 w96")["input_ids"] == [5, 96]
    assert model.identity == look_up(str(saved)).identity
    assert (model.identity.name, model.identity.dtype, model.hf.dtype) == ("tiny-llama", "float32", torch.float32)
    assert load(str(saved), dtype="bfloat16").hf.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_folder_is_another_model_when_a_file_that_matters_changes(saved, folder, name):
    before = look_up(str(saved)).identity.revision
    (folder / "README.md").write_text("words about the model")
    assert look_up(str(folder)).identity.revision == before  # a copy elsewhere is the same model
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if name.endswith("s") else content + b"\n")
    assert look_up(str(folder)).identity.revision != before


def configure(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return change


def cut_weights(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size // 2)


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {
        "model.norm.weight": "model-00001-of-00002.safetensors",
        "lm_head.weight": "model-00002-of-00002.safetensors",
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))


def lose_the_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def pickled_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def quantised(method: str) -> Callable[[Path], None]:
    return configure(quantization_config={"quant_method": method, "bits": 4, "group_size": 128})


def rotary(kind: str) -> Callable[[Path], None]:
    return configure(rope_parameters={"rope_type": kind, "rope_theta": 1e4, "factor": 2.0})


def add_token(**special: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tokenizer = copy.deepcopy(word_level())
        tokenizer.add_special_tokens(special) if special else tokenizer.add_tokens(["<extra>"])
        tokenizer.save_pretrained(folder)

    return change


UNFIT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "has no config.json: name a folder"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"has no \.safetensors weights"),
    "pickled weights only": (pickled_only, r"pickled \.bin files are not read"),
    "configuration cut off": (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
    "unknown architecture": (configure(model_type="nosuch"), "nosuch"),
    "no causal language model": (configure(model_type="t5"), "T5Config"),
    "no tokenizer": (lose_the_tokenizer, "tokenizer"),
    "weights cut off": (cut_weights, "cannot be loaded|damaged|incomplete"),
    "weights of other shapes": (configure(hidden_size=32), "cannot be loaded|shape|size"),
    "weights lost": (configure(num_hidden_layers=4), "missing|lack|without"),
    "a shard lost": (lose_a_shard, r"model-00002-of-00002\.safetensors"),
    "GPTQ": (quantised("gptq"), r"holds quantised weights \(gptq\) that cannot be read here .*in full precision\.$"),
    "AWQ": (quantised("awq"), r"holds quantised weights \(awq\)"),
    "bitsandbytes": (
        configure(quantization_config={"load_in_4bit": True}),
        r"holds quantised weights \(bitsandbytes\)",
    ),
    "quantised somehow": (quantised("nosuch"), r"\(nosuch\) that cannot be read here \(transformers does not know"),
    "unknown rotary embedding": (rotary("zigzag"), r"kind that transformers does not know \(zigzag\): write default,"),
    "rotary embedding under an old name": (rotary("su"), r"\(su\): .*\(su is longrope\)"),
    "encoder": (configure(model_type="bert"), r"reads in both directions \(is_decoder: false in its config.json\)"),
    "no language model": (configure(model_type="vit"), "is a vit model .*name a causal language model, such as gpt2"),
    "not causal": (configure(is_causal=False), r"reads in both directions \(is_causal: false in its config.json\)"),
    "both ways": (
        configure(model_type="gemma", head_dim=16, use_bidirectional_attention=True),
        r"reads in both directions \(use_bidirectional_attention: true in",
    ),
    "heads that do not divide": (configure(num_attention_heads=5), r"cannot be loaded \(.*hidden size.*5\)"),
    "code of its own": (
        configure(model_type="odd", auto_map={"AutoConfig": "odd.Odd"}),
        "runs on code of its own .*name a model whose architecture transformers has",
    ),
    "tokenizer of another model": (
        lambda folder: byte_level().save_pretrained(folder),
        r"has a tokenizer of another model: it produces ids up to \d+ and the embedding has 97 rows",
    ),
    "end token beyond the embedding": (
        add_token(eos_token="<end>"),
        r"eos_token <end> \(id 97\) is beyond the embedding's 97 rows: call model.resize_token_embeddings",
    ),
}
if find_spec("bitsandbytes") is not None:
    del UNFIT["bitsandbytes"]


@pytest.mark.parametrize(("spoil", "words"), UNFIT.values(), ids=UNFIT)
def test_an_unfit_folder_is_refused_in_one_sentence(folder, spoil, words):
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        load(str(folder))
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_a_token_that_the_model_has_no_row_for_is_refused_where_it_is_read(folder):
    add_token()(folder)
    model = load(str(folder))
    ids = model.tokenizer("w5 w6 <extra> w7")["input_ids"]
    assert model.surprisal([[5, 6, 7]]).shape == (1, 3)
    with pytest.raises(
        UserError, match=r"^The text has the token <extra> \(id 97\), and the embedding of tiny-llama has 97 rows: "
    ):
        model.surprisal([ids])


def test_a_folder_is_read_once_for_its_sha256_until_a_file_changes(folder, monkeypatch):
    read = []
    monkeypatch.setattr(assets, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    first = loading.folder_sha256(folder)
    n_files = len(read)
    assert loading.folder_sha256(folder) == first
    assert len(read) == n_files
    configure(max_position_embeddings=99)(folder)
    assert loading.folder_sha256(folder) != first
    assert len(read) == n_files + 1


STRETCHED = {
    "none": (dict(rope_type="default"), 512),
    "YaRN, as trained": (dict(rope_type="yarn", factor=4.0), 2048),
    "YaRN, both lengths": (dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=512), 2048),
    "YaRN, stated": (dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128), 512),
    "dynamic": (dict(rope_type="dynamic", factor=4.0), 2048),
    "linear": (dict(rope_type="linear", factor=4.0), 2048),
    "Llama 3": (
        dict(
            rope_type="llama3",
            factor=4.0,
            original_max_position_embeddings=128,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
        ),
        512,
    ),
    "LongRoPE": (
        dict(rope_type="longrope", short_factor=[1.0] * 8, long_factor=[2.0] * 8, original_max_position_embeddings=128),
        512,
    ),
}


@pytest.mark.parametrize(("rope", "window"), STRETCHED.values(), ids=STRETCHED)
def test_the_context_window_is_what_the_rotary_embedding_was_stretched_to(rope, window):
    config = tiny_hf("llama", max_position_embeddings=512, rope_parameters={"rope_theta": 1e4, **rope}).config
    assert context_window(config) == window


def test_layers_with_scalings_of_their_own_state_the_window():
    layers = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert context_window(tiny_hf("gemma3_text", rope_parameters=layers).config) == 256


def test_code_in_a_models_folder_is_not_run_and_nobody_is_asked_to(folder, tmp_path, monkeypatch):
    configure(model_type="odd", auto_map={"AutoConfig": "odd.Odd", "AutoModelForCausalLM": "odd.Model"})(folder)
    (folder / "odd.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Odd(LlamaConfig):\n    model_type = 'odd'\nclass Model(LlamaForCausalLM):\n    config_class = Odd\n"
    )
    asked = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    with pytest.raises(UserError):
        load(str(folder))
    assert not asked
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------- device and precision


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:", "", "CPU"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(
        ArgumentError, match=f"There is no device called {device}: use --device auto, cpu, cuda, cuda:N"
    ):
        pick_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused_before_anything_is_loaded(saved, device):
    with pytest.raises(ArgumentError, match=f"This machine has no {device}: use --device cpu, or auto"):
        load(str(saved), device=device)


@pytest.mark.parametrize(
    ("dtype", "device", "picked"),
    [
        ("auto", "cpu", "float32"),
        ("auto", "cpu:0", "float32"),
        ("auto", "cuda:1", "bfloat16"),
        ("float16", "cpu", "float16"),
    ],
)
def test_precision_follows_the_device_unless_it_is_named(dtype, device, picked):
    assert pick_dtype(dtype, device) == picked


@pytest.mark.parametrize("dtype", ["fp16", "int8", "Float32"])
def test_an_unknown_precision_is_refused(saved, dtype):
    with pytest.raises(ArgumentError, match=f"There is no precision called {dtype}: use --dtype auto, float32"):
        load(str(saved), dtype=dtype)


def test_a_model_too_large_for_the_device_says_what_to_try(saved, monkeypatch):
    def to(*_, **__):
        raise torch.OutOfMemoryError("Tried to allocate 26 GiB.\nSee the documentation")

    monkeypatch.setattr("transformers.PreTrainedModel.to", to)
    with pytest.raises(RunError, match=r"tiny-llama does not fit on the device \(Tried .* GiB\): try --dtype bfloat16"):
        load(str(saved))


# ---------------------------------------------------------------------- conversion


def test_a_conversion_that_fails_leaves_nothing_and_one_that_succeeds_is_the_last(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    monkeypatch.setattr(converted, "fetch_asset", lambda asset: tmp_path / "tiny.gguf")
    conversions = []

    def weights(*_, **__):
        conversions.append("weights")
        return tiny_hf("llama")

    def tokenizer(*_, **__):
        if len(conversions) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return word_level()

    monkeypatch.setattr(converted, "AutoModelForCausalLM", SimpleNamespace(from_pretrained=weights))
    monkeypatch.setattr(converted, "AutoTokenizer", SimpleNamespace(from_pretrained=tokenizer))
    with pytest.raises(RunError, match=r"cannot be written to .*No space left on device.*set INTERP_CACHE to a folder"):
        converted_asset("smollm2-135m")
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".lock"]
    folder = converted_asset("smollm2-135m")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert converted_asset("smollm2-135m") == folder
    assert len(conversions) == 2


@pytest.mark.real
def test_the_default_model_is_its_gguf_in_float32_and_is_converted_once(monkeypatch):
    import gguf
    from safetensors import safe_open

    folder = converted_asset("smollm2-135m")
    monkeypatch.setattr(converted, "_convert", lambda *_: pytest.fail("converted twice"))
    assert converted_asset("smollm2-135m") == folder
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(fetch_asset(ASSETS["smollm2-135m"])).tensors}
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        for theirs, ours in {"ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm"}.items():
            source = tensors[f"blk.7.{theirs}.weight"]
            expanded = weights.get_tensor(f"model.layers.7.{ours}.weight")
            assert expanded.dtype == "float32"
            assert (expanded == gguf.dequantize(source.data, source.tensor_type)).all()
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    assert sum(map(math.prod, shapes)) == sum(math.prod(map(int, tensor.shape)) for tensor in tensors.values())
