"""Texts of every script as tokens, states of families of every kind, and what is written into the slot."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from interp.errors import ArgumentError, RunError
from interp.models.encoder import Encoder, load_encoder
from interp.models.language.residuals import layer_modules
from probes.sequence_representation.prepending import donated, prompted, read_arm
from probes.sequence_representation.readers import EncoderReader, ModelReader, some_layers
from tests.script_texts import SCRIPTS
from tests.script_tokenizers import EXACT, KINDS, byte_bpe, word_piece
from tests.tiny_models import tiny

TEXTS = ["The old bridge stood near the river.", "Кто же открыл его снова?", "A boy"]
FAMILIES = ["llama", "gemma3_text", "gpt2", "gpt_neox", "bamba", "mamba"]


def model_of(family: str, tokenizer=byte_bpe, **changes):  # type: ignore[no-untyped-def]
    own = {"num_hidden_layers": 3, "hidden_size": 32, "state_size": 4} if family == "mamba" else {}
    return tiny(family, tokenizer=tokenizer(), vocab_size=len(tokenizer()), **own, **changes)


def tiny_encoder() -> Encoder:
    tokenizer = word_piece()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=128,
    )  # fmt: skip
    return Encoder(BertModel(config), tokenizer, "tiny-bert")


@pytest.mark.parametrize("tokenizer", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_text_of_any_script_keeps_its_tokens_in_the_prompt(script: str, tokenizer) -> None:  # type: ignore[no-untyped-def]
    reader = ModelReader(model_of("gpt2", tokenizer, n_positions=2048))
    text = SCRIPTS[script].sentences[0]
    found = prompted(reader, text, "slot")
    inside = reader.model.tokenizer.decode([found.read.ids[place] for place in found.read.own])
    if tokenizer in EXACT:
        assert text in inside  # a tokenizer may join a letter with the quotation mark
        assert len(inside) <= len(text) + 6
    assert found.slot is not None
    assert found.slot < min(found.read.own)
    without = prompted(reader, text, "prompt").read.ids
    assert without == found.read.ids[: found.slot] + found.read.ids[found.slot + 1 :]
    twice = prompted(reader, text, "echo").read
    assert min(twice.own) > len(found.read.own)
    assert reader.encode(text).own


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_slot_holds_the_last_state_at_the_input_of_the_layers_in_every_family(family: str, dtype) -> None:  # type: ignore[no-untyped-def]
    model = model_of(family)
    model.hf.to(dtype)
    reader = ModelReader(model)
    together = list(read_arm(reader, TEXTS, "prepend", start=1, exit=3, seed=[0]))
    untouched = list(read_arm(reader, TEXTS, "slot", start=1, exit=3, seed=[0]))
    near = 1e-4 if dtype == torch.float32 else 0.1
    for (row, states), (_, plain) in zip(together, untouched, strict=True):
        alone = by_pre_hooks(model, row.read.ids, row.slot)
        scale = np.abs(alone).max()
        assert np.abs(states - alone).max() < near * scale
        assert np.array_equal(states[0], plain[0]) or row.slot is not None
        assert (
            np.abs(states[:, : row.slot] - plain[:, : row.slot]).max() < near * scale
        )  # what stands before sees nothing
        assert np.abs(states[-1, -1] - plain[-1, -1]).max() > 0
        assert np.allclose(states[0, row.slot], states[0, -1])  # what layer 1 is given


def by_pre_hooks(model, ids, slot):  # type: ignore[no-untyped-def]
    """The same, one text at a time, written at the inputs of layers 1 and 2 and read at the inputs behind."""
    seen = []

    def write(_, args, kwargs):  # type: ignore[no-untyped-def]
        stream = (args[0] if args else kwargs["hidden_states"]).clone()
        stream[0, slot] = stream[0, -1]
        return ((stream, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": stream})

    def keep(_, __, output):  # type: ignore[no-untyped-def]
        seen.append((output[0] if isinstance(output, tuple) else output)[0].float().clone())

    with ExitStack() as stack, torch.inference_mode():
        for number, layer in enumerate(layer_modules(model)):
            if number in (1, 2):
                stack.callback(layer.register_forward_pre_hook(write, with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(keep).remove)
        model.hf(input_ids=torch.tensor([ids]), use_cache=False)
    found = torch.stack(seen).numpy()
    for number in (1, 2):  # the stream after a layer is what the next one is given
        found[number - 1, slot] = found[number - 1, -1]
    return found


def test_controls_write_what_they_say() -> None:
    last = torch.randn(6, 8) * torch.arange(1, 7)[:, None]
    assert torch.equal(donated("other", last, [0]), last[[3, 4, 5, 0, 1, 2]])
    assert torch.allclose(donated("mean", last, [0])[2], last.mean(dim=0))
    noise = donated("random", last, [0])
    assert torch.allclose(noise.norm(dim=1), last.norm(dim=1), rtol=1e-4)
    assert not torch.allclose(noise, donated("random", last, [1]))
    reader = ModelReader(model_of("llama"))
    given = [states for _, states in read_arm(reader, TEXTS, "other", start=1, exit=2, seed=[0])]
    plain = [states for _, states in read_arm(reader, TEXTS, "slot", start=1, exit=2, seed=[0])]
    slot = prompted(reader, TEXTS[0], "slot").slot
    for number in range(3):
        assert np.allclose(given[number][0, slot], plain[(number - 1) % 3][0, -1], atol=1e-5)


def test_an_encoder_reads_a_text_in_a_batch_as_alone() -> None:
    reader = EncoderReader(tiny_encoder())
    rows = [reader.encode(text) for text in TEXTS]
    for row, states in zip(rows, reader.states(rows, range(3)), strict=True):
        alone = reader.encoder.hf(torch.tensor([row.ids]), output_hidden_states=True).hidden_states[1:]
        assert np.allclose(states, torch.stack(alone)[:, 0].detach(), atol=1e-5)
        assert all(0 <= place < len(row.ids) for place in row.own)
    assert reader.encode("日 ☃ a").unread_characters > 0
    assert "[SEP]" not in reader.tokens(reader.encode("a [SEP] b").ids[1:-1])


def test_what_cannot_be_read_is_refused_in_a_sentence(tmp_path) -> None:  # type: ignore[no-untyped-def]
    reader = ModelReader(model_of("llama"))
    with pytest.raises(ArgumentError, match="reads 256: shorten the text"):
        reader.encode("river " * 400)
    with pytest.raises(ArgumentError, match="reads 128: shorten the text"):
        EncoderReader(tiny_encoder()).encode("river " * 400)
    with pytest.raises(ArgumentError, match="makes no token"):
        reader.encode("")
    with pytest.raises(ArgumentError, match="has 3 layers"):
        list(read_arm(reader, TEXTS, "prepend", start=1, exit=9, seed=[0]))
    with pytest.raises(ArgumentError, match=r"no encoder named all-minilm-l6, .*Did you mean"):
        load_encoder("all-minilm-l6")
    reader.model.hf.save_pretrained(tmp_path / "decoder")
    with pytest.raises(ArgumentError, match="does not read in both directions"):
        load_encoder(str(tmp_path / "decoder"))
    tiny_encoder().hf.save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError, match="cannot be loaded as an encoder"):
        load_encoder(str(tmp_path / "bare"))


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert some_layers(30, 4) == [0, 10, 19, 29]
    assert some_layers(3, 7) == [0, 1, 2]
