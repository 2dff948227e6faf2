"""Memory: what a model takes, counted by hand from its sizes, and what is said of it."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MambaConfig

from interp.models.loading import footprint as footprint_module
from interp.models.loading.footprint import Footprint, footprint, free_bytes, say_footprint

LLAMA = LlamaConfig(
    vocab_size=100,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    tie_word_embeddings=False,
)
# per layer: queries and outputs 32×32, keys and values 32×16 each, three projections 32×48, two norms of 32
LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
EMBEDDING = 100 * 32


@pytest.mark.parametrize(("dtype", "n_bytes"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_weights_and_cache_are_those_counted_by_hand(dtype: torch.dtype, n_bytes: int) -> None:
    needs = footprint(LLAMA, dtype)
    assert needs.weights_bytes == n_bytes * (3 * LAYER + 2 * EMBEDDING + 32)  # embedding, unembedding, last norm
    assert needs.cache_bytes_per_token == n_bytes * 3 * 2 * 2 * 8  # layers × (key, value) × heads × dimensions
    assert needs.context_window == 64


def test_the_published_size_of_llama_2_7b_comes_out_and_a_cache_is_as_large_as_transformers_own() -> None:
    seven = footprint(LlamaConfig(vocab_size=32000, max_position_embeddings=4096), torch.bfloat16)
    assert seven.weights_bytes == 2 * 6_738_415_616  # the number on its card
    assert seven.cache_bytes_per_token == 2 * 32 * 2 * 4096
    assert seven.in_words() == (
        "13.5 GB of weights, and 0.524 GB for each 1,000 tokens that are held at once (2.15 GB for a text that fills the "
        "window of 4,096)"
    )
    model = AutoModelForCausalLM.from_config(LLAMA)
    cache = model(torch.ones(1, 10, dtype=torch.long), use_cache=True).past_key_values
    held = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert 10 * footprint(LLAMA, torch.float32).cache_bytes_per_token == 4 * held


def test_tied_weights_count_once_and_a_model_without_heads_has_no_cache() -> None:
    small = dict(vocab_size=100, n_positions=64, n_embd=32, n_layer=1, n_head=4)
    tied, apart = (
        footprint(GPT2Config(**small, tie_word_embeddings=tie), torch.float32).weights_bytes for tie in (True, False)
    )
    assert apart - tied == 4 * EMBEDDING
    mamba = footprint(MambaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=1), torch.float32)
    assert mamba.cache_bytes_per_token == 0
    assert mamba.in_words().endswith("GB of weights")


def test_large_models_get_a_word_and_those_too_large_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    say_footprint("small", Footprint(10**9, 1000, 64), "cpu", 2 * 10**9)
    assert caplog.messages == []
    say_footprint("large", Footprint(4 * 10**9, 10**6, None), "cuda", 8 * 10**9)
    assert caplog.messages.pop() == (
        "large takes 4 GB of weights, and 1 GB for each 1,000 tokens that are held at once. cuda has 8 GB free."
    )
    caplog.clear()
    say_footprint("larger", Footprint(9 * 10**9, 0, None), "cuda", 8 * 10**9)
    assert caplog.messages == [
        "larger takes 9 GB of weights, and cuda has 8 GB free: take a smaller model, --dtype bfloat16, or --device-map auto "
        "on several GPUs."
    ]


def test_a_jobs_limit_counts_as_the_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_bytes("cpu")
    assert free is not None
    assert 0 < free <= footprint_module.psutil.virtual_memory().total
    monkeypatch.setattr(footprint_module, "_job_limits", lambda: [10**15, 12345])
    assert free_bytes("cpu") == 12345
    assert free_bytes("mps") is None
