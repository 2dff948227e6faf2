"""How large the models and texts are: shapes of real models, and tiny ones that show that the code works."""

from dataclasses import dataclass, field
from typing import Any

_LLAMA = dict(
    model_type="llama", vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
    num_attention_heads=32, num_key_value_heads=32, max_position_embeddings=65536, initializer_range=0.02,
)  # fmt: skip
_GPT_OSS = dict(
    model_type="gpt_oss", vocab_size=201088, hidden_size=2880, intermediate_size=2880, num_hidden_layers=24, head_dim=64,
    num_attention_heads=64, num_key_value_heads=8, num_local_experts=32, num_experts_per_tok=4, sliding_window=128,
    max_position_embeddings=131072, initializer_range=0.024,
)  # fmt: skip
_GROUPED = dict(_LLAMA, num_hidden_layers=2, num_key_value_heads=8, intermediate_size=14336, vocab_size=1024)
"""llama3-8b's attention, in two layers."""
_SMALL: dict[str, Any] = dict(
    vocab_size=97, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
    max_position_embeddings=256, initializer_range=0.16,
)  # fmt: skip


@dataclass(frozen=True)
class TextSizes:
    """Texts that one language model is given, in tokens. An empty tuple of `long` leaves the timing of prefills out."""

    config: dict[str, Any]
    rows_tokens: int = 8192
    long_tokens: tuple[int, ...] = (32768, 50000)
    repetitions: int = 3
    tree_tokens: int = 8192
    rollouts: int = 64
    rollout_tokens: int = 64
    alone: int = 4
    """Rollouts that are written one after the other, for comparison."""
    is_promised: bool = True
    """Whether times have bounds: at tiny sizes they say nothing."""


@dataclass(frozen=True)
class PictureSizes:
    """Pictures: their side in pixels, and the steps. `small` takes tiny parts in place of those of the real shape."""

    side: int = 1024
    steps: int = 4
    repetitions: int = 3
    small: bool = False


@dataclass(frozen=True)
class Sizes:
    """Everything that is checked."""

    llama: TextSizes
    gpt_oss: TextSizes
    grouped: TextSizes
    pictures: PictureSizes
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Settings of the runs whose tables are compared, by experiment; a preset has its name under `preset`."""


FULL = Sizes(
    llama=TextSizes(_LLAMA),
    gpt_oss=TextSizes(_GPT_OSS, long_tokens=(8192,), rollouts=32),
    grouped=TextSizes(_GROUPED, rows_tokens=16384),
    pictures=PictureSizes(),
    runs={name: {"preset": "quick"} for name in ("verbatim_memory", "retrieval_heads", "t2i_flow", "function_tokens")},
)
_SHORT: dict[str, Any] = dict(
    rows_tokens=48,
    long_tokens=(64, 96),
    repetitions=1,
    tree_tokens=96,
    rollouts=6,
    rollout_tokens=4,
    alone=2,
    is_promised=False,
)
TINY = Sizes(
    llama=TextSizes(_SMALL | {"model_type": "llama"}, **_SHORT),
    gpt_oss=TextSizes(
        _SMALL | dict(model_type="gpt_oss", num_key_value_heads=2, head_dim=16, num_local_experts=3, num_experts_per_tok=2,
                      sliding_window=16),
        **_SHORT | {"long_tokens": (64,)},
    ),
    grouped=TextSizes(_SMALL | {"model_type": "llama", "num_key_value_heads": 2}, **_SHORT),
    pictures=PictureSizes(side=16, steps=1, repetitions=1, small=True),
    runs={"verbatim_memory": dict(
        model="transformer-news-1", list_lengths=(3,), n_base_lists=3, rotations=1, intervening=(1,), contexts=("intact",),
        mask_k=(2,), mask_draws=1,
    )},
)  # fmt: skip
