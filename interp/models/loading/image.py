"""From a name to a text-to-image pipeline in memory, with a plain sentence for everything that can go wrong on the way."""

import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError
from safetensors import SafetensorError
from transformers.utils.hub import resolve_revision

from interp.errors import ArgumentError, RunError
from interp.models.identity import DtypeName, ModelFacts, ModelIdentity
from interp.models.image.families import family_of
from interp.models.image.family import Family
from interp.models.image.model import ImageModel
from interp.models.loading.converted import without_progress_bars
from interp.models.loading.footprint import Footprint, free_bytes, image_weights_bytes, outline_parts, say_footprint
from interp.models.loading.language import folder_sha256, pick_device, pick_dtype
from interp.models.loading.lora import check_takes_lora, fuse, with_loras
from interp.models.loading.lora_files import Lora, LoraNames, find_loras, holds_lora
from interp.models.loading.names import ADAPTER_CONFIG, ModelEntry, resolve
from interp.models.loading.refusals import explained, too_large

LOG = logging.getLogger(__name__)


def load_image(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    device_map: str | None = None,
    lora: LoraNames = (),
) -> ImageModel:
    """Returns the text-to-image model of that name (alias, Hugging Face id or folder), ready to draw.

    `device` and `dtype` as in `interp.models.load`; `device_map="auto"` spreads the parts over all GPUs. Each `lora`, PATH or
    PATH:SCALE, is added to the weights: a safetensors file, or a folder that save_lora_weights wrote.
    Only safetensors weights are read, no code from a model's repository is run, and a safety checker is left out: it would
    silently turn pictures black.
    Raises UserError, in one sentence, when the model is unknown, of an unsupported class, gated, unreachable or too large, and when
    a LoRA does not come onto it whole.
    """
    import diffusers

    _refuse_parts(Path(name))
    entry = resolve(name, revision, kind="image")
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    source, family = _source_and_family(entry)
    loras = _found_loras(entry, family, lora)
    options: dict[str, Any] = {"revision": source.revision, "trust_remote_code": False}
    # A pipeline that was saved without a part, such as SD3 without its T5, wants to be told so again.
    options |= {part: None for part, kind in source.index.items() if kind == [None, None]}
    if entry.folder is not None and (variant := only_variant(entry.folder)):
        LOG.warning("%s holds its weights as the variant %s only: these are read.", entry.name, variant)
        options["variant"] = variant
    if "safety_checker" in source.index:
        options |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        with _quiet():
            weights = getattr(torch, precision)
            needs = image_weights_bytes(source.folder_or_id, source.index, weights, source.revision)
            say_footprint(entry.name, Footprint(needs, 0, None), place, free_bytes(place, device_map))
            options |= _own_parts(source, weights)
            pipeline: Any = getattr(diffusers, family.pipeline_class).from_pretrained(
                source.folder_or_id,
                dtype=weights,
                use_safetensors=True,
                device_map=_DEVICE_MAPS.get(device_map, device_map),
                **options,
            )
            pipeline = pipeline if device_map else pipeline.to(place)
            for one in loras:
                fuse(pipeline, one)
    except torch.OutOfMemoryError as error:
        raise too_large(entry, error) from error
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError, SafetensorError, HTTPError) as error:
        raise explained(entry, error) from error
    return ImageModel(family(pipeline), with_loras(source.identity(entry, precision), loras), source.defaults)


def look_up_image(
    name: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None, lora: LoraNames = ()
) -> ModelFacts:
    """Returns what is known of a text-to-image model without loading its weights.

    Raises UserError as `load_image` does.
    """
    _refuse_parts(Path(name))
    entry = resolve(name, revision, kind="image")
    source, family = _source_and_family(entry)
    identity = source.identity(entry, pick_dtype(dtype, pick_device(device)))
    identity = with_loras(identity, _found_loras(entry, family, lora))
    return ModelFacts(identity, family.pipeline_class, None, None)


def load_image_outline(name: str, *, dtype: DtypeName, revision: str | None = None, lora: LoraNames = ()) -> ImageModel:
    """Returns the text-to-image model of that name with its tokenizers and without weights: for counting pictures.

    Raises UserError as `load_image` does.
    """
    import diffusers

    entry = resolve(name, revision, kind="image")
    source, family = _source_and_family(entry)
    try:
        with _quiet():
            parts = outline_parts(source.folder_or_id, source.index, source.revision)
            parts |= _own_parts(source, getattr(torch, dtype))
            pipeline: Any = getattr(diffusers, family.pipeline_class)(**parts)
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError, HTTPError) as error:
        raise explained(entry, error) from error
    identity = with_loras(source.identity(entry, dtype), _found_loras(entry, family, lora))
    return ImageModel(family(pipeline), identity, source.defaults)


def only_variant(folder: Path) -> str | None:
    """Returns the variant, such as fp16, in which a pipeline's folder holds the weights of some part that it has in no other form.

    None where every part has plain weights. Raises ArgumentError where parts come in different variants only.
    """
    needed: set[str] = set()
    for part in sorted({file.parent for file in folder.glob("*/*.safetensors")}):
        names = [_WEIGHTS.fullmatch(file.name) for file in part.glob("*.safetensors")]
        variants = {match["variant"] for match in names if match}
        if variants and None not in variants:
            needed |= variants
    if len(needed) > 1:
        raise ArgumentError(
            f"{folder} holds parts in the variants {' and '.join(sorted(needed))} only: save the pipeline with save_pretrained in one."
        )
    return next(iter(needed), None)


def _source_and_family(entry: ModelEntry) -> "tuple[_Source, type[Family]]":
    """Where a pipeline's files are, and what it is. Raises ArgumentError for one that was saved without a part that it is read through."""
    source = _find(entry)
    family = family_of(entry.name, source.pipeline_class)
    absent = [part for part, kind in source.index.items() if kind == [None, None] and part.startswith(_READ_THROUGH)]
    needed = [part for part in absent if part not in family.may_lack]
    if needed:
        raise ArgumentError(
            f"{entry.name} was saved without its {' and '.join(needed)}, and no text can be read without: save the pipeline with all of "
            "its text encoders (of those of SD3, T5 may be left out)."
        )
    return source, family


def _found_loras(entry: ModelEntry, family: type[Family], named: LoraNames) -> tuple[Lora, ...]:
    loras = find_loras(named)
    if loras:
        check_takes_lora(entry.name, family.pipeline_class)
    return loras


def _refuse_parts(place: Path) -> None:
    """Raises ArgumentError for files of image models that are no whole pipeline, with the way to one."""
    inside = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    whole = (place / "model_index.json").exists() or (place / ADAPTER_CONFIG).exists()  # or one of a language model
    if not whole and any(holds_lora(file) or (place.is_dir() and "lora" in file.name) for file in inside):
        raise ArgumentError(
            f"{place} is a LoRA without its pipeline: name the pipeline that it was trained on with --model, and this one with "
            f"--lora {place}."
        )
    if place.is_file() and place.suffix in (".safetensors", ".ckpt", ".gguf"):
        raise ArgumentError(
            f"{place} is one file of weights: read it with diffusers' from_single_file, save that pipeline with save_pretrained, and "
            "name the folder."
        )


_READ_THROUGH = ("text_encoder", "tokenizer")
_WEIGHTS = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(?P<variant>[^.]+?))?(?:-\d+-of-\d+)?\.safetensors")
_DEVICE_MAPS: dict[str | None, str] = {"auto": "balanced"}
"""What diffusers calls spreading a model over all GPUs."""


@dataclass(frozen=True)
class _Source:
    """Where a pipeline's files are (a folder, or a hub id at a commit), and what its index says of its parts."""

    folder_or_id: str
    revision: str | None
    pipeline_class: str
    index: dict[str, Any]
    defaults: dict[str, Any]

    def identity(self, entry: ModelEntry, dtype: DtypeName) -> ModelIdentity:
        """Returns what names exactly these weights: the hub's commit, or the sha256 of the folder's files."""
        if entry.folder is not None:
            commit = folder_sha256(entry.folder, "**/*")
        else:
            commit = getattr(self.revision, "resolved", None) or self.revision or "main"
        return ModelIdentity(name=entry.name, source=entry.source, revision=commit, dtype=dtype)


def _find(entry: ModelEntry) -> _Source:
    if entry.folder is not None:
        index, revision, folder_or_id = entry.folder / "model_index.json", None, str(entry.folder)
    else:
        revision, folder_or_id = resolve_revision(entry.source, entry.revision), entry.source
        try:
            index = Path(hf_hub_download(entry.source, "model_index.json", revision=revision))
        except RemoteEntryNotFoundError as error:
            raise ArgumentError(
                f"{entry.source} has no model_index.json, so it is not a diffusers pipeline: name one that is."
            ) from error
        except (OSError, ValueError, HTTPError) as error:
            raise explained(entry, error) from error
    try:
        read = json.loads(index.read_text(encoding="utf-8"))
        pipeline_class = read["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{index} is not what a pipeline's save_pretrained writes: save the model there again."
        ) from error
    return _Source(folder_or_id, revision, pipeline_class, read, _folder_defaults(entry.folder) if entry.folder else {})


def _own_parts(source: _Source, dtype: torch.dtype) -> dict[str, Any]:
    """The parts of a pipeline that are this toolkit's classes: diffusers imports no module that a file names."""
    if source.index.get("vae", [None, None])[1] != "PixelLatents":
        return {}
    from interp.models.pixel_latents import PixelLatents

    vae = PixelLatents.from_pretrained(
        source.folder_or_id, subfolder="vae", revision=source.revision, torch_dtype=dtype
    )
    return {"vae": vae}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences bars and advice of diffusers and transformers while a pipeline is put together."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.ERROR)
    diffusers_logging.disable_progress_bar()
    try:
        with without_progress_bars(), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", ".*is deprecated and will be removed", FutureWarning
            )  # between diffusers' own parts
            yield
    finally:
        diffusers_logging.enable_progress_bar()
        for library, verbosity in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)


def _folder_defaults(folder: Path) -> dict[str, Any]:
    """Returns what a folder's generation.json says of `steps` and `guidance`; nothing when there is no such file.

    A pipeline's own call has defaults of its class, which are wrong for a model that was trained for other ones.
    Raises RunError when the file is not an object with these two numbers.
    """
    path = folder / "generation.json"
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {"steps": int(read["steps"]), "guidance": float(read["guidance"])}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f'{path} cannot be read: it must hold {{"steps": 20, "guidance": 2.5}}.') from error
