"""Sentence encoders: models that read in both directions, for states of texts and of their tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.assets import ENCODERS, fetch_folder
from interp.errors import ArgumentError, RunError, did_you_mean
from interp.kept import kept_while_unchanged
from interp.models.language.architecture import reads_both_ways


class Encoder:
    """A transformers encoder and its tokenizer: token ids in, states of all layers out."""

    def __init__(self, hf: Any, tokenizer: Any, name: str) -> None:
        self.hf, self.tokenizer, self.name = hf.eval().requires_grad_(False), tokenizer, name

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.hf.config.num_hidden_layers)

    @property
    def window(self) -> int:
        """How many tokens it reads at once."""
        return int(min(self.hf.config.max_position_embeddings, self.tokenizer.model_max_length))

    @torch.inference_mode()
    def states(self, ids: Sequence[Sequence[int]]) -> Float[Tensor, "layer row token residual"]:
        """Returns the states after every layer; rows may differ in length, and what stands behind a row's end is padding."""
        width = max(len(row) for row in ids)
        pad = self.tokenizer.pad_token_id or 0
        tokens = torch.tensor([[*row, *[pad] * (width - len(row))] for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        device = self.hf.device
        output = self.hf(input_ids=tokens.to(device), attention_mask=mask.to(device), output_hidden_states=True)
        return torch.stack(output.hidden_states[1:])


@kept_while_unchanged(lambda name, *_: (Path(name).expanduser(),), maxsize=1)
def load_encoder(name: str, device: str = "cpu") -> Encoder:
    """Returns the encoder of that name (`all-minilm-l6-v2`, fetched once and checked) or folder, in float32.

    Raises ArgumentError for a name that is neither, and for a model that reads from left to right; RunError for a folder that
    cannot be loaded.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    from interp.models.loading.language import without_progress_bars

    folder = encoder_folder(name)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False) or reads_both_ways(config) is None:
            raise ArgumentError(
                f"{name} ({config.model_type}) does not read in both directions with one stack: name an encoder, such as "
                f"{next(iter(ENCODERS))}."
            )
        with without_progress_bars():
            hf = AutoModel.from_pretrained(
                folder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RunError(
            f"{folder} cannot be loaded as an encoder ({error}): save model and tokenizer there with save_pretrained."
        ) from error
    return Encoder(hf.to(device), tokenizer, Path(name).name)


def encoder_folder(name: str) -> Path:
    """Returns the folder with an encoder's files.

    Raises ArgumentError for a name that is neither known nor a folder with a config.json.
    """
    if name in ENCODERS:
        return fetch_folder(ENCODERS[name])
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        known = [*ENCODERS]
        raise ArgumentError(
            f"There is no encoder named {name}, nor a folder with its config.json.{did_you_mean(name, known)} Known: "
            f"{', '.join(known)}."
        )
    return folder
