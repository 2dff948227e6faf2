"""Calls of `model.hf` by others: caches of every kind, padding, generation; right against eager attention, or refused."""

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache

from interp.errors import UserError
from interp.models.language.attention_function import attend
from interp.models.language.recording import HeadOutputs, TopKeys, Weights
from interp.models.language.residuals import read_residuals
from tests.reading import close
from tests.tiny_models import random_ids, tiny, tiny_hf

N, NEW = 30, 8
IDS = random_ids(N)
GREEDY: dict[str, Any] = dict(max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0)
LOGITS: dict[str, Any] = dict(return_dict_in_generate=True, output_logits=True)
CACHED = {
    "dynamic": {},
    "static": {"cache_implementation": "static"},
    "no cache": {"use_cache": False},
    "chunks": {"prefill_chunk_size": 7},
}
TOLD = [name for name in CACHED if name != "no cache"]
FAMILIES = ["llama", "mistral", "gemma2", "gpt2"]
UNTIED: dict[str, Any] = dict(tie_word_embeddings=False)
"""A random model whose head is its embedding writes its last token over and over, whatever its heads do."""


def generate(hf: Any, ids: list[int], **options: Any) -> list[int]:
    tokens = torch.tensor([ids])
    return hf.generate(tokens, attention_mask=torch.ones_like(tokens), **GREEDY, **options)[0].tolist()


def eager_reading(family: str, ids: list[int]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        output = tiny_hf(family, attention="eager", **UNTIED)(torch.tensor([ids]), output_attentions=True)
    return output.logits[0], torch.stack(output.attentions)[:, 0]


@pytest.mark.parametrize("how", CACHED)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_recording_of_a_generation_equals_eager_attention_to_the_written_text(family, how):
    model = tiny(family, **UNTIED)
    every = torch.arange(N + NEW - 1)[None]
    with model.record(every, Weights(N + NEW), TopKeys(1)) as recording:
        written = generate(model.hf, IDS, **CACHED[how])
    _, eager = eager_reading(family, written[:-1])
    close(recording["weights"][:, 0, :, :, :-1], eager, 2e-5)
    assert len(set(written[N:])) > 1
    assert (recording["top_position"][:, 0, ..., 0] == recording["weights"][:, 0].argmax(dim=-1)).all()


@pytest.mark.parametrize("how", TOLD)
@pytest.mark.parametrize("family", FAMILIES)
def test_phases_of_a_generation_are_the_prompt_and_the_new_tokens(family, how):
    """The prompt is prefill and each new token decode, as when the two are read by hand, the prompt in one pass."""
    model = tiny(family, **UNTIED)
    heads = [(layer, head) for layer in range(3) for head in range(3)]
    tokens = torch.tensor([IDS])

    def by_hand(phase: str) -> tuple[list[int], Tensor]:
        prefix, text, steps = model.prefix(), list(IDS), []
        with model.edit_heads(heads, "zero", phase=phase):
            logits = model.extend(prefix, [IDS], phase="prefill")
            for _ in range(NEW):
                steps.append(logits[0, -1])
                text.append(int(steps[-1].argmax()))
                logits = model.extend(prefix, [text[-1:]], phase="decode")
        return text, torch.stack(steps)

    first, last = [], []
    for phase in ("prefill", "decode", "both"):
        with model.edit_heads(heads, "zero", phase=phase):
            written = model.hf.generate(
                tokens, attention_mask=torch.ones_like(tokens), **GREEDY, **CACHED[how], **LOGITS
            )
        text, steps = by_hand(phase)
        assert written.sequences[0].tolist() == text
        close(torch.cat(written.logits), steps)
        first.append(steps[0])
        last.append(steps[-1])
    assert not torch.allclose(first[0], first[1], atol=0.1)  # the prompt's last token: only prefill and both act there
    assert torch.equal(first[0], first[2])
    assert not torch.allclose(last[0], last[2], atol=0.1)


@pytest.mark.parametrize(
    ("options", "edit_phase"),
    [({"use_cache": False}, "decode"), ({"prompt_lookup_num_tokens": 3}, "prefill"), ({"assistant": True}, "decode")],
    ids=["no cache", "prompt lookup", "assistant"],
)
def test_a_generation_whose_phases_cannot_be_told_is_refused_before_it_reads(options, edit_phase):
    model = tiny("llama")
    if options.pop("assistant", False):
        options["assistant_model"] = tiny_hf("llama", seed=1)
    seen = []
    model.attention_modules[0].register_forward_hook(lambda *_: seen.append(1))
    with (
        model.edit_heads([(0, 0)], phase=edit_phase),
        pytest.raises(UserError, match="mixes the prompt and new tokens"),
    ):
        generate(model.hf, IDS[:9] * 2, **options)
    if "assistant_model" in options or "prompt_lookup_num_tokens" in options:
        with model.record(torch.tensor([[4]]), TopKeys(1)), pytest.raises(UserError, match="assisted decoding"):
            generate(model.hf, IDS[:9] * 2, **options)
    assert not seen


def test_beam_search_does_not_mix_rows_in_silence():
    model = tiny("llama")
    with model.record(torch.tensor([[4]]), TopKeys(1)), pytest.raises(UserError, match="Beam search"):
        generate(model.hf, IDS, num_beams=2)
    plain = generate(tiny("llama").hf, IDS, num_beams=2)
    with model.edit_heads([(0, 0), (1, 2)]):
        assert generate(model.hf, IDS, num_beams=2) != plain


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_passes_by_hand_on_a_cache_stand_where_the_cache_says(family, kind):
    model = tiny(family, **UNTIED)
    cache: Any = DynamicCache(config=model.hf.config)
    if kind == "static":
        cache = StaticCache(config=model.hf.config, max_cache_len=N)
    cuts = [0, 11, 12, 20, 29, 30]
    _, eager = eager_reading(family, IDS)
    with model.record(torch.arange(N)[None], Weights(N), HeadOutputs()) as recording, torch.no_grad():
        for begin, end in itertools.pairwise(cuts):
            model.hf(
                torch.tensor([IDS[begin:end]]),
                past_key_values=cache,
                attention_mask=torch.ones(1, end, dtype=torch.long),
            )
    close(recording["weights"][:, 0], eager, 2e-5)
    with model.record(torch.arange(N)[None], HeadOutputs()) as whole:
        model.prefix(IDS)
    close(recording["head_output"], whole["head_output"])
    with (
        model.block_attention([(1, 1)], keys=[14, 16], queries=[27]),
        model.record(torch.tensor([[27]]), Weights(N)) as one,
    ):
        model.prefix(IDS)
    cache.reset()
    with (
        model.block_attention([(1, 1)], keys=[14, 16], queries=[27]),
        model.record(torch.tensor([[27]]), Weights(N)) as two,
    ):
        for begin, end in itertools.pairwise(cuts):
            model.hf(
                torch.tensor([IDS[begin:end]]),
                past_key_values=cache,
                attention_mask=torch.ones(1, end, dtype=torch.long),
            )
    close(one["weights"], two["weights"], 2e-5)
    assert (two["weights"][1, 0, 1, 0, [14, 16]] == 0).all()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mistral", "falcon-alibi"])
def test_a_padded_batch_is_that_of_transformers_at_every_token_and_in_what_it_writes(family):
    """Gemma 2's soft-capped scores have no fused kernel in transformers: eager is what there is to equal."""
    other = tiny_hf(family, attention="eager" if family == "gemma2" else "sdpa", **UNTIED)
    model = tiny(family, **UNTIED)
    ids = torch.tensor([[0] * 20 + IDS[:10], IDS])
    mask = torch.tensor([[0] * 20 + [1] * 10, [1] * 30])
    with torch.no_grad():
        expected = other(ids, attention_mask=mask).logits
    with model.record(torch.arange(N)[None], Weights(N)) as recording, torch.no_grad():
        close(model.hf(ids, attention_mask=mask).logits, expected)
    assert recording["weights"].isfinite().all()
    assert (recording["weights"][:, 0, :, 20:, :20] == 0).all()
    written = model.hf.generate(ids, attention_mask=mask, **GREEDY)
    assert written.tolist() == other.generate(ids, attention_mask=mask, **GREEDY).tolist()
    with model.block_attention([(0, 0), (2, 1)], keys=[22]):
        blocked = model.hf(ids, attention_mask=mask).logits
    assert blocked.isfinite().all()


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", ["block_indices", "cu_seq_lens_q", "sinks", "cache", "never_heard_of"])
def test_an_argument_of_attention_that_is_not_computed_is_refused_by_name(name):
    model = tiny("llama")
    query, key = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 5, 16)
    options: Any = {name: torch.zeros(1, 4, 5, 5)}
    with pytest.raises(UserError, match=f"argument {name},"):
        attend(model.attention_modules[0], query, key, key, None, **options)
    output, _ = attend(
        model.attention_modules[0], query, key, key, None, **{name: None}, position_ids=torch.arange(5)[None]
    )
    assert output.shape == (1, 5, 4, 16)
    with pytest.raises(UserError, match="only causal models"):
        attend(model.attention_modules[0], query, key, key, None, is_causal=False)
    with pytest.raises(UserError, match=r"call eval\(\)"):
        attend(model.attention_modules[0], query, key, key, None, dropout=0.1)


def test_a_model_that_changes_values_after_the_cache_is_not_forked():
    family = dict(
        num_key_value_heads=2,
        vocab_size=97,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
    )
    model, plain = tiny("diffllama", **family), tiny_hf("diffllama", **family)
    with torch.no_grad():
        expected = plain(torch.tensor([IDS])).logits
    close(model.extend(model.prefix(IDS[:9]), [IDS[9:]], logits="all"), expected[:, 9:])
    with pytest.raises(UserError, match="cannot share a beginning"):
        model.extend(model.prefix(IDS[:9]).fork(2), [IDS[9:], IDS[9:12]])
    for opened in (model.edit_heads([(0, 1)]), model.record(torch.tensor([[3]]), HeadOutputs())):
        with pytest.raises(UserError, match="more than once in a layer"), opened:
            model.prefix(IDS)
    close(model.extend(model.prefix(), [IDS], logits="all"), expected)


@pytest.mark.parametrize("no_rope", [[0, 1, 1], [1, 1, 0]], ids=["first layer", "last layer"])
def test_a_model_that_counts_the_tokens_of_one_row_is_not_read_in_ragged_rows(no_rope):
    from interp.models.language.prefix import stack

    family: dict[str, Any] = dict(
        vocab_size=97, hidden_size=64, intermediate_size=64, intermediate_size_mlp=64, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, num_local_experts=2, num_experts_per_tok=1,
        attn_temperature_tuning=True, floor_scale=4, attn_scale=1.0, no_rope_layers=no_rope, attention_chunk_size=64,
        max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    model, plain = tiny("llama4_text", **family), tiny_hf("llama4_text", **family)
    with torch.no_grad():
        expected = plain(torch.tensor([IDS])).logits[0]
    close(model.extend(model.prefix(IDS[:9]), [IDS[9:]], logits="all")[0], expected[9:])
    rows = stack([model.prefix(IDS[:9]), model.prefix(IDS[:20])])
    with pytest.raises(UserError, match="read them one by one"):
        model.extend(rows, [IDS[9:], IDS[20:]], logits="all")


# ---------------------------------------------------------------- threads


def in_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns or raises in another thread."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except UserError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_what_is_open_in_one_thread_is_refused_to_another():
    model = tiny("llama")
    tokens = torch.tensor([IDS])
    readings: list[Callable[[], Any]] = [
        lambda: model.extend(model.prefix(), [IDS]),
        lambda: model.hf(tokens).logits,
        lambda: model.hf.generate(tokens, attention_mask=torch.ones_like(tokens), **GREEDY),
        lambda: model.edit_heads([(1, 1)]).__enter__(),
        lambda: model.record(torch.tensor([[1]]), TopKeys(1)).__enter__(),
    ]
    for opened in (model.edit_heads([(0, 0)]), model.record(torch.tensor([[1]]), TopKeys(1))):
        with opened:
            for reading in readings:
                error = in_thread(reading)
                assert isinstance(error, UserError)
                assert "Another thread has edits or recordings open" in str(error)
    close(in_thread(readings[0]), model.extend(model.prefix(), [IDS]), 0)


def test_threads_that_read_at_the_same_time_do_not_see_each_other():
    """Ragged, forked, edited and plain readings side by side: each equals its own alone, or was refused."""
    model = tiny("mistral")
    expected = model.extend(model.prefix(), [IDS], logits="all")
    with model.edit_heads([(0, 0), (1, 2)]):
        changed = model.extend(model.prefix(), [IDS], logits="all")
    ragged = model.extend(model.prefix(IDS[:9]).fork(2), [IDS[9:], IDS[9:14]])
    start, wrong, done = threading.Barrier(3), [], []

    def plain() -> None:
        if not torch.equal(model.extend(model.prefix(), [IDS], logits="all"), expected):
            wrong.append("plain")

    def forked() -> None:
        if not torch.equal(model.extend(model.prefix(IDS[:9]).fork(2), [IDS[9:], IDS[9:14]]), ragged):
            wrong.append("forked")

    def edited() -> None:
        with model.edit_heads([(0, 0), (1, 2)]):
            if not torch.equal(model.extend(model.prefix(), [IDS], logits="all"), changed):
                wrong.append("edited")

    def work(read: Callable[[], None]) -> None:
        start.wait()
        for _ in range(25):
            try:
                read()
                done.append(read)
            except UserError:
                pass

    threads = [threading.Thread(target=work, args=(read,)) for read in (plain, forked, edited)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(done) >= 25


# ---------------------------------------------------------------------- models as people hand them over


@pytest.mark.parametrize("part", ["all of it", "a layer"])
@pytest.mark.parametrize(
    ("family", "dropout"),
    [
        ("gpt2", dict(attn_pdrop=0.0, resid_pdrop=0.5, embd_pdrop=0.5)),
        ("gpt_neox", dict(attention_dropout=0.0, hidden_dropout=0.5)),
        ("gpt2", dict(attn_pdrop=0.5, resid_pdrop=0.0, embd_pdrop=0.0)),
    ],
)
def test_a_model_that_is_put_back_into_training_is_refused(family, dropout, part):
    """Dropout outside attention too: logits are others each time."""
    model = tiny(family, **dropout)
    wanted = model.extend(model.prefix(), [IDS])
    layers = model.hf.transformer.h if family == "gpt2" else model.hf.gpt_neox.layers
    changed = model.hf if part == "all of it" else layers[1]
    changed.train()
    for read in (lambda: model.extend(model.prefix(), [IDS]), lambda: read_residuals(model, torch.tensor([IDS]), [1])):
        with pytest.raises(UserError, match=r"call eval\(\) on the model"):
            read()
    changed.eval()
    close(model.extend(model.prefix(), [IDS]), wanted)


def test_parts_that_train_without_a_draw_are_read():
    """Such as a layer of one's own in a model without dropout: what is read is the same in every pass."""
    model = tiny("llama", attention_dropout=0.0)
    wanted = model.extend(model.prefix(), [IDS])
    model.hf.model.layers[1].own = torch.nn.Linear(2, 2)
    assert model.hf.model.layers[1].own.training
    close(model.extend(model.prefix(), [IDS]), wanted)
    model.hf.config.attention_dropout = 0.5
    with pytest.raises(UserError, match=r"call eval\(\) on the model"):
        model.extend(model.prefix(), [IDS])
