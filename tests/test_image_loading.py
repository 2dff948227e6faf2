"""From a name or a folder to a text-to-image model: what loads, what it is named by, and every way to fail."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import numpy as np
import pytest
import torch

from interp.errors import ArgumentError, RunError, UserError
from interp.experiments.runner import check_kind
from interp.models.image.families import family_of
from interp.models.image.model import ImageModel
from interp.models.loading.image import load_image, look_up_image
from interp.models.loading.language import load, look_up
from interp.models.loading.names import aliases, known_kind, resolve
from interp.models.pixel_latents import PixelLatents
from tests.counting import Counting
from tests.pictures import each, pixels
from tests.tiny_models import tiny_hf
from tests.tiny_pipelines import BUILDERS, clip_tokenizer, save, tiny_image, tiny_pipeline

TEXT = "a red triangle"


class Saved(dict[str, Path]):
    """Folders of tiny pipelines by family, written when they are asked for."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self._place = place

    def __missing__(self, family: str) -> Path:
        self[family] = save(family, self._place / f"tiny-{family}")
        return self[family]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Saved(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved["sd"], tmp_path / "tiny-sd"))


def index(folder: Path, **changes: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ---------------------------------------------------------------------- what loads


@pytest.mark.parametrize("family", each(list(BUILDERS)))
def test_a_saved_pipeline_loads_and_draws_the_same_picture(saved, family):
    model, known = load_image(str(saved[family]), device="cpu"), tiny_image(family)
    assert (model.family, model.facts.model_type) == (known.family, type(known.pipeline).__name__)
    assert model.encoders == known.encoders
    assert model.facts == look_up_image(str(saved[family]), device="cpu")
    noise = known.noise([3], **pixels(known))
    pictures = [one.generate(one.encode([TEXT]), noise, steps=2, guidance=2.0) for one in (model, known)]
    np.testing.assert_allclose(
        *pictures, atol=1e-5
    )  # weights that lie elsewhere in memory are added up in another order


def test_precision_is_that_of_all_parts(saved):
    model = load_image(str(saved["sd3"]), device="cpu", dtype="bfloat16")
    parts = [part for part in model.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    assert {part.dtype for part in parts} == {torch.bfloat16}
    assert model.encode([TEXT]).sequence.dtype == torch.bfloat16
    drawn = model.generate(model.encode([TEXT]), model.noise([1], height=16, width=16), steps=1)
    assert drawn.dtype == np.float32


@pytest.mark.parametrize(
    "name",
    ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "generation.json"],
)
def test_a_folder_is_another_model_when_a_file_of_any_part_changes(saved, folder, name):
    (folder / "README.md").write_text("words about the model")
    before = look_up_image(str(folder)).identity.revision
    assert before == look_up_image(str(saved["sd"])).identity.revision
    if name == "generation.json":
        (folder / name).write_text('{"steps": 2, "guidance": 1}')
    else:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if name.endswith("s") else content + b"\n")
    assert look_up_image(str(folder)).identity.revision != before


def test_a_folder_may_say_its_own_steps_and_guidance(folder):
    before = load_image(str(folder))
    assert (before.default_steps, before.default_guidance) == (50, 7.5)
    (folder / "generation.json").write_text('{"steps": 20, "guidance": 2.5}')
    model = load_image(str(folder))
    assert (model.default_steps, model.default_guidance) == (20, 2.5)
    (folder / "generation.json").write_text('{"steps": 20}')
    with pytest.raises(
        RunError, match=r'generation.json cannot be read: it must hold \{"steps": 20, "guidance": 2.5\}'
    ):
        load_image(str(folder))


def test_a_revision_of_a_folder_is_a_subfolder_with_a_pipeline(saved, tmp_path):
    shutil.copytree(saved["sd"], tmp_path / "training" / "step7")
    facts = look_up_image(str(tmp_path / "training"), revision="step7")
    assert facts.identity.revision == look_up_image(str(saved["sd"])).identity.revision
    with pytest.raises(ArgumentError, match=r"has no revision step8 .* Did you mean step7\? It has: step7"):
        look_up_image(str(tmp_path / "training"), revision="step8")


def test_a_safety_checker_is_neither_asked_for_nor_run(folder):
    index(folder, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    assert load_image(str(folder)).pipeline.safety_checker is None


def test_pixels_as_latents_are_decoded_by_the_toolkits_own_part(tmp_path):
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=4,
    )
    parts = {**tiny_pipeline("sd").components, "unet": unet, "vae": PixelLatents()}
    diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(tmp_path / "pixels")
    model = load_image(str(tmp_path / "pixels"), device="cpu")
    assert isinstance(model.pipeline.vae, PixelLatents)
    assert model.size == (16, 16)
    latents = []
    decode = model.pipeline.vae.decode
    model.pipeline.vae.decode = lambda z, **options: latents.append(z) or decode(z, **options)
    drawn = model.generate(model.encode([TEXT]), model.noise([1]), steps=1)
    pixels = torch.nn.functional.pixel_shuffle(latents[0], 2)[0].permute(1, 2, 0)
    np.testing.assert_allclose(drawn[0], (pixels / 2 + 0.5).clamp(0, 1).numpy(), atol=1e-6)


def as_variant(folder: Path, variant: str, *parts: str) -> None:
    """Renames the weights of some parts as save_pretrained(variant=…) names them."""
    for part in parts:
        for weights in (folder / part).glob("*.safetensors"):
            weights.rename(weights.with_suffix(f".{variant}.safetensors"))


def test_sd3_saved_without_its_t5_is_drawn_from_its_clip_encoders(tmp_path):
    pipeline = BUILDERS["sd3"]()
    pipeline.register_modules(text_encoder_3=None, tokenizer_3=None)
    pipeline.save_pretrained(tmp_path / "small")
    model = load_image(str(tmp_path / "small"), device="cpu")
    assert model.encoders == ("clip",)
    noise, options = model.noise([3], height=16, width=16), dict(num_inference_steps=1, guidance_scale=0.0)
    wanted = pipeline(TEXT, latents=noise, height=16, width=16, output_type="np", **options).images
    drawn = model.generate(model.encode([TEXT]), noise, steps=1, guidance=0.0)
    np.testing.assert_allclose(drawn, wanted, atol=1e-5)


@pytest.mark.parametrize("parts", [("unet", "vae", "text_encoder"), ("unet",)], ids=["all", "one"])
def test_weights_that_are_there_as_a_variant_alone_are_read_and_said(saved, folder, parts, caplog):
    as_variant(folder, "fp16", *parts)
    model, plain = load_image(str(folder), device="cpu"), load_image(str(saved["sd"]), device="cpu")
    assert f"{model.identity.name} holds its weights as the variant fp16 only: these are read." in caplog.text
    for name in ("unet", "vae", "text_encoder"):
        weights, wanted = (getattr(one.pipeline, name).state_dict() for one in (model, plain))
        assert all(torch.equal(weights[key], wanted[key]) for key in wanted)


def test_plain_weights_are_read_where_both_are_there(saved, folder, caplog):
    for part in ("unet", "vae", "text_encoder"):
        for weights in (folder / part).glob("*.safetensors"):
            weights.with_suffix(".fp16.safetensors").write_bytes(b"not read")
    load_image(str(folder), device="cpu")
    assert "variant" not in caplog.text


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "pixart_sigma"])
def test_the_default_size_of_a_denoiser_has_one_side_or_two_or_is_asked_for(family):
    pipeline = BUILDERS[family]()
    denoiser = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    model = ImageModel(family_of(family, type(pipeline).__name__)(pipeline), tiny_image(family).identity, {})
    assert model.size == (16, 16)
    denoiser.register_to_config(sample_size=[8, 12])
    assert model.size == (16, 24)
    assert model.noise([1]).shape[-2:] == (8, 12)
    denoiser.register_to_config(sample_size=None)
    with pytest.raises(ArgumentError, match=r"names no sample_size: say which size with --height and --width"):
        model.noise([1])
    assert model.noise([1], height=16, width=8).shape[-2:] == (8, 4)


def test_an_sdxl_with_a_sample_size_of_two_sides_loads_and_draws(saved, tmp_path):
    folder = Path(shutil.copytree(saved["sdxl"], tmp_path / "wide"))
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": [8, 12]}))
    model = load_image(str(folder), device="cpu")
    assert model.generate(model.encode([TEXT]), model.noise([1]), steps=1).shape == (1, 16, 24, 3)


# ---------------------------------------------------------------------- what does not


def test_variants_of_several_kinds_are_refused(folder):
    as_variant(folder, "fp16", "unet")
    as_variant(folder, "ema", "vae")
    with pytest.raises(
        ArgumentError, match=r"holds parts in the variants ema and fp16 only: save the pipeline with save_pr"
    ):
        load_image(str(folder))


@pytest.mark.parametrize("reader", [load_image, look_up_image])
def test_one_file_of_weights_and_a_lora_are_refused_with_the_way_to_a_pipeline(tmp_path, reader):
    file = tmp_path / "realistic.safetensors"
    file.write_bytes(b"")
    with pytest.raises(
        ArgumentError, match=r"realistic\.safetensors is one file of weights: read it with diffusers' from_single_"
    ):
        reader(str(file))
    (tmp_path / "style").mkdir()
    (tmp_path / "style" / "pytorch_lora_weights.safetensors").write_bytes(b"")
    with pytest.raises(
        ArgumentError,
        match=r"style is a LoRA without its pipeline: name the pipeline that it was trained on with --model",
    ):
        reader(str(tmp_path / "style"))


def pickled(folder: Path) -> None:
    for weights in folder.glob("*/*.safetensors"):
        weights.rename(weights.with_suffix(".bin"))


def cut_weights(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)


def narrow(folder: Path) -> None:
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cross_attention_dim": 24}))


UNFIT: dict[str, tuple[Callable[[Path], None], str]] = {
    "an unsupported class": (
        lambda folder: index(folder, _class_name="StableDiffusionImg2ImgPipeline"),
        "tiny-sd is a StableDiffusionImg2ImgPipeline, which is not supported: choose a model saved as "
        "StableDiffusionPipeline, StableDiffusionXLPipeline, StableDiffusion3Pipeline, FluxPipeline, PixArtAlphaPipeline, "
        "PixArtSigmaPipeline, SanaPipeline, QwenImagePipeline",
    ),
    "a class that is not yet": (
        lambda folder: index(folder, _class_name="KolorsPipeline"),
        r"tiny-sd is a KolorsPipeline, which is not supported \(its tokenizer tells no characters, .*\): choose a model",
    ),
    "a class of nobody's": (
        lambda folder: index(folder, _class_name="Nosuch"),
        "tiny-sd is a Nosuch, which is not supp",
    ),
    "no class": (
        lambda folder: (folder / "model_index.json").write_text("{}"),
        "is not what a pipeline's save_pretrained writes",
    ),
    "an index cut off": (
        lambda folder: (folder / "model_index.json").write_text("{"),
        "is not what a pipeline's save_pre",
    ),
    "pickled weights only": (pickled, r"has no \.safetensors weights: save the pipeline there"),
    "weights cut off": (cut_weights, "cannot be loaded"),
    "weights of other shapes": (narrow, "cannot be loaded"),
    "a part lost": (lambda folder: shutil.rmtree(folder / "text_encoder"), "cannot be loaded"),
    "a part's weights lost": (lambda folder: next((folder / "vae").glob("*.safetensors")).unlink(), "cannot be loaded"),
    "no index": (
        lambda folder: (folder / "model_index.json").unlink(),
        "has no model_index.json|no config.json|language",
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("spoil", "words"), UNFIT.values(), ids=UNFIT)
def test_an_unfit_folder_is_refused_in_one_sentence(folder, spoil, words):
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        load_image(str(folder))
    assert "\n" not in str(caught.value)
    assert "tiny-sd" in str(caught.value)


@pytest.mark.parametrize("reader", [load_image, look_up_image])
@pytest.mark.parametrize("family", each([family for family in BUILDERS if family not in ("sd_t5", "pixart_alpha")]))
def test_a_pipeline_saved_without_an_encoder_is_refused_but_for_the_t5_of_sd3(saved, tmp_path, family, reader):
    parts = [name for name in tiny_pipeline(family).components if name.startswith("text_encoder")]
    for part in parts:
        folder = Path(shutil.copytree(saved[family], tmp_path / f"tiny-{part}"))
        tokenizer = part.replace("text_encoder", "tokenizer")
        for name in (part, tokenizer):
            shutil.rmtree(folder / name)
        index(folder, **{part: [None, None], tokenizer: [None, None]})
        if part == "text_encoder_3":
            reader(str(folder))
            continue
        with pytest.raises(
            ArgumentError, match=rf"tiny-{part} was saved without its \w+ and \w+, and no text can be read without"
        ):
            reader(str(folder))


def test_code_in_a_models_folder_is_not_run(folder, tmp_path, monkeypatch):
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom diffusers import UNet2DConditionModel as Odd\n"
    for place in (folder / "odd.py", folder / "unet" / "odd.py", folder / "pipeline.py"):
        place.write_text(code)
    index(folder, unet=["odd", "Odd"])
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    with pytest.raises(UserError, match="cannot be loaded"):
        load_image(str(folder))
    assert not (tmp_path / "ran").exists()


# ---------------------------------------------------------------------- kinds of models


def test_a_model_of_the_other_kind_is_refused_by_each_loader(saved, tmp_path):
    tiny_hf("llama").save_pretrained(tmp_path / "words")
    clip_tokenizer().save_pretrained(tmp_path / "words")
    for reader in (load, look_up):
        for name in (str(saved["sd"]), "sdxl-base"):
            with pytest.raises(
                ArgumentError, match="is an image model, and a language model is needed, such as smollm2"
            ):
                reader(name)
    for reader in (load_image, look_up_image):
        for name in (str(tmp_path / "words"), "gpt2"):
            with pytest.raises(ArgumentError, match="is a language model, and an image model is needed, such as "):
                reader(name)
    assert known_kind("someone/some-model") is None
    assert resolve("someone/some-model", kind="image").kind == "image"


def test_an_experiment_refuses_a_model_of_the_other_kind_before_anything_is_loaded(saved):
    with pytest.raises(
        UserError, match=r"is an image model and can be used in .*counting takes language models, such as"
    ):
        check_kind(Counting(model=str(saved["sd"])))
    check_kind(Counting(model="gpt2"))
    check_kind(Counting(model="someone/some-model"))


def test_the_promised_image_models_are_in_the_registry():
    image = {name for name, entry in aliases().items() if entry.kind == "image"}
    assert {
        "stable-diffusion-1.5",
        "sdxl-base",
        "sd3-medium",
        "flux-dev",
        "flux-schnell",
        "pixart-alpha",
        "pixart-sigma",
        "sana-1.6b",
        "qwen-image",
        "flux2-dev",
        "flux2-klein-base-9b",
        "z-image-turbo",
        "chroma-hd",
        "lumina-2",
        "aura-flow",
        "cogview4",
        "hunyuan-dit",
    } <= image


# ---------------------------------------------------------------------- the hub


def test_without_a_hub_the_sentence_says_which_folder_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for reader in (load_image, look_up_image):
        with pytest.raises(
            RunError,
            match=r"^stabilityai/stable-diffusion-xl-base-1\.0 is not on this machine and the model hub cannot be reached: "
            r"connect to it, or pass --model FOLDER with a copy, or --model shapes-t2i, which needs no hub\.$",
        ):
            reader("sdxl-base")
