"""What is trained and how: one set of choices for all models, so that they differ in architecture alone."""

from dataclasses import dataclass
from typing import Any

from transformers import Gemma3TextConfig, LlamaConfig, PreTrainedConfig

from interp.models.language.lstm import LSTMConfig


@dataclass(frozen=True)
class Recipe:
    """Data, optimiser and budget."""

    vocab_size: int = 4096
    window_tokens: int = 768
    batch_tokens: int = 4096
    """Tokens of one optimiser step, padding included."""
    epochs: int = 2
    learning_rate: float = 3e-3
    warm_up: float = 0.05
    """Share of the steps over which the learning rate rises; then it falls to zero along half a cosine."""
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    seed: int = 0
    """Of the weights and of the order of windows, which is the same for every model."""
    checkpoint_steps: int = 50
    """Steps between two checkpoints, each with a point of the learning curve."""


SIZES: dict[str, dict[str, Any]] = {
    "lstm-news": dict(state_size=344, num_hidden_layers=1),
    "transformer-news-1": dict(num_hidden_layers=1, intermediate_size=1656),
    "transformer-news-2": dict(num_hidden_layers=2, intermediate_size=742),
    "transformer-news-4": dict(num_hidden_layers=4, intermediate_size=285),
    "fallback-news-4": dict(num_hidden_layers=4, intermediate_size=285),
    "gemma-news-4": dict(
        num_hidden_layers=4,
        intermediate_size=327,
        num_key_value_heads=2,
        sliding_window=128,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    ),
}
"""Embeddings are equally wide in all; the feed-forward layers of a transformer take what its depth leaves of 1.2 million.

Two are there for what the others lack. `gemma-news-4`: query heads that share keys, windows in every other layer, norms on both
sides. `fallback-news-4`: transformer-news-4 with another tokenizer, of characters that fall back to bytes, as Llama 2's.
"""

HIDDEN_SIZE = 128
HEADS = 4


def architecture(name: str, recipe: Recipe) -> PreTrainedConfig:
    """Returns the configuration of a model to train."""
    common: dict[str, Any] = dict(
        vocab_size=recipe.vocab_size, hidden_size=HIDDEN_SIZE, bos_token_id=0, eos_token_id=0, pad_token_id=None
    )
    if name.startswith("lstm"):
        return LSTMConfig(**common, **SIZES[name])
    heads: dict[str, Any] = dict(
        num_attention_heads=HEADS, max_position_embeddings=recipe.window_tokens, tie_word_embeddings=True
    )
    if name.startswith("gemma"):
        head_dim = HIDDEN_SIZE // HEADS
        heads |= dict(head_dim=head_dim, query_pre_attn_scalar=head_dim)
        return Gemma3TextConfig(**common, **heads, **SIZES[name])
    return LlamaConfig(**common, **heads, **SIZES[name])
