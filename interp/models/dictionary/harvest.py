"""Residual-stream vectors of many texts on disk, to train dictionaries on; resumable, one file per batch of windows."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from interp.models.dictionary.windows import Windows
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import read_residuals
from interp.tables import write_aside

WINDOWS_PER_FILE = 64
MASSIVE = 5.0
"""Vectors longer than this many times the median are left out: they are attention sinks, a thousand times the variance of
all others together (Sun et al. 2024, arXiv:2402.17762)."""
SKIP_FIRST = 4
"""Positions at the beginning of a window that are left out: nothing stands before them, and the first is a sink."""


def text_name(text: str) -> str:
    """Returns 12 digits that name a text: it is how a dictionary remembers what it was trained on."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def deal_texts(texts: Sequence[str], shares: Sequence[float], seed: int = 0) -> list[list[str]]:
    """Returns disjoint groups of texts, with the given shares of their number; what the shares leave over is one more group."""
    order = np.random.default_rng(seed).permutation(len(texts))
    ends = np.round(np.cumsum([0.0, *shares]) * len(texts)).astype(int)
    groups = [order[first:last] for first, last in pairwise(ends)]
    return [[texts[int(index)] for index in group] for group in [*groups, order[ends[-1] :]]]


def harvest(model: LanguageModel, windows: Windows, layers: Sequence[int], folder: Path) -> None:
    """Writes the residual stream after each layer at every kept position, as float16; files that are there are not made again."""
    for index, batch in enumerate(tqdm(list(windows.batches(WINDOWS_PER_FILE)), desc="harvest", disable=None)):
        path = folder / f"{index:05d}.safetensors"
        if path.is_file():
            continue
        residuals = read_residuals(model, batch.ids, layers)
        kept = batch.present(SKIP_FIRST)
        tensors = {str(layer): vectors.cpu()[kept].half().contiguous() for layer, vectors in residuals.items()}
        write_aside(path, lambda aside, tensors=tensors: save_file(tensors, aside))


def read_harvest(folder: Path, layer: int) -> Float[Tensor, "vector residual"]:
    """Returns a layer's vectors, float16, without massive ones."""
    parts = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            parts.append(file.get_tensor(str(layer)))
    vectors = torch.cat(parts)
    norms = torch.cat([part.float().norm(dim=1) for part in vectors.split(65536)])
    return vectors[norms <= MASSIVE * norms.median()]
