"""A real Stable Diffusion pipeline whose denoiser copies one token's vector into the picture."""

import copy

import torch
from diffusers import ConfigMixin, DDIMScheduler, ModelMixin, StableDiffusionPipeline
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from interp.models.identity import ModelIdentity
from interp.models.image.families import family_of
from interp.models.image.model import ImageModel
from interp.models.pixel_latents import PixelLatents
from tests.tiny_pipelines import tiny_pipeline


class CopyingDenoiser(ModelMixin, ConfigMixin):
    """Predicts a clean picture that is one token's vector, whatever the noise: position 3."""

    copied = 3

    @register_to_config
    def __init__(self, sample_size: int = 8, in_channels: int = 12, time_cond_proj_dim: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, sample, timestep, encoder_hidden_states, return_dict=True, **options):
        vector = encoder_hidden_states[:, self.copied].tanh()
        picture = vector.repeat(1, 48).reshape(len(vector), 12, 8, 8)
        return UNet2DConditionOutput(sample=picture) if return_dict else (picture,)


def copying_model() -> ImageModel:
    """The model, with a text encoder of its own that may be changed."""
    tiny = tiny_pipeline("sd")
    scheduler = DDIMScheduler(prediction_type="sample", clip_sample=False, set_alpha_to_one=True, steps_offset=1)
    pipeline = StableDiffusionPipeline(
        vae=PixelLatents(), text_encoder=copy.deepcopy(tiny.text_encoder), tokenizer=tiny.tokenizer, unet=CopyingDenoiser(),
        scheduler=scheduler, safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip
    kind = family_of("copying", "StableDiffusionPipeline")
    return ImageModel(kind(pipeline), ModelIdentity("copying", "tests", "0", "float32"), {"steps": 2, "guidance": 1.0})
