"""What is measured of a dictionary before it is shipped: its card."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.dictionary import Dictionary
from interp.models.fidelity import cross_entropy_recovered, explained
from interp.models.harvest import MASSIVE, SKIP_FIRST
from interp.models.language import LanguageModel
from interp.models.windows import Windows

LOSS_WINDOWS = 128
"""Windows whose loss is measured with the residual stream reconstructed."""


def describe(
    model: LanguageModel,
    windows: Windows,
    vectors: Float[Tensor, "vector residual"],
    held_out: Float[Tensor, "held_out residual"],
    folder: Path,
) -> dict[str, Any]:
    """Returns the card of a saved dictionary, measured on the saved weights.

    `vectors` it was trained on (dead features are those never active there); `held_out` ones and `windows` it was not.
    """
    dictionary = Dictionary.from_folder(folder)
    measured = explained(dictionary, held_out)
    fired = torch.zeros(dictionary.n_features, dtype=torch.bool)
    for part in vectors.split(4096):
        fired |= (dictionary.encode(part.float()) > 0).any(dim=0).cpu()
    norms = torch.cat([part.float().norm(dim=1) for part in vectors.split(1 << 16)])
    checked = windows[slice(0, LOSS_WINDOWS)]
    return {
        "model": dictionary.model_name,
        "model_revision": model.identity.revision,
        "hook_name": dictionary.hook_name,
        "layer": dictionary.layer,
        "width": dictionary.n_features,
        "texts": "news articles of interp.prose; the names of those used are in ../training_texts.txt",
        "vectors_harvested": len(vectors),
        "vectors_held_out": len(held_out),
        "l0": measured.l0,
        "explained_variance": measured.explained_variance,
        "dead_share": float(1 - fired.float().mean()),
        "dead_means": f"never active at any of the {len(vectors)} vectors it was trained on",
        **cross_entropy_recovered(model, dictionary, checked, dictionary.layer, skip_first=SKIP_FIRST),
        "median_norm": float(norms.median()),
        "left_out": f"the first {SKIP_FIRST} positions of a window and vectors longer than {MASSIVE:g} median norms",
        "harvest_dtype": model.identity.dtype,
    }
