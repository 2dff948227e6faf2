"""From a model's name to a model in memory, with a plain sentence for everything that can go wrong on the way."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig

from interp.assets import ASSETS, cache_folder, fetch_asset, file_sha256
from interp.errors import ArgumentError, RunError, UserError
from interp.models.architecture import context_window, head_geometry
from interp.models.identity import DtypeName, ModelFacts, ModelIdentity
from interp.models.language import LanguageModel
from interp.models.registry import ModelEntry, resolve


def load(
    name: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None, device_map: str | None = None
) -> LanguageModel:
    """Returns the model of that name (alias, Hugging Face id or folder), ready to read.

    `device`: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps". `dtype`: "auto" (float32 on the CPU,
    bfloat16 on a GPU), "float32", "bfloat16" or "float16". `device_map="auto"` spreads a large model over all GPUs.
    Only safetensors weights are read and no code from a model's repository is run.
    Raises UserError, in one sentence, when the model is unknown, gated, unreachable, incomplete or too large.
    """
    entry = resolve(name, revision)
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    folder_or_id, config = _config(entry)
    options: dict[str, Any] = {"revision": entry.revision} if entry.revision and not Path(folder_or_id).is_dir() else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder_or_id, **options)
        with _without_progress_bars():
            hf: Any = AutoModelForCausalLM.from_pretrained(
                folder_or_id,
                config=config,
                dtype=getattr(torch, precision),
                use_safetensors=True,
                device_map=device_map,
                **options,
            )
        hf = hf if device_map else hf.to(device=place)
    except torch.OutOfMemoryError as error:
        raise _too_large(entry, error) from error
    except (OSError, ValueError) as error:
        raise _explained(entry, error) from error
    return LanguageModel(hf, tokenizer, _identify(entry, config, precision))


def look_up(name: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None) -> ModelFacts:
    """Returns what is known of a model from its configuration, without loading its weights.

    Raises UserError as `load` does.
    """
    entry = resolve(name, revision)
    _, config = _config(entry)
    identity = _identify(entry, config, pick_dtype(dtype, pick_device(device)))
    return ModelFacts(identity, config.model_type, head_geometry(config), context_window(config))


def _identify(entry: ModelEntry, config: PreTrainedConfig, dtype: DtypeName) -> ModelIdentity:
    """Returns what names exactly these weights: the hub's commit, or the sha256 of the folder's files."""
    if entry.source.startswith("asset:"):
        revision = ASSETS[entry.source.removeprefix("asset:")].sha256
    elif Path(entry.source).is_dir():
        revision = _folder_sha256(Path(entry.source))
    else:
        revision = getattr(config, "_commit_hash", None) or entry.revision or "main"
    return ModelIdentity(name=entry.name, source=entry.source, revision=revision, dtype=dtype)


def pick_device(device: str) -> str:
    """Returns the torch device for a wish: "auto" takes a GPU if there is one.

    Raises ArgumentError for a device that is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind, _, index = device.partition(":")
    if kind not in there or (index and not index.isdigit()):
        raise ArgumentError(f"There is no device called {device}: use --device auto, cpu, cuda, cuda:N or mps.")
    if not there[kind] or (index and kind == "cuda" and int(index) >= torch.cuda.device_count()):
        raise ArgumentError(f"This machine has no {device}: use --device cpu, or auto to take what is there.")
    return device


def pick_dtype(dtype: str, device: str) -> DtypeName:
    """Returns the precision for a wish: "auto" is float32 on the CPU and bfloat16 elsewhere."""
    if dtype == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ArgumentError(f"There is no precision called {dtype}: use --dtype auto, float32, bfloat16 or float16.")
    return dtype  # type: ignore[return-value]


def _config(entry: ModelEntry) -> tuple[str, PreTrainedConfig]:
    if entry.source.startswith("asset:"):
        folder = str(converted_asset(entry.source.removeprefix("asset:")))
        return folder, AutoConfig.from_pretrained(folder)
    is_folder = Path(entry.source).is_dir()
    try:
        revision = {} if is_folder or entry.revision is None else {"revision": entry.revision}
        return entry.source, AutoConfig.from_pretrained(entry.source, **revision)
    except (OSError, ValueError, KeyError) as error:
        raise _explained(entry, error) from error


def converted_asset(name: str) -> Path:
    """Returns the folder with a GGUF asset's weights as float32 safetensors, converted on the first call (about 15 s)."""
    import filelock

    asset = ASSETS[name]
    gguf = fetch_asset(asset)
    folder = cache_folder() / "models" / f"{name}-{asset.sha256[:12]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                with _without_progress_bars():
                    _convert(gguf, folder)
    except OSError as error:
        raise RunError(
            f"The converted model cannot be written to {folder} ({error.strerror or error}): it needs 540 MB; set "
            "INTERP_CACHE to a folder with room."
        ) from error
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import GgufConfig

    workplace = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        # Without dequantize=True the weights load but cannot be saved.
        quantization = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, quantization_config=quantization
        )
        model.save_pretrained(workplace)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(workplace)
        workplace.rename(folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Silences the bars of transformers, which the runner's own would be lost among; downloads keep theirs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _folder_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _explained(entry: ModelEntry, error: Exception) -> UserError:
    """The sentence for what transformers and the hub raise; the original stays attached as the cause."""
    text = f"{type(error).__name__} {error} {error.__cause__!r}"
    if "gated" in text.lower() or "401" in text or "403" in text:
        return RunError(
            f"{entry.source} is gated: accept its licence on its hub page and set HF_TOKEN to your access token, or pass "
            "--model FOLDER with a copy."
        )
    if "couldn't connect" in text or "offline" in text.lower() or "LocalEntryNotFound" in text:
        return RunError(
            f"{entry.source} is not on this machine and the model hub cannot be reached: connect to it, or pass --model FOLDER "
            "with a copy, or --model smollm2-135m, which needs no hub."
        )
    if "not a valid model identifier" in text or "404" in text or "RepositoryNotFound" in text:
        return ArgumentError(
            f"The hub has no model {entry.source}: check the spelling, or set HF_TOKEN if it is private."
        )
    if "not a valid git identifier" in text or "RevisionNotFound" in text:
        return ArgumentError(f"{entry.source} has no revision {entry.revision}: its hub page lists branches and tags.")
    if "safetensors" in text:
        return RunError(
            f"{entry.source} has no safetensors weights, and pickled weights are not read: convert it with transformers' "
            "save_pretrained and pass --model FOLDER."
        )
    first_line = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return RunError(f"{entry.source} cannot be loaded ({first_line}): see --debug for the whole story.")


def _too_large(entry: ModelEntry, error: Exception) -> UserError:
    first_line = str(error).splitlines()[0].rstrip(".")
    return RunError(
        f"{entry.name} does not fit on the device ({first_line}): try --dtype bfloat16, --device-map auto, or --device cpu."
    )
