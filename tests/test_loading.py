"""From a name to a model: every alias, every way to fail, and text to tokens on tokenizers small enough to check by hand."""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import huggingface_hub
import pytest
import torch
from huggingface_hub.utils._http import default_client_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import ByT5Tokenizer, GenerationConfig, PreTrainedTokenizerFast

from interp.assets import ASSETS, fetch_asset
from interp.errors import ArgumentError, RunError, UserError
from interp.models import loading
from interp.models.encoding import (
    Piece,
    beginning,
    chat_frame,
    check_single_beginning,
    covering,
    encode_piece,
    stop_ids,
)
from interp.models.loading import converted_asset, load, look_up, pick_device, pick_dtype
from interp.models.registry import aliases, resolve
from tests.tiny_models import random_ids, tiny_hf

# ---------------------------------------------------------------------- tokenizers


CHAT = (
    "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MERGES = [tuple(pair.split("+")) for pair in "n+d a+nd h+e _+t _t+he c+a ca+t _+cat _+and".split()]


def vocabulary(alphabet: list[str], merges: list[tuple[str, ...]]) -> dict[str, int]:
    tokens = ["<unk>", "<s>", "</s>", *alphabet, *map("".join, merges)]
    return {token: id for id, token in enumerate(dict.fromkeys(tokens))}


@cache
def byte_level(**special: str) -> Any:
    """A tokenizer like GPT-2's: a space is part of the word after it, any character is bytes; adds nothing by itself."""
    merges = [(a.replace("_", "Ġ"), b) for a, b in MERGES] + [("Ċ", "Ċ"), (".", "Ċ")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary(alphabet, merges), merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    extra = ["<|user|>", "<|end|>", "<|assistant|>"]
    special = special or dict(bos_token="<s>", eos_token="</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, extra_special_tokens=extra, **special)


@cache
def llama_like() -> Any:
    """A tokenizer like Llama 2's: puts a space before any text, keeps bytes for what it does not know, adds <s>."""
    merges = [(a.replace("_", "▁"), b) for a, b in [*MERGES, ("_", "a")]]
    alphabet = [f"<0x{byte:02X}>" for byte in range(256)] + list("▁abcdefghijklmnopqrstuvwxyz.")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary(alphabet, merges), merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@cache
def word_level() -> Any:
    """97 words, one token each, and no special token."""
    tokenizer = Tokenizer(models.WordLevel({f"w{id}": id for id in range(97)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHAT)


# ---------------------------------------------------------------------- names


def test_the_promised_aliases_exist_and_every_alias_resolves():
    promised = """smollm2-135m gpt2 pythia-70m pythia-160m pythia-410m pythia-1b pythia-1.4b pythia-2.8b pythia-6.9b pythia-12b
        llama2-7b llama2-13b llama3-8b llama3.1-8b-instruct mistral-7b mixtral-8x7b qwen1.5-14b qwen2.5-7b qwen3-8b gemma2-2b
        gemma2-9b yi-6b-200k""".split()
    assert set(promised) <= set(aliases())
    for name in aliases():
        entry = resolve(name)
        assert entry.name == name
        asset = entry.source.removeprefix("asset:")
        assert (asset in ASSETS) if asset != entry.source else entry.source.count("/") == 1
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


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
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
}


@pytest.mark.parametrize(("spoil", "words"), UNFIT.values(), ids=UNFIT)
def test_an_unfit_folder_is_refused_in_one_sentence(folder, spoil, words):
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        load(str(folder))
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


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


# ---------------------------------------------------------------------- the hub

MODEL = "someone/delegated-401m"  # a name with the words of another refusal in it
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], None]]:
    """Stands in for the model hub: every request of the real client goes to the function given. Retries do not wait."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def answer_with(answer: Answer) -> None:
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(answer)))

    yield answer_with
    huggingface_hub.set_client_factory(default_client_factory)


def refusing(status: int, code: str | None = None) -> Answer:
    headers = {"X-Error-Code": code} if code else {}
    return lambda request: httpx2.Response(status, headers=headers, request=request)


def breaking(error: Exception) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise error

    return answer


def serving(folder: Path) -> Answer:
    def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if "/api/models/" in path and "/tree/" not in path:
            return httpx2.Response(200, json={"id": MODEL, "sha": COMMIT, "siblings": []}, request=request)
        file = folder / Path(path).name
        if not file.is_file():
            return refusing(404, "EntryNotFound")(request)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{file.name}"', "Content-Length": str(file.stat().st_size)}
        content = file.read_bytes() if request.method == "GET" else b""
        return httpx2.Response(200, headers=headers, content=content, request=request)

    return answer


UNREACHABLE = (RunError, "is not on this machine and the model hub cannot be reached: connect to it, or pass --model")
GATED = (RunError, "is gated: accept its licence on its hub page and set HF_TOKEN")
UNKNOWN = (ArgumentError, f"^The hub has no model {MODEL}: check the spelling, or set HF_TOKEN if it is private")
NO_REVISION = (ArgumentError, "has no revision step7: its hub page lists branches and tags")
HUB: dict[str, tuple[Answer, tuple[type[UserError], str]]] = {
    "gated, signed in": (refusing(403, "GatedRepo"), GATED),
    "gated, not signed in": (refusing(401, "GatedRepo"), GATED),
    "no such model, signed in": (refusing(404, "RepoNotFound"), UNKNOWN),
    "no such model, not signed in": (refusing(401), UNKNOWN),
    "no such revision": (refusing(404, "RevisionNotFound"), NO_REVISION),
    "no connection": (breaking(httpx2.ConnectError("Name or service not known")), UNREACHABLE),
    "a proxy in the way": (breaking(httpx2.ProxyError("403 Forbidden")), UNREACHABLE),
    "out of order": (refusing(503), UNREACHABLE),
}


@pytest.mark.parametrize(("answer", "expected"), HUB.values(), ids=HUB)
def test_what_the_hub_says_no_with_becomes_one_sentence(hub, answer, expected):
    hub(answer)
    kind, words = expected
    with pytest.raises(UserError, match=words) as caught:
        look_up(MODEL, revision="step7")
    assert type(caught.value) is kind
    assert MODEL in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_without_a_hub_the_sentence_names_the_model_that_needs_none(hub, monkeypatch):
    hub(breaking(AssertionError("the hub was asked")))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match=f"^{MODEL} {UNREACHABLE[1]}.*--model smollm2-135m, which needs no hub"):
        load(MODEL)


@pytest.mark.parametrize("revision", [None, "step7", COMMIT])
def test_a_hub_model_is_named_by_its_commit_online_and_later_offline(hub, saved, monkeypatch, revision):
    hub(serving(saved))
    identity = load(MODEL, revision=revision).identity
    assert (identity.name, identity.source, identity.revision) == ("someone--delegated-401m", MODEL, COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub(breaking(AssertionError("the hub was asked")))
    assert look_up(MODEL, revision=revision).identity == identity


# ---------------------------------------------------------------------- conversion


def test_a_conversion_that_fails_leaves_nothing_and_one_that_succeeds_is_the_last(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path))
    monkeypatch.setattr(loading, "fetch_asset", lambda asset: tmp_path / "tiny.gguf")
    conversions = []

    def weights(*_, **__):
        conversions.append("weights")
        return tiny_hf("llama")

    def tokenizer(*_, **__):
        if len(conversions) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return word_level()

    monkeypatch.setattr(loading, "AutoModelForCausalLM", SimpleNamespace(from_pretrained=weights))
    monkeypatch.setattr(loading, "AutoTokenizer", SimpleNamespace(from_pretrained=tokenizer))
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
    monkeypatch.setattr(loading, "_convert", lambda *_: pytest.fail("converted twice"))
    assert converted_asset("smollm2-135m") == folder
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(fetch_asset(ASSETS["smollm2-135m"])).tensors}
    with safe_open(folder / "model.safetensors", framework="np") as weights:
        for theirs, ours in {"ffn_down": "mlp.down_proj", "ffn_norm": "post_attention_layernorm"}.items():
            source = tensors[f"blk.7.{theirs}.weight"]
            converted = weights.get_tensor(f"model.layers.7.{ours}.weight")
            assert converted.dtype == "float32"
            assert (converted == gguf.dequantize(source.data, source.tensor_type)).all()
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    assert sum(map(math.prod, shapes)) == sum(math.prod(map(int, tensor.shape)) for tensor in tensors.values())


# ---------------------------------------------------------------------- text to tokens


@pytest.mark.parametrize(
    ("tokenizer", "text", "tokens", "offsets"),
    [
        (byte_level, " the cat", ["Ġthe", "Ġcat"], [(0, 4), (4, 8)]),
        (byte_level, "nd the", ["nd", "Ġthe"], [(0, 2), (2, 6)]),  # the anchor would have made it "and"
        (byte_level, ".\n\n", [".", "ĊĊ"], [(0, 1), (1, 3)]),
        (byte_level, "é b", ["Ã", "©", "Ġ", "b"], [(0, 1), (0, 1), (1, 2), (2, 3)]),
        (llama_like, " the cat", ["▁the", "▁cat"], [(0, 4), (4, 8)]),
        (llama_like, "the cat", ["t", "he", "▁cat"], [(0, 1), (1, 3), (3, 7)]),  # a tokenizer alone begins with ▁the
        (llama_like, "nd the", ["nd", "▁the"], [(0, 2), (2, 6)]),
        (llama_like, "\né", ["<0x0A>", "<0xC3>", "<0xA9>"], [(0, 1), (1, 2), (1, 2)]),
        (word_level, " w5 w6", ["w5", "w6"], [(1, 3), (4, 6)]),
        (llama_like, "", [], []),
    ],
)
def test_a_piece_is_tokens_without_an_invented_space_and_the_characters_they_cover(tokenizer, text, tokens, offsets):
    piece = encode_piece(tokenizer(), text)
    assert (tokenizer().convert_ids_to_tokens(piece.ids), piece.offsets) == (tokens, offsets)


@pytest.mark.parametrize("tokenizer", [byte_level, llama_like])
@settings(deadline=None)
@given(text=st.text(alphabet="andthec .\né😀", max_size=12))
def test_a_text_and_the_piece_that_continues_it_read_as_written_together(tokenizer, text):
    piece = encode_piece(tokenizer(), text)
    start = tokenizer()("the cat", add_special_tokens=False)["input_ids"]
    assert tokenizer().decode(start + piece.ids) == "the cat" + text
    assert {place for span in piece.offsets for place in range(*span)} == set(range(len(text)))


def test_a_tokenizer_without_offsets_is_refused():
    with pytest.raises(UserError, match="ByT5Tokenizer does not report character offsets: use the model's fast"):
        encode_piece(ByT5Tokenizer(), "text")


@pytest.mark.parametrize(
    ("characters", "tokens"),
    [((0, 4), (0, 1)), ((2, 6), (0, 2)), ((5, 6), (1, 2)), ((8, 9), (2, 4)), ((9, 10), (4, 5)), ((0, 10), (0, 5))],
)
def test_characters_are_covered_by_every_token_that_touches_them(characters, tokens):
    # "1234 678é0" with a space that no token covers and a letter of two tokens
    piece = Piece([11, 12, 13, 14, 15], [(0, 4), (5, 8), (8, 9), (8, 9), (9, 10)])
    assert covering(piece, *characters) == tokens


@pytest.mark.parametrize("characters", [(4, 5), (10, 12)])
def test_characters_that_no_token_covers_are_named(characters):
    piece = Piece([11, 12], [(0, 4), (5, 10)])
    with pytest.raises(ValueError, match="no token covers characters {} to {}".format(*characters)):
        covering(piece, *characters)


@pytest.mark.parametrize(
    ("tokenizer", "auto", "always"), [(llama_like, [1], [1]), (byte_level, [], [1]), (word_level, [], None)]
)
def test_a_text_begins_as_the_policy_says(tokenizer, auto, always):
    assert beginning(tokenizer(), "auto") == auto
    assert beginning(tokenizer(), "never") == []
    if always is None:
        with pytest.raises(ArgumentError, match="has no beginning-of-sequence token: use --bos auto or never"):
            beginning(tokenizer(), "always")
    else:
        assert beginning(tokenizer(), "always") == always


def test_two_beginnings_are_refused_and_one_is_not():
    for ids in ([1, 1], [1, 1, 9]):
        with pytest.raises(UserError, match="The prompt of tiny begins with two beginning-of-sequence tokens"):
            check_single_beginning(llama_like(), ids, "tiny")
    for ids in ([], [1], [1, 9, 1, 1], [9, 9]):
        check_single_beginning(llama_like(), ids, "tiny")
    check_single_beginning(word_level(), [9, 9], "tiny")


# ---------------------------------------------------------------------- chat


def chatty(template: str | None) -> Any:
    tokenizer = byte_level(bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [CHAT, "{{ bos_token }}[INST] {{ messages[0]['content'] | trim }} [/INST]"])
def test_a_chat_frame_around_a_context_is_the_whole_message_encoded_at_once(template):
    tokenizer = chatty(template)
    before, context, after = "Read this:\n", "The cat and the hand.", "\nWhat is in it?"
    head, tail = chat_frame(tokenizer, before, after, "tiny")
    message = [{"role": "user", "content": before + context + after}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [*head, *encode_piece(tokenizer, context).ids, *tail] == whole
    if template == CHAT:
        assert head[0] == tokenizer.convert_tokens_to_ids("<|user|>")
        assert tokenizer.convert_ids_to_tokens(tail)[-4:] == ["<|end|>", "Ċ", "<|assistant|>", "Ċ"]
    else:
        assert head[:1] == [1]


@pytest.mark.parametrize(
    ("template", "kind", "words"),
    [
        (None, ArgumentError, "tiny has no chat template: use --prompt-format plain"),
        ("Hello.", UserError, "does not keep a message as it is: use --prompt-format plain"),
        ("{{ messages[0]['content'] }} Again: {{ messages[0]['content'] }}", UserError, "does not keep a message"),
        ("{{ messages[0]['content'] | upper }}", UserError, "does not keep a message"),
        ("{{ bos_token }}{{ bos_token }}{{ messages[0]['content'] }}", UserError, "two beginning-of-sequence tokens"),
    ],
)
def test_a_template_that_cannot_frame_a_context_is_refused(template, kind, words):
    with pytest.raises(UserError, match=words) as caught:
        chat_frame(chatty(template), "Read: ", "", "tiny")
    assert type(caught.value) is kind


# ---------------------------------------------------------------------- the end of an answer


def test_an_answer_ends_at_the_models_ends_and_if_asked_at_any_line_break():
    tokenizer = byte_level()
    breaks = tokenizer.convert_tokens_to_ids(["Ċ", "ĊĊ", ".Ċ"])
    assert stop_ids(tokenizer, None, at_newline=False) == [2]
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=[7, 5]), at_newline=False) == [2, 5, 7]
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=5), at_newline=True) == sorted([2, 5, *breaks])
    assert stop_ids(llama_like(), None, at_newline=True) == [2, 3 + 0x0A]  # <0x00> is token 3
    assert stop_ids(word_level(), None, at_newline=True) == []
