"""Files of LoRA weights for text-to-image pipelines: which are meant, and what each says of the changes that it holds.

The formats that people have (diffusers' own, peft's, kohya's, those of FLUX trainers) name modules in many ways, and the two factors
of a change in few, so a file can be read as far as this without knowing the modules.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from interp.assets import file_sha256
from interp.errors import ArgumentError
from interp.models.identity import LoraIdentity

LoraNames = str | Path | Sequence[str | Path]
"""What says which LoRAs are wanted: PATH or PATH:SCALE, or several of them."""
WEIGHTS = "pytorch_lora_weights.safetensors"
"""The file that a pipeline's save_lora_weights writes."""
PICKLED = (".bin", ".ckpt", ".pt", ".pth")
DOWN = re.compile(r"[._](?:lora(?:_linear_layer)?(?P<n>\d?)\.down|lora_down|lora_A)\.weight$")
UP = re.compile(r"[._](?:lora(?:_linear_layer)?(?P<n>\d?)\.up|lora_up|lora_B)\.weight$")


@dataclass(frozen=True)
class Lora:
    """A file of LoRA weights and the factor on its change."""

    file: Path
    scale: float

    def identity(self) -> LoraIdentity:
        """Returns what names exactly this change: it reads the whole file."""
        return LoraIdentity(_label(self.file), str(self.file), file_sha256(self.file), self.scale)


def find_loras(words: LoraNames) -> tuple[Lora, ...]:
    """Returns the files that are named, in order, each by PATH or PATH:SCALE; a folder must hold one safetensors file of weights.

    Raises ArgumentError for a file that is missing, pickled or not of LoRA weights, and for a scale that is no finite number.
    """
    named = [words] if isinstance(words, str | Path) else words
    loras = tuple(Lora(_file(place), scale) for place, scale in (_place_and_scale(str(word)) for word in named))
    for lora in loras:
        read_pairs(lora.file)
    return loras


def holds_lora(file: Path) -> bool:
    """Whether a safetensors file holds LoRA weights, by the names in it."""
    try:
        with safe_open(file, framework="pt") as opened:
            return any(UP.search(key) for key in opened.keys())  # noqa: SIM118
    except (SafetensorError, OSError):
        return False


# ---------------------------------------------------------------------- names of files


def _place_and_scale(word: str) -> tuple[Path, float]:
    whole = Path(word).expanduser()
    before, colon, after = word.rpartition(":")
    if whole.exists() or not colon or "/" in after:
        return whole, 1.0
    try:
        scale = float(after)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale):
        raise ArgumentError(
            f"{after!r} in --lora {word} is not a number: write PATH or PATH:SCALE, such as style.safetensors:0.8."
        )
    return Path(before).expanduser(), scale


def _file(place: Path) -> Path:
    if place.is_dir():
        files = sorted(place.glob("*.safetensors"))
        found = [file for file in files if file.name == WEIGHTS] or files
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise ArgumentError(f"{place} holds several files of weights ({names}): name one of them.")
        if found:
            return found[0].resolve()
        if any(file.suffix in PICKLED for file in place.iterdir()):
            raise _pickled(place)
        raise ArgumentError(
            f"{place} holds no .safetensors file: name a LoRA's file, or a folder that save_lora_weights wrote."
        )
    if place.suffix in PICKLED and place.is_file():
        raise _pickled(place)
    if not place.is_file():
        raise ArgumentError(
            f"There is no LoRA {place}: name a .safetensors file or a folder that holds one (from the hub, `hf download` fetches it)."
        )
    return place.resolve()


def _pickled(place: Path) -> ArgumentError:
    return ArgumentError(
        f"{place} holds pickled weights, which are not read: load it where you trust it, with load_lora_weights, and save it with "
        "safetensors' save_file."
    )


def _label(file: Path) -> str:
    """A file's name, or its folder's where every such file has the same name."""
    return file.parent.name if file.name == WEIGHTS else file.stem


# ---------------------------------------------------------------------- what a file says


@dataclass(frozen=True)
class Pair:
    """One change of a file: B · A, and the factor alpha / rank on it."""

    down: str
    up: str
    factor: float

    def squares(self, tensors: Any, dtype: torch.dtype) -> float:
        """The sum of squares of the change, its two factors in that precision."""
        up, down = (tensors.get_tensor(key).to(dtype) for key in (self.up, self.down))
        return self.factor**2 * product_squares(up, down)


def product_squares(up: Float[Tensor, "out rank *one"], down: Float[Tensor, "rank *inner"]) -> float:
    """Returns the sum of squares of the product of B and A, which is never formed: the trace of BᵀB · AAᵀ."""
    b, a = up.flatten(1).cpu().double(), down.flatten(1).cpu().double()
    return float(((b.T @ b) * (a @ a.T)).sum())


def read_pairs(file: Path) -> list[Pair]:
    """The changes that a file holds. Raises ArgumentError when it holds anything else, or half a change."""
    try:
        with safe_open(file, framework="pt") as opened:
            keys, metadata = list(opened.keys()), opened.metadata() or {}
            downs, ups = _by_module(keys, DOWN), _by_module(keys, UP)
            alphas = {key.removesuffix(".alpha"): key for key in keys if key.endswith(".alpha")}
            _check_keys(file, keys, downs, ups, alphas)
            ranks = {stem: opened.get_slice(key).get_shape()[0] for stem, key in downs.items()}
            given = {stem: float(opened.get_tensor(key)) for stem, key in alphas.items()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{file} cannot be read ({error}): copy the file again.") from error
    factors = _Factors(file, metadata)
    return [
        Pair(downs[stem], ups[stem], given[stem] / rank if stem in given else factors.of(stem, rank))
        for stem, rank in ranks.items()
    ]


def _by_module(keys: Sequence[str], kind: "re.Pattern[str]") -> dict[str, str]:
    """The keys of one kind, by the name before it (and the number of several changes of one module)."""
    matches = [kind.search(key) for key in keys]
    return {match.string[: match.start()] + (match["n"] or ""): match.string for match in matches if match}


def _check_keys(
    file: Path, keys: Sequence[str], downs: dict[str, str], ups: dict[str, str], alphas: dict[str, str]
) -> None:
    known = {*downs.values(), *ups.values(), *alphas.values()}
    others = [key for key in keys if key not in known]
    if not downs and not ups:
        raise ArgumentError(
            f"{file} holds no LoRA weights (such as {', '.join(keys[:1]) or 'none at all'}): name a LoRA's file."
        )
    if others:
        kinds = [what for mark, what in _OTHER_KINDS.items() if any(re.search(mark, key) for key in others)]
        kind = (kinds or ["what is no LoRA"])[0]
        raise ArgumentError(
            f"{file} holds {kind} in {len(others)} of {len(keys)} tensors, such as {others[0]}, which diffusers leaves out or puts in "
            "another way: merge it with the tool that trained it, and name that pipeline's folder."
        )
    alone = sorted(downs.keys() ^ ups.keys()) or sorted(alphas.keys() - downs.keys())
    if alone:
        raise ArgumentError(f"{file} holds one half of a change only, of {alone[0]}: copy the file again.")


_OTHER_KINDS = {
    "dora_scale|lora_magnitude_vector": "magnitudes of DoRA",
    "hada_": "factors of LoHa",
    "lokr_": "factors of LoKr",
    "lora_mid": "factors of a Tucker decomposition",
    r"\.diff(_b)?$": "whole differences of weights",
    r"lora_B\.bias$": "biases",
    "norm": "whole norms",
    "emb": "embeddings",
}


class _Factors:
    """alpha / rank where it stands in a file's header, as newer versions of diffusers write it; else 1."""

    def __init__(self, file: Path, metadata: dict[str, str]) -> None:
        try:
            written = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        except ValueError as error:
            raise ArgumentError(f"The header of {file} cannot be read ({error}): copy the file again.") from error
        self._parts: dict[str, dict[str, Any]] = defaultdict(dict)
        for name, value in written.items():
            part, _, setting = name.rpartition(".")
            self._parts[part][setting] = value

    def of(self, stem: str, rank: int) -> float:
        part, _, module = stem.partition(".")
        config = self._parts.get(part)
        if config is None:
            return 1.0
        own = [
            alpha
            for pattern, alpha in config.get("alpha_pattern", {}).items()
            if re.match(rf"(.*\.)?({pattern})$", module)
        ]
        alpha = own[0] if own else config.get("lora_alpha", rank)
        return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
