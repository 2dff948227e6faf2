"""LoRA added to the weights of a text-to-image pipeline, by diffusers, and compared with what its file says.

Diffusers finds the modules for the names of many formats, and only logs what it leaves out. So what it puts onto the pipeline is
compared with the file: as many modules, numbers and rows that are written to, and the same sum of squares of each change, which no
renaming, splitting or reordering of rows alters.
"""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from interp.errors import ArgumentError, RunError, UserError
from interp.models.identity import ModelIdentity
from interp.models.loading.adapters import PEFT_FAILS
from interp.models.loading.lora_files import DOWN, UP, Lora, Pair, product_squares, read_pairs

TOLERANCES = {torch.float32: 1e-3}
"""Largest relative difference of two sums of squares that is rounding, by the pipeline's precision: a file's numbers are multiplied by
their factor in the precision of either."""
HALF_TOLERANCE = 1e-2

_NAME = "read_here"


def with_loras(base: ModelIdentity, loras: Sequence[Lora]) -> ModelIdentity:
    """Returns the identity of a pipeline with these changes: its revision is a sha256 over the base's, every file's and the scales."""
    if not loras:
        return base
    added = tuple(lora.identity() for lora in loras)
    written = " ".join([base.revision, *(f"{one.sha256} {one.scale!r}" for one in added)])
    name = "+".join([base.name, *(one.name + ("" if one.scale == 1 else f"@{one.scale:g}") for one in added)])
    revision = hashlib.sha256(written.encode()).hexdigest()
    return ModelIdentity(name, base.source, revision, base.dtype, base, added)


def check_takes_lora(name: str, pipeline_class: str) -> None:
    """Raises UserError where diffusers has no way to read a LoRA for a class of pipelines, or peft is not installed."""
    import diffusers
    from diffusers.utils import is_peft_available

    if not hasattr(getattr(diffusers, pipeline_class), "load_lora_weights"):
        raise ArgumentError(
            f"{name} is a {pipeline_class}, for which diffusers reads no LoRA: leave out --lora, or merge it with the tool that trained "
            "it and name that pipeline's folder."
        )
    if not is_peft_available():
        raise RunError("A LoRA is read with peft, which is not installed: type pip install peft.")


def fuse(pipeline: Any, lora: Lora) -> None:
    """Adds scale · alpha / rank · B · A to the pipeline's weights, in their precision, and leaves nothing else behind.

    Raises UserError when a part of the file has no place in the pipeline, or does not come out as the file says; the pipeline is
    then of no further use.
    """
    pairs = read_pairs(lora.file)
    parts = {name: getattr(pipeline, name, None) for name in pipeline._lora_loadable_modules}
    parts = {name: part for name, part in parts.items() if part is not None}
    for name, part in parts.items():
        if getattr(part.config, "quantization_config", None) is not None:
            raise _cannot(
                lora, pipeline, f"the weights of its {name} are quantised, and a sum would be rounded once more"
            )
    shapes = _shapes(parts)
    try:
        pipeline.load_lora_weights(str(lora.file), adapter_name=_NAME, use_safetensors=True)
        _check_all_there(lora, pipeline, pairs, list(_layers(parts)))
        if _shapes(parts) != shapes:
            raise _cannot(lora, pipeline, "its layers are wider than the model's")
        pipeline.fuse_lora(components=list(parts), lora_scale=lora.scale, adapter_names=[_NAME])
        pipeline.unload_lora_weights()
    except PEFT_FAILS as error:
        raise _cannot(lora, pipeline, _said(error)) from error


# ---------------------------------------------------------------------- what has come onto the pipeline


def _said(error: Exception) -> str:
    """The reason in what diffusers, peft or torch raises, on one line."""
    if isinstance(error, KeyError):
        return f"diffusers looks in it for {error.args[0]}"
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    heading = lines[0].endswith(":") and len(lines) > 1
    return lines[1 if heading else 0][:200].rstrip(". ")


def _layers(parts: dict[str, Any]) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Factor, B and A of every module that has a change now."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for part in parts.values():
        for module in part.modules():
            if isinstance(module, BaseTunerLayer) and _NAME in getattr(module, "lora_A", {}):
                layer: Any = module
                yield layer.scaling[_NAME], layer.lora_B[_NAME].weight.detach(), layer.lora_A[_NAME].weight.detach()


def _check_all_there(
    lora: Lora, pipeline: Any, pairs: Sequence[Pair], layers: list[tuple[float, Tensor, Tensor]]
) -> None:
    """Raises UserError unless all that the file changes is on the pipeline, as the file has it."""
    read = pipeline.lora_state_dict(str(lora.file), use_safetensors=True, **_unet_config(pipeline))
    read = read[0] if isinstance(read, tuple) else read
    wanted = [tensor for key, tensor in read.items() if UP.search(key)]
    n_wanted = max(len(wanted), len(pairs))  # one change may be split into several, and none is lost by that
    if not layers:
        raise _cannot(lora, pipeline, "it changes no module that this pipeline has, so it is of another architecture")
    if len(layers) < n_wanted:
        raise _cannot(
            lora,
            pipeline,
            f"{n_wanted - len(layers)} of the {n_wanted} modules that it changes are not in this pipeline",
        )
    numbers = sum(tensor.numel() for key, tensor in read.items() if UP.search(key) or DOWN.search(key))
    if numbers != sum(up.numel() + down.numel() for _, up, down in layers):
        raise _cannot(lora, pipeline, "its layers have other sizes than the model's")
    dtype = layers[0][1].dtype
    with safe_open(lora.file, framework="pt") as opened:
        rows = sum(opened.get_slice(pair.up).get_shape()[0] for pair in pairs)
        said = [pair.squares(opened, dtype) for pair in pairs]
    if rows != sum(len(up) for _, up, _ in layers):  # a module that becomes several makes up for none that is left out
        raise _cannot(lora, pipeline, f"some of the {n_wanted} modules that it changes are not in this pipeline")
    if not math.isfinite(sum(said)):
        raise _cannot(lora, pipeline, "it holds numbers that are not finite")
    put = [factor**2 * product_squares(up, down) for factor, up, down in layers]
    unlike_said, unlike_put = unlike(said, put, TOLERANCES.get(dtype, HALF_TOLERANCE))
    if unlike_said or unlike_put:
        apart = math.sqrt(sum(unlike_put) / sum(unlike_said)) if sum(unlike_said) else math.inf
        raise _cannot(
            lora,
            pipeline,
            f"diffusers reads its change as {apart:.3g} times what the file says, so parts or alphas are lost",
        )


def unlike(said: Sequence[float], put: Sequence[float], tolerance: float) -> tuple[list[float], list[float]]:
    """Returns the squares of the changes that are in one of the lists alone; none where what is left over has the same sum.

    That is so where modules of the file have become several: fewer numbers are left over of the file than of the pipeline.
    """
    rest, alone = sorted(put), []
    for value in sorted(said):
        place = bisect_left(rest, value * (1 - tolerance))
        if place < len(rest) and rest[place] <= value * (1 + tolerance):
            rest.pop(place)
        else:
            alone.append(value)
    if len(alone) < len(rest) and abs(sum(alone) - sum(rest)) <= tolerance * sum(alone):
        return [], []
    return alone, rest


def _unet_config(pipeline: Any) -> dict[str, Any]:
    """What SDXL's reader needs to number its blocks."""
    return {"unet_config": pipeline.unet.config} if type(pipeline).__name__.startswith("StableDiffusionXL") else {}


def _shapes(parts: dict[str, Any]) -> dict[str, list[torch.Size]]:
    """Sizes of all weights, without those of changes that are beside them."""
    return {
        name: [weight.shape for key, weight in part.named_parameters() if ".lora_" not in key]
        for name, part in parts.items()
    }


def _cannot(lora: Lora, pipeline: Any, reason: str) -> UserError:
    return RunError(
        f"The LoRA {lora.file} cannot be added to this {type(pipeline).__name__} ({reason}): name the pipeline that it was trained on "
        "with --model, or a LoRA that diffusers reads whole."
    )
