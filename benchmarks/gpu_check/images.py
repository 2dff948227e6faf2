"""Checks of denoisers of a real shape with random weights: the same picture with heat maps and without.

Encoders have the real widths and two layers, since the denoiser is what is checked, and the tokenizers of the tests, since
what a text says makes no difference to what it costs.
"""

import copy
import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import numpy as np
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from benchmarks.gpu_check.card import Card
from benchmarks.gpu_check.sizes import PictureSizes
from benchmarks.gpu_check.verdicts import Group, Measured
from interp.models.identity import ModelIdentity
from interp.models.image.families import family_of
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.model import ImageModel
from tests.tiny_pipelines import BUILDERS, clip_tokenizer, t5_tokenizer

TEXT = "a red triangle"
N_CLIP = 77
MASS_APART = 1e-3
"""How far the shares of all tokens may be from 1 in all: they are summed in float32."""


@dataclass(frozen=True)
class Subject:
    """A random pipeline and what is drawn with it."""

    model: ImageModel
    sizes: PictureSizes


def group(name: str, shape: str, sizes: PictureSizes) -> Group:
    """Returns the checks of a text-to-image model."""
    return Group(name, shape, partial(make, name, sizes), {"heat maps": heat_maps})


def make(name: str, sizes: PictureSizes, card: Card) -> Subject:
    """Returns a random pipeline on the device."""
    parts = BUILDERS[name] if sizes.small else {"sdxl": _sdxl, "flux": _flux}[name]
    pipeline = card.built(parts)
    family = family_of(name, type(pipeline).__name__)(pipeline)
    return Subject(ImageModel(family, ModelIdentity(f"random-{name}", "gpu_check", "0", "float32"), {}), sizes)


def heat_maps(subject: Subject, card: Card) -> list[Measured]:
    """One picture with heat maps recorded and without, in turn; seconds, memory, and whether it is the same picture."""
    model, sizes = subject.model, subject.sizes
    text = model.encode([TEXT])
    noise = model.noise([0], height=sizes.side, width=sizes.side)
    draw = partial(model.generate, text, noise, steps=sizes.steps, guidance=2.0)
    draw()  # warm up
    maps = HeatMaps()
    seconds: dict[str, list[float]] = {"plain": [], "maps": []}
    peaks, pictures = {}, {}
    for _ in range(sizes.repetitions):
        for way, taken in seconds.items():
            maps = HeatMaps()
            card.clean()
            spent, pictures[way] = card.timed(draw if way == "plain" else partial(draw, record=maps))
            taken.append(spent)
            peaks[way] = card.peak_gb()
    plain, looking = (statistics.median(seconds[way]) for way in ("plain", "maps"))
    apart = float(np.abs(pictures["plain"] - pictures["maps"]).max())
    mass = float(maps.mass().sum())
    too_much = (
        max(mass - 1, 0.0) if model.n_blocks else abs(mass - 1)
    )  # where attention is joint the rest is on the image
    found = [
        Measured("largest difference of a pixel, with maps and without", apart, "of 1", 0.0),
        Measured("seconds, with maps over without", looking / plain, "times", note=f"{plain:.3g} s without, {sizes.steps} steps"),
        Measured("share of attention on text, off what it may be", too_much, "share", MASS_APART, note=f"{mass:.3g} of all attention"),
    ]  # fmt: skip
    if peaks["plain"] == peaks["plain"]:
        found.append(Measured("memory, with maps over without", peaks["maps"] / peaks["plain"], "times"))
    return found


# ---------------------------------------------------------------------- parts of the real shapes


def _clip(width: int, heads: int, *, projection: bool = False) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(clip_tokenizer()), hidden_size=width, projection_dim=width, intermediate_size=4 * width,
        num_hidden_layers=2, num_attention_heads=heads, max_position_embeddings=N_CLIP, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def _tokenizer(pad: str = "<|endoftext|>") -> Any:
    tokenizer = copy.deepcopy(clip_tokenizer(pad))
    tokenizer.model_max_length = N_CLIP
    return tokenizer


def _vae(channels: int) -> Any:
    widths = (128, 256, 512, 512)
    return diffusers.AutoencoderKL(
        block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=channels, sample_size=1024,
        force_upcast=False,
    )  # fmt: skip


def _sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(4),
        text_encoder=_clip(768, 12),
        text_encoder_2=_clip(1280, 20, projection=True),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer("!"),
        unet=diffusers.UNet2DConditionModel(
            sample_size=128, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=256, projection_class_embeddings_input_dim=1280 + 6 * 256,
        ),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        add_watermarker=False,
    )  # fmt: skip


def _flux() -> Any:
    t5 = T5Config(
        vocab_size=len(t5_tokenizer()), d_model=4096, d_kv=64, d_ff=10240, num_layers=2, num_heads=64,
        is_encoder_decoder=False,
    )  # fmt: skip
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(16),
        text_encoder=_clip(768, 12),
        tokenizer=_tokenizer(),
        text_encoder_2=T5EncoderModel(t5),
        tokenizer_2=t5_tokenizer(),
        transformer=diffusers.FluxTransformer2DModel(guidance_embeds=True),
    )
