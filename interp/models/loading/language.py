"""From a model's name to a model in memory, with a plain sentence for everything that can go wrong on the way."""

import dataclasses
import hashlib
import logging
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file, resolve_revision

from interp.assets import ASSETS, sha256_once
from interp.errors import ArgumentError, RunError
from interp.models.check.check import check_at_load
from interp.models.identity import DtypeName, ModelFacts, ModelIdentity
from interp.models.language.architecture import context_window, head_geometry
from interp.models.language.model import LanguageModel
from interp.models.loading.adapters import Fit, base_of, both_sha256, fit, is_adapter
from interp.models.loading.classes import model_class
from interp.models.loading.converted import converted_asset, converted_gguf, without_progress_bars
from interp.models.loading.footprint import footprint, free_bytes, say_footprint
from interp.models.loading.names import IDENTIFYING, ModelEntry, resolve
from interp.models.loading.refusals import check_config, check_tokenizer, explained, too_large
from interp.models.tokens.chat import chat_date


def load(
    name: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None, device_map: str | None = None
) -> LanguageModel:
    """Returns the model of that name (alias, Hugging Face id or folder), ready to read.

    `device`: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps". `dtype`: "auto" (float32 on the CPU,
    bfloat16 on a GPU), "float32", "bfloat16" or "float16". `device_map="auto"` spreads a large model over all GPUs.
    Only safetensors weights are read and no code from a model's repository is run. A short text is read in every way that
    the toolkit reads, once for the same weights and versions (interp.models.check.check); `verdicts` has what was found.
    Raises UserError, in one sentence, when the model is unknown, gated, unreachable, incomplete or too large.
    """
    entry = resolve(name, revision, kind="language")
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    source = _find(entry)
    options: dict[str, Any] = {"revision": source.revision, "trust_remote_code": False}
    if getattr(source.config, "quantization_config", None) is not None:
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns at every product
        device_map = device_map or place  # packed weights are put where they stay
    try:
        needs = footprint(source.config, getattr(torch, precision))
        say_footprint(entry.name, needs, place, free_bytes(place, device_map))
        tokenizer = _tokenizer(entry, source)
        with without_progress_bars():
            loaded: Any = model_class(source.config).from_pretrained(
                source.folder_or_id,
                config=source.config,
                dtype=getattr(torch, precision),
                use_safetensors=True,
                device_map=device_map,
                output_loading_info=True,
                **options,
            )
        hf: Any = loaded[0]
        report = loaded[1]
        if source.adapter is not None:
            hf = source.adapter.merge(hf)
        hf = hf if device_map else hf.to(device=place)
    except torch.OutOfMemoryError as error:
        raise too_large(entry, error) from error
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise explained(entry, error) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise RunError(
            f"{entry.source} lacks {len(missing)} of the weights its configuration names (such as {missing[0]}): save the model "
            "there again with save_pretrained."
        )
    model = LanguageModel(hf, tokenizer, _identify(entry, source, precision))
    check_at_load(model)
    return model


def load_outline(name: str, *, dtype: DtypeName, revision: str | None = None) -> LanguageModel:
    """Returns the model of that name with its tokenizer and without weights (on torch's "meta" device): for counting tokens.

    Raises UserError as `load` does.
    """
    entry = resolve(name, revision, kind="language")
    source = _find(entry)
    try:
        with torch.device("meta"):
            hf: Any = model_class(source.config).from_config(source.config, dtype=getattr(torch, dtype))
            if source.adapter is not None:
                source.adapter.resize(hf)
        return LanguageModel(hf, _tokenizer(entry, source), _identify(entry, source, dtype))
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise explained(entry, error) from error


@dataclass(frozen=True)
class _Source:
    """Where a model's files are: a folder, or a hub id at a commit; and the adapter to be merged onto it, if any."""

    folder_or_id: str
    revision: str | None
    config: PreTrainedConfig
    adapter: Fit | None = None
    base: ModelEntry | None = None
    """What the adapter was trained on."""


def look_up(name: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None) -> ModelFacts:
    """Returns what is known of a model from its configuration, without loading its weights.

    Raises UserError as `load` does.
    """
    entry = resolve(name, revision, kind="language")
    source = _find(entry)
    identity = _identify(entry, source, pick_dtype(dtype, pick_device(device)))
    geometry, window = head_geometry(source.config), context_window(source.config)
    return ModelFacts(identity, source.config.model_type, geometry, window, _chat_date(source))


def _chat_date(source: _Source) -> str | None:
    """The day that the chat template among a model's files writes, as far as there are such files; an adapter's own goes first."""
    places = [(source.folder_or_id, source.revision)]
    if source.adapter is not None:
        places.insert(0, (str(source.adapter.folder), None))
    for (place, revision), name in product(places, ("chat_template.jinja", "tokenizer_config.json")):
        path = cached_file(
            place,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None and (day := chat_date(Path(path).read_text(encoding="utf-8", errors="replace"))):
            return day
    return None


def _identify(entry: ModelEntry, source: _Source, dtype: DtypeName) -> ModelIdentity:
    """Returns what names exactly these weights: the hub's commit, or the sha256 of the folder's files, or of both."""
    if source.adapter is not None and source.base is not None:
        plain = dataclasses.replace(source, adapter=None, base=None)
        base = _identify(source.base, plain, dtype)
        revision = both_sha256(base.revision, folder_sha256(source.adapter.folder))
        return ModelIdentity(name=entry.name, source=entry.source, revision=revision, dtype=dtype, base=base)
    if entry.source.startswith("asset:"):
        revision = ASSETS[entry.source.removeprefix("asset:")].sha256
    elif entry.gguf is not None:
        revision = sha256_once(entry.gguf)
    elif entry.folder is not None:
        revision = folder_sha256(entry.folder)
    else:
        revision = getattr(source.revision, "resolved", None) or source.revision or "main"
    return ModelIdentity(name=entry.name, source=entry.source, revision=revision, dtype=dtype)


def pick_device(device: str) -> str:
    """Returns the torch device that is asked for: "auto" takes a GPU if there is one.

    Raises ArgumentError for a device that is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind, colon, index = device.partition(":")
    if kind not in there or (colon and not index.isdigit()):
        raise ArgumentError(f"There is no device called {device}: use --device auto, cpu, cuda, cuda:N or mps.")
    if not there[kind] or (index and kind == "cuda" and int(index) >= torch.cuda.device_count()):
        raise ArgumentError(f"This machine has no {device}: use --device cpu, or auto to take what is there.")
    return device


def pick_dtype(dtype: str, device: str) -> DtypeName:
    """Returns the precision that is asked for: "auto" is float32 on the CPU and bfloat16 elsewhere."""
    if dtype == "auto":
        return "float32" if device.startswith("cpu") else "bfloat16"
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ArgumentError(f"There is no precision called {dtype}: use --dtype auto, float32, bfloat16 or float16.")
    return dtype  # type: ignore[return-value]


def _find(entry: ModelEntry) -> _Source:
    """Returns where a model's files are.

    Raises UserError when they cannot be found, or when its configuration is not one that can be read here.
    """
    if is_adapter(entry.folder):
        assert entry.folder is not None
        base = resolve(*base_of(entry.folder), kind="language")
        if is_adapter(base.folder):
            raise RunError(
                f"{entry.source} is an adapter of an adapter ({base.source}): merge that with peft's merge_and_unload first, and name "
                "the folder that save_pretrained writes as base_model_name_or_path."
            )
        source = _find(base)
        return dataclasses.replace(source, adapter=fit(entry.folder, source.config), base=base)
    if entry.source.startswith("asset:"):
        folder = str(converted_asset(entry.source.removeprefix("asset:")))
        return _Source(folder, None, AutoConfig.from_pretrained(folder))
    if entry.gguf is not None:
        folder = str(converted_gguf(entry.gguf))
        config = AutoConfig.from_pretrained(folder)
        check_config(entry, config)
        return _Source(folder, None, config)
    folder_or_id = str(entry.folder or entry.source)
    revision = None if entry.folder else resolve_revision(entry.source, entry.revision)
    try:
        config = AutoConfig.from_pretrained(folder_or_id, revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise explained(entry, error) from error
    check_config(entry, config)
    return _Source(folder_or_id, revision, config)


def _tokenizer(entry: ModelEntry, source: _Source) -> PreTrainedTokenizerBase:
    """The tokenizer beside the weights; an adapter's own goes before that of the model it was trained on.

    Raises RunError when there is none, or when it is another model's.
    """
    adapter = source.adapter.folder if source.adapter else None
    own = adapter is not None and any((adapter / name).is_file() for name in TOKENIZER_FILES)
    place, revision = (str(adapter), None) if own else (source.folder_or_id, source.revision)
    folder = Path(place)
    if folder.is_dir() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise RunError(
            f"{folder} has no tokenizer files: save the model's tokenizer there too, with AutoTokenizer.from_pretrained(…)"
            ".save_pretrained."
        )
    tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False)
    check_tokenizer(entry, tokenizer, source.config, source.adapter.rows if source.adapter else None)
    return tokenizer


TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
    "sentencepiece.bpe.model",
)
"""Files that hold a tokenizer's vocabulary, whatever its kind."""


def folder_sha256(folder: Path, pattern: str = "*") -> str:
    """Returns a sha256 over the names and contents of the folder's files that make a model what it is.

    A file is read once in a process, for as long as it stays as it is.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.glob(pattern) if path.suffix in IDENTIFYING):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_once(path)}\n".encode())
    return digest.hexdigest()


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Returns the fast tokenizer of a model (alias, Hugging Face id) or of a folder, which may hold nothing else.

    Raises ArgumentError for a folder without tokenizer files and for a slow tokenizer; UserError for what cannot be read or found.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in TOKENIZER_FILES):
            raise ArgumentError(
                f"{folder} has no tokenizer files: name a folder that a tokenizer's save_pretrained wrote, or a model."
            )
        entry, place = ModelEntry(folder.name, str(folder)), str(folder)
    else:
        entry = resolve(name, kind="language")
        asset = entry.source.startswith("asset:")
        place = str(converted_asset(entry.source.removeprefix("asset:")) if asset else entry.folder or entry.source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=entry.revision, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise explained(entry, error) from error
    if not tokenizer.is_fast:
        raise ArgumentError(
            f"{name} has a slow tokenizer ({type(tokenizer).__name__}): name one with a tokenizer.json."
        )
    return tokenizer
