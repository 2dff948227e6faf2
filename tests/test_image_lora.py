"""LoRA on text-to-image pipelines: fused weights and pictures against hand and plain diffusers, names of runs, and refusals."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.errors import UserError
from interp.models.identity import ModelIdentity
from interp.models.image.families import family_of
from interp.models.image.model import ImageModel
from interp.models.loading.image import load_image, look_up_image
from interp.models.loading.lora_files import find_loras, product_squares
from tests.pictures import TEXT, each, furthest, pixels
from tests.tiny_pipelines import BUILDERS, save, tiny_pipeline

UNET = "down_blocks.0.attentions.0"
CROSS = f"{UNET}.transformer_blocks.0"
CLIP = [
    f"encoder.layers.{layer}.{name}"
    for layer in (0, 1)
    for name in ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1")
]
UNET_PLACES = [f"{CROSS}.attn2.to_k", f"{CROSS}.attn1.to_out.0", f"{CROSS}.ff.net.0.proj", f"{UNET}.proj_in", "conv_in"]
PLACES: dict[str, dict[str, list[str]]] = {
    "sd": {"unet": UNET_PLACES, "text_encoder": CLIP},
    "sdxl": {"unet": UNET_PLACES, "text_encoder": CLIP, "text_encoder_2": [f"text_model.{name}" for name in CLIP]},
    "sd3": {
        "transformer": [
            "transformer_blocks.0.attn.to_q",
            "transformer_blocks.1.attn.add_k_proj",
            "transformer_blocks.2.ff.net.2",
        ],
        "text_encoder": [f"text_model.{name}" for name in CLIP],
        "text_encoder_2": [f"text_model.{name}" for name in CLIP],
    },
    "flux": {
        "transformer": [
            "transformer_blocks.0.attn.to_v",
            "transformer_blocks.1.ff_context.net.2",
            "single_transformer_blocks.1.proj_mlp",
        ],
        "text_encoder": CLIP,
    },
}
"""Modules of the pipelines' parts that a LoRA changes here: attention, feed-forward layers, a convolution."""
WITHOUT = ("pixart_sigma", "pixart_alpha", "hunyuan_dit")
"""Families for whose pipelines diffusers reads no LoRA."""
OTHERS = [family for family in BUILDERS if family not in (*PLACES, *WITHOUT, "sd_t5")]


def places(family: str) -> dict[str, list[str]]:
    """What a LoRA changes: of families that are not listed, some linear layers of the denoiser."""
    if family in PLACES:
        return PLACES[family]
    named = tiny_pipeline(family).transformer.named_modules()
    linear = [name for name, module in named if isinstance(module, torch.nn.Linear) and ".to_" in name]
    return {"transformer": linear[:: max(1, len(linear) // 4)]}


Changes = dict[tuple[str, str], tuple[Tensor, Tensor]]


def drawn(family: str, seed: int = 0, ranks: tuple[int, ...] = (2,)) -> Changes:
    """B and A for every place, in turn of these ranks."""
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    every = [(part, name) for part, names in places(family).items() for name in names]
    for index, (part, name) in enumerate(every):
        weight, rank = getattr(tiny_pipeline(family), part).get_submodule(name).weight, ranks[index % len(ranks)]
        up = torch.randn(weight.shape[0], rank, *(1,) * (weight.ndim - 2), generator=generator)
        down = torch.randn(rank, *weight.shape[1:], generator=generator)
        changes[part, name] = 0.3 * up, 0.3 * down
    return changes


def product(up: Tensor, down: Tensor) -> Tensor:
    return torch.einsum("or,r...->o...", up.flatten(1), down)


# ---------------------------------------------------------------------- the formats that people have


def as_peft(file: Path, changes: Changes, alpha: float | None = None) -> None:
    """As diffusers' own training scripts write it; without alphas."""
    assert alpha is None
    tensors = {}
    for (part, name), (up, down) in changes.items():
        tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
    save_file(tensors, file)


OWN_ALPHA = 1.5
"""The alpha of each part's last module, where the header says so."""


def with_header(file: Path, changes: Changes, alpha: float | None = None) -> None:
    """The same, with alphas in the header: one for a part, and another for its last module."""
    as_peft(file, changes)
    header: dict[str, Any] = {}
    for part in {part for part, _ in changes}:
        names = [name for own, name in changes if own == part]
        header |= {f"{part}.r": 2, f"{part}.lora_alpha": alpha, f"{part}.target_modules": names}
        ranks = {name: changes[part, name][1].shape[0] for name in names}
        header |= {f"{part}.rank_pattern": {name: rank for name, rank in ranks.items() if rank != 2}}
        header |= {f"{part}.alpha_pattern": {names[-1]: OWN_ALPHA}}
    save_file(load_file(file), file, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(header)})


def as_kohya(file: Path, changes: Changes, alpha: float | None = None) -> None:
    """As the scripts for Stable Diffusion and SDXL write it."""
    several = any(part == "text_encoder_2" for part, _ in changes)
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if several else "lora_te", "text_encoder_2": "lora_te2"}
    tensors = {}
    for (part, name), (up, down) in changes.items():
        inner = name if part == "unet" or name.startswith("text_model") else f"text_model.{name}"
        key = f"{prefixes[part]}_{inner.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        tensors |= {} if alpha is None else {f"{key}.alpha": torch.tensor(alpha)}
    save_file(tensors, file)


CASES: list[Any] = [
    *(pytest.param(family, as_peft, None, id=f"{family}-peft") for family in PLACES),
    *(pytest.param(family, with_header, 6.0, id=f"{family}-header") for family in PLACES),
    *(pytest.param(family, as_kohya, alpha, id=f"{family}-kohya-{alpha}") for family in ("sd", "sdxl") for alpha in (None, 3.0)),
    *(pytest.param(*one.values, as_peft, None, marks=one.marks) for one in each(OTHERS) if hasattr(one, "values")),
    *(pytest.param(one, as_peft, None) for one in each(OTHERS) if isinstance(one, str)),
]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    place, known = tmp_path_factory.mktemp("saved"), {}

    def folder(family: str) -> Path:
        if family not in known:
            known[family] = save(family, place / f"tiny-{family}")
        return known[family]

    return folder


def weights(pipeline: Any) -> Iterator[tuple[str, str, Tensor]]:
    for part, module in pipeline.components.items():
        for name, weight in module.named_parameters() if isinstance(module, torch.nn.Module) else ():
            yield part, name, weight.detach()


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize(("family", "write", "alpha"), CASES)
def test_fused_weights_are_the_base_plus_scale_times_alpha_over_rank_times_the_product(
    saved, tmp_path, family, write, alpha
):
    ranks = (2,) if write is as_peft else (2, 3)
    file, changes = tmp_path / "style.safetensors", drawn(family, ranks=ranks)
    write(file, changes, alpha)
    base, model = (load_image(str(saved(family)), device="cpu", lora=lora) for lora in ((), f"{file}:-0.7"))
    fused = {(part, name): weight for part, name, weight in weights(model.pipeline)}
    n_changed = 0
    for part, name, weight in weights(base.pipeline):
        after = fused.pop((part, name))
        change = changes.get((part, name.removesuffix(".weight")))
        if change is None or not name.endswith(".weight"):
            assert torch.equal(after, weight)
            continue
        up, down = change
        own = OWN_ALPHA if write is with_header and name == f"{places(family)[part][-1]}.weight" else alpha
        wanted = weight - 0.7 * (1 if own is None else own / down.shape[0]) * product(up, down)
        torch.testing.assert_close(after, wanted, atol=1e-6, rtol=1e-5)
        n_changed += 1
    assert not fused
    assert n_changed == len(changes)


@pytest.mark.parametrize("family", PLACES)
def test_a_picture_is_that_of_plain_diffusers_with_the_lora(saved, tmp_path, family):
    file = tmp_path / "style.safetensors"
    as_peft(file, drawn(family))
    base, model = (load_image(str(saved(family)), device="cpu", lora=lora) for lora in ([], [f"{file}:0.7"]))
    with torch.random.fork_rng():
        torch.manual_seed(7)
        plain = BUILDERS[family]()
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(str(file), adapter_name="style")
    plain.set_adapters(["style"], [0.7])
    beside = ImageModel(family_of(family, type(plain).__name__)(plain), ModelIdentity("plain", "", "", "float32"), {})
    noise, how = model.noise([3], **pixels(model)), dict(steps=2, guidance=2.0)
    pictures = [one.generate(one.encode([TEXT]), noise, **how) for one in (base, model, beside)]
    assert furthest(pictures[0], pictures[2]) > 1e-3
    assert furthest(pictures[1], pictures[2]) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_several_loras_add_up_as_diffusers_fuses_them_one_after_the_other(saved, tmp_path, dtype):
    names = []
    for seed in (1, 2):
        (tmp_path / f"style{seed}").mkdir()
        as_kohya(tmp_path / f"style{seed}" / "pytorch_lora_weights.safetensors", drawn("sd", seed), 1.0)
        names.append(str(tmp_path / f"style{seed}"))
    model = load_image(str(saved("sd")), device="cpu", dtype=dtype, lora=[f"{names[0]}:0.5", names[1]])
    plain = load_image(str(saved("sd")), device="cpu", dtype=dtype).pipeline
    for name, scale in zip(names, (0.5, 1.0), strict=True):
        plain.load_lora_weights(name, adapter_name="one")
        plain.fuse_lora(components=["unet", "text_encoder"], lora_scale=scale)
        plain.unload_lora_weights()
    for (part, name, own), (_, _, other) in zip(weights(model.pipeline), weights(plain), strict=True):
        assert torch.equal(own, other), (part, name)


def test_the_sum_of_squares_of_a_product_is_found_without_it():
    for up, down in (*drawn("sd").values(), *drawn("flux").values()):
        assert math.isclose(product_squares(up, down), float(product(up, down).double().square().sum()), rel_tol=1e-5)


# ---------------------------------------------------------------------- names


def test_a_run_is_named_by_the_base_and_by_every_file_and_scale(saved, tmp_path):
    folder, file = str(saved("sd")), tmp_path / "style.safetensors"
    as_peft(file, drawn("sd"))
    as_peft(tmp_path / "other.safetensors", drawn("sd", 1))
    plain = look_up_image(folder)

    def name(*lora: str) -> str:
        from interp.experiments.run_names import run_hash
        from probes.t2i_flow.experiment import T2IFlow

        facts = look_up_image(folder, lora=lora)
        assert facts.identity == load_image(folder, lora=lora).identity
        return run_hash(T2IFlow(model=folder, lora=lora), facts)

    other = str(tmp_path / "other.safetensors")
    named = {
        name(),
        name(f"{file}"),
        name(f"{file}:0.5"),
        name(other),
        name(f"{file}", other),
        name(other, f"{file}:0.5"),
    }
    assert len(named) == 6
    assert name(f"{file}:1.0") == name(str(file))
    moved = Path(shutil.copy(file, tmp_path / "renamed.safetensors"))
    assert name(str(moved)) == name(str(file))
    identity = look_up_image(folder, lora=[f"{file}:0.5", other]).identity
    assert identity.base == plain.identity
    assert identity.name == "tiny-sd+style@0.5+other"
    assert [(one.source, one.scale, len(one.sha256)) for one in identity.loras] == [
        (str(file), 0.5, 64),
        (other, 1.0, 64),
    ]


def test_a_colon_may_be_part_of_a_path(tmp_path):
    file = tmp_path / "a:0.5"
    as_peft(file, drawn("sd"))
    assert find_loras(str(file))[0].scale == 1
    assert find_loras(f"{file}:0.25")[0].scale == 0.25


# ---------------------------------------------------------------------- refusals


def changed(
    change: Callable[[dict[str, Tensor]], Any], write: Any = as_peft, family: str = "sd", alpha: Any = None
) -> Any:
    """A file of these tensors, changed in place."""

    def act(file: Path) -> None:
        write(file, drawn(family), alpha)
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)

    return act


def key(tensors: dict[str, Tensor], mark: str) -> str:
    return next(name for name in tensors if mark in name)


def add(name: str) -> Any:
    return changed(lambda tensors: tensors.update({name: torch.ones(2, 2)}))


def renamed(tensors: dict[str, Tensor], old: str, new: str) -> None:
    for name in [name for name in tensors if old in name]:
        tensors[name.replace(old, new)] = tensors.pop(name)


REFUSED: dict[str, tuple[Any, str]] = {
    "missing": (lambda file: None, r"There is no LoRA .*style\.safetensors: name a \.safetensors file or a folder"),
    "cut off": (lambda file: file.write_bytes(b"\x10\x00"), r"cannot be read \(.*copy the file again"),
    "of another architecture": (
        changed(lambda t: [t.pop(name) for name in list(t) if "text_encoder" in name], family="flux"),
        "changes no module that this pipeline has, so it is of another arch",
    ),
    "of another architecture with the same text encoder": (
        changed(lambda t: None, family="flux"), "3 of the 9 modules that it changes are not in this pipeline",
    ),
    "of another model of its kind": (changed(lambda t: None, family="sdxl"), r"cannot be added to this StableDiffusionPipeline \("),
    "partly matched": (
        changed(lambda t: renamed(t, f"unet.{UNET}.proj_in", "unet.down_blocks.7.proj_in")),
        "1 of the 11 modules that it changes are not in this pipeline",
    ),
    "of a part that is not there": (
        changed(lambda t: renamed(t, "text_encoder.encoder.layers.1", "text_encoder_2.encoder.layers.1")),
        "3 of the 11 modules that it changes are not in this pipeline",
    ),
    "of other sizes": (
        changed(lambda t: t.update({key(t, "to_k.lora_A"): torch.ones(2, 5)})), r"cannot be added to this .* \(.*size mismatch",
    ),
    "other ranks of the two factors": (
        changed(lambda t: t.update({key(t, "to_k.lora_A"): torch.ones(3, 16)})), r"cannot be added to this .* \(",
    ),
    "not finite": (changed(lambda t: t[key(t, "lora_B")].fill_(math.nan)), "it holds numbers that are not finite"),
    "no LoRA": (lambda file: save_file({"unet.conv_in.weight": torch.ones(2)}, file), r"holds no LoRA weights \(such as unet\.conv"),
    "empty": (lambda file: save_file({}, file), "holds no LoRA weights"),
    "half a change": (changed(lambda t: t.pop(key(t, "lora_B"))), "holds one half of a change only, of "),
    "an alpha of nothing": (
        changed(lambda t: t.update({"lora_unet_x.alpha": torch.tensor(1.0)}), as_kohya), "one half of a change only, of lora_unet_x",
    ),
    "alphas for some modules": (
        changed(lambda t: t.pop(key(t, "conv_in.alpha")), as_kohya, alpha=1.0), "reads its change as .* times what the file says",
    ),
    "queries of a text encoder, which diffusers loses without the output": (
        changed(lambda t: [t.pop(name) for name in list(t) if "out_proj" in name], as_kohya), "2 of the 9 modules that it changes are not",
    ),
    "DoRA": (add("lora_unet_conv_in.dora_scale"), r"holds magnitudes of DoRA in 1 of 23 tensors"),
    "DoRA of peft": (add("unet.conv_in.lora_magnitude_vector"), r"holds magnitudes of DoRA in 1 of 23 tensors"),
    "LoKr": (add("lora_unet_conv_in.lokr_w1"), r"holds factors of LoKr"),
    "LoHa": (add("lora_unet_conv_in.hada_w1_a"), r"holds factors of LoHa"),
    "Tucker": (add("lora_unet_conv_in.lora_mid.weight"), r"holds factors of a Tucker decomposition"),
    "biases": (add("unet.conv_in.lora_B.bias"), r"holds biases in 1 of 23 tensors"),
    "differences": (add("lora_unet_conv_in.diff_b"), r"holds whole differences of weights"),
    "norms": (add("transformer.transformer_blocks.0.attn.norm_q.weight"), r"holds whole norms"),
    "learned words": (add("bundle_emb.cat.string_to_param.*"), r"holds embeddings in 1 of 23 tensors, such as bundle_emb"),
}  # fmt: skip


@pytest.mark.parametrize(("write", "words"), REFUSED.values(), ids=REFUSED)
def test_a_lora_that_would_be_lost_in_part_is_refused_in_one_sentence(saved, tmp_path, write, words):
    file = tmp_path / "style.safetensors"
    write(file)
    with pytest.raises(UserError, match=words) as caught:
        load_image(str(saved("sd")), device="cpu", lora=str(file))
    assert "\n" not in str(caught.value)
    assert "style" in str(caught.value)


def both(stem: str, n_in: int, n_out: int) -> dict[str, Tensor]:
    return {f"{stem}.lora_down.weight": torch.ones(2, n_in), f"{stem}.lora_up.weight": torch.ones(n_out, 2)}


LEFT_OUT = {
    "layers of T5": both("text_encoders.t5xxl.transformer.encoder.block.0", 2, 2),
    "a last layer, which gets no part": both("lora_unet_final_layer_linear", 32, 16),
}


@pytest.mark.parametrize("more", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_diffusers_leaves_out_of_flux_files_is_refused(saved, tmp_path, more):
    stem, file = "lora_unet_double_blocks_0_img_attn_proj", tmp_path / "style.safetensors"
    tensors = {**both(stem, 32, 32), f"{stem}.alpha": torch.tensor(1.0)}
    save_file(tensors, file)
    base, model = (load_image(str(saved("flux")), device="cpu", lora=lora).pipeline for lora in ((), str(file)))
    before, after = (one.transformer.transformer_blocks[0].attn.to_out[0].weight for one in (base, model))
    torch.testing.assert_close(after, before + 0.5 * torch.ones(32, 2) @ torch.ones(2, 32))
    save_file(tensors | more, file)
    with pytest.raises(UserError, match="1 of the 2 modules that it changes are not in this pipeline"):
        load_image(str(saved("flux")), device="cpu", lora=str(file))


@pytest.mark.parametrize("size", [1.0, 1e-3, 0.0])
@pytest.mark.parametrize("more", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_module_of_any_size_is_missed_beside_one_that_becomes_several(saved, tmp_path, more, size):
    """Queries, keys and values that are one module in the file are three in the pipeline, which had made up for what was left out."""
    stem, file = "lora_unet_double_blocks_0_img_attn_qkv", tmp_path / "style.safetensors"
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(2, 32, generator=generator), torch.randn(96, 2, generator=generator))
    tensors = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
    save_file(tensors, file)
    base, model = (load_image(str(saved("flux")), device="cpu", lora=lora).pipeline for lora in ((), str(file)))
    for number, name in enumerate(("to_q", "to_k", "to_v")):
        before, after = (one.transformer.transformer_blocks[0].attn.get_submodule(name).weight for one in (base, model))
        torch.testing.assert_close(after, before + 0.5 * up[32 * number : 32 * number + 32] @ down)
    save_file(tensors | {name: size * one for name, one in more.items()}, file)
    with pytest.raises(UserError, match="modules that it changes are not in this pipeline"):
        load_image(str(saved("flux")), device="cpu", lora=str(file))


def test_an_alpha_that_diffusers_ignores_on_a_small_change_beside_a_large_one_is_refused(saved, tmp_path):
    file, stem = tmp_path / "style.safetensors", "transformer.transformer_blocks.0.attn.to_q"
    large = both("transformer.transformer_blocks.1.attn.to_q", 32, 32)
    small = {name: 1e-2 * one for name, one in both(stem, 32, 32).items()}
    save_file({**large, **small, f"{stem}.alpha": torch.tensor(1.0)}, file)
    with pytest.raises(UserError, match="so parts or alphas are lost"):
        load_image(str(saved("flux")), device="cpu", lora=str(file))


def test_an_alpha_that_diffusers_ignores_in_flux_files_is_refused(saved, tmp_path):
    file, stem = tmp_path / "style.safetensors", "transformer.transformer_blocks.0.attn.to_q"
    save_file({**both(stem, 32, 32), f"{stem}.alpha": torch.tensor(1.0)}, file)
    with pytest.raises(
        UserError, match="diffusers reads its change as 2 times what the file says, so parts or alphas are lost"
    ):
        load_image(str(saved("flux")), device="cpu", lora=str(file))


SGM = {
    "input_blocks_1_1_transformer_blocks_0_attn2_to_k": f"{CROSS}.attn2.to_k",
    "middle_block_1_transformer_blocks_0_attn1_to_out_0": "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
}


@pytest.mark.parametrize(("name", "place"), SGM.items(), ids=SGM)
def test_blocks_of_sdxl_are_numbered_as_in_files_of_kohya(saved, tmp_path, name, place):
    file = tmp_path / "style.safetensors"
    base = load_image(str(saved("sdxl")), device="cpu").pipeline.unet.get_submodule(place).weight
    save_file(
        {**both(f"lora_unet_{name}", base.shape[1], base.shape[0]), f"lora_unet_{name}.alpha": torch.tensor(0.5)}, file
    )
    fused = load_image(str(saved("sdxl")), device="cpu", lora=f"{file}:2").pipeline.unet.get_submodule(place).weight
    torch.testing.assert_close(fused, base + 2 * 0.5 / 2 * 2 * torch.ones_like(base))


def test_a_wider_lora_does_not_widen_a_flux(saved, tmp_path):
    file = tmp_path / "control.safetensors"
    save_file(
        {
            "transformer.x_embedder.lora_A.weight": torch.ones(2, 32),
            "transformer.x_embedder.lora_B.weight": torch.ones(32, 2),
        },
        file,
    )
    with pytest.raises(UserError, match="its layers are wider than the model's"):
        load_image(str(saved("flux")), device="cpu", lora=str(file))
    save_file(
        {
            "transformer.x_embedder.lora_A.weight": torch.ones(2, 8),
            "transformer.x_embedder.lora_B.weight": torch.ones(32, 2),
        },
        file,
    )
    with pytest.raises(UserError, match="its layers have other sizes than the model's"):
        load_image(str(saved("flux")), device="cpu", lora=str(file))


@pytest.mark.parametrize("reader", [load_image, look_up_image])
def test_what_is_typed_wrong_is_said_before_anything_is_loaded(saved, tmp_path, reader):
    folder, file = str(saved("sd")), tmp_path / "style.safetensors"
    as_peft(file, drawn("sd"))
    for scale in ("", "strong", "nan", "inf", "1e999", "0,8"):
        with pytest.raises(
            UserError,
            match=rf"^'{scale}' in --lora .*style\.safetensors:{scale} is not a number: write PATH or PATH:SC",
        ):
            reader(folder, lora=f"{file}:{scale}")
    for name in ("style.bin", "style.ckpt", "style.pt"):
        (tmp_path / name).write_bytes(b"\x80\x02")
        with pytest.raises(UserError, match=rf"{name} holds pickled weights, which are not read"):
            reader(folder, lora=str(tmp_path / name))
    two, none, bin_only = (tmp_path / name for name in ("two", "none", "bin"))
    for place in (two, none, bin_only):
        place.mkdir()
    for name in ("a", "b"):
        shutil.copy(file, two / f"{name}.safetensors")
    (bin_only / "pytorch_lora_weights.bin").write_bytes(b"\x80\x02")
    for place, words in (
        (two, r"several files of weights \(a\.safetensors, b\.s"),
        (none, "holds no .safetensors"),
        (bin_only, "pickled"),
    ):
        with pytest.raises(UserError, match=words):
            reader(folder, lora=str(place))
    with pytest.raises(UserError, match="There is no LoRA someone/style: name a"):
        reader(folder, lora="someone/style:0.5")


@pytest.mark.parametrize("family", WITHOUT)
def test_families_whose_pipelines_read_no_lora_are_refused(saved, tmp_path, family):
    file = tmp_path / "style.safetensors"
    as_peft(file, drawn("sd"))
    with pytest.raises(
        UserError, match=rf"tiny-{family} is a \w+Pipeline, for which diffusers reads no LoRA: leave out --lora"
    ):
        look_up_image(str(saved(family)), lora=str(file))


def test_without_peft_the_sentence_says_what_to_type(saved, tmp_path, monkeypatch):
    as_peft(tmp_path / "style.safetensors", drawn("sd"))
    monkeypatch.setattr("diffusers.utils.is_peft_available", lambda: False)
    with pytest.raises(UserError, match="read with peft, which is not installed: type pip install peft"):
        look_up_image(str(saved("sd")), lora=str(tmp_path / "style.safetensors"))


def test_a_lora_in_the_place_of_a_model_is_refused_with_the_flag_for_it(tmp_path):
    as_peft(tmp_path / "style.safetensors", drawn("sd"))
    for place in (tmp_path, tmp_path / "style.safetensors"):
        for reader in (load_image, look_up_image):
            with pytest.raises(
                UserError,
                match=r"is a LoRA without its pipeline: name the pipeline .* with --model, and this one with --lora",
            ):
                reader(str(place))
