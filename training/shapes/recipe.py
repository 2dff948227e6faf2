"""All choices of the training, in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderRecipe:
    """The text encoder and its training."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    batch: int = 192
    steps: int = 800
    learning_rate: float = 3e-3
    silence_weight: float = 1.0
    """Weight of the penalty on tokens that name no item (guarded only)."""
    seed: int = 0


@dataclass(frozen=True)
class DenoiserRecipe:
    """The denoiser and its training."""

    channels: int = 64
    heads: int = 4
    batch: int = 64
    steps: int = 1500
    learning_rate: float = 2e-3
    rise_steps: int = 50
    clip_norm: float = 1.0
    average: float = 0.995
    """Decay of the running mean of the weights, which is what ships."""
    empty_share: float = 0.08
    """Captions replaced by the empty one."""
    thinned_share: float = 0.1
    """Captions in which every position is, with a chance of its own between 0 and 0.6, replaced by the empty caption's vector."""
    captions: int = 24_000
    seed: int = 0


STEPS = 20
GUIDANCE = 1.0
"""How the models are to be drawn from: written to generation.json."""
REGIMES = {"shapes-t2i": "guarded", "shapes-t2i-free": "free", "shapes-t2i-bidirectional": "bidirectional"}
"""What each model's encoder is trained for."""
