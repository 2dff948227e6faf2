"""The families of text-to-image pipelines that are supported, those of one line in one file."""

from interp.errors import ArgumentError
from interp.models.image.aura_flow import AuraFlow
from interp.models.image.cogview4 import CogView4
from interp.models.image.family import Family
from interp.models.image.flux import Chroma, Flux, Flux2, Flux2Klein
from interp.models.image.hunyuan_dit import HunyuanDiT
from interp.models.image.lumina2 import Lumina2
from interp.models.image.pixart import PixArtAlpha, PixArtSigma
from interp.models.image.qwen_image import QwenImage
from interp.models.image.sana import Sana
from interp.models.image.stable_diffusion import StableDiffusion, StableDiffusion3, StableDiffusionXL
from interp.models.image.z_image import ZImage

FAMILIES: tuple[type[Family], ...] = (
    StableDiffusion,
    StableDiffusionXL,
    StableDiffusion3,
    Flux,
    PixArtAlpha,
    PixArtSigma,
    Sana,
    QwenImage,
    Flux2,
    Flux2Klein,
    ZImage,
    Chroma,
    Lumina2,
    AuraFlow,
    CogView4,
    HunyuanDiT,
)


def family_of(name: str, pipeline_class: str) -> type[Family]:
    """Returns the family of a pipeline class. Raises ArgumentError, with those that are supported, for any other."""
    for family in FAMILIES:
        if family.pipeline_class == pipeline_class:
            return family
    supported = ", ".join(family.pipeline_class for family in FAMILIES)
    why = _REFUSED.get(pipeline_class, "")
    raise ArgumentError(
        f"{name} is a {pipeline_class}, which is not supported{why}: choose a model saved as {supported}."
    )


_REFUSED = {
    "KolorsPipeline": " (its tokenizer tells no characters, so no position of a word can be found)",
    "HiDreamImagePipeline": " (each block of its denoiser reads another layer of its encoder, so there is no one sequence to edit)",
}
"""Why some of the pipelines that people use are not supported."""
