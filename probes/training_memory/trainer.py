"""Training a model for a while: plain AdamW on whole sentences, stopped when it diverges, and the first weights put back after it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.errors import RunError, UserError
from interp.models.language.model import LanguageModel

Weights = Mapping[str, Tensor]
CLIP = 1.0
"""Largest norm of a gradient."""
RISE_NATS = 4.0
"""Training has diverged when the loss is so much above that of the first update."""


@dataclass(frozen=True)
class Update:
    """One update: its loss before it, in nats per token, and the norm of the gradient."""

    loss_nats: float
    gradient_norm: float


class DivergedError(RunError):
    """Training does not go on: the loss is no number, or has risen far above where it began."""


def weights_of(model: LanguageModel) -> dict[str, Tensor]:
    """Returns all parameters and stored buffers by name, each once, as they are in memory.

    Buffers that no file has (tables of rotary embeddings, which some models swap with the length of a text) follow from the configuration.
    """
    stored = model.hf.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.hf.named_buffers() if name in stored}
    return dict(model.hf.named_parameters()) | buffers


@contextmanager
def restored(model: LanguageModel) -> Iterator[Weights]:
    """Yields a copy of the weights, and puts it back at the end, bit for bit, however the block ends."""
    kept = {name: tensor.detach().clone() for name, tensor in weights_of(model).items()}
    try:
        yield kept
    finally:
        put(model, kept)
        model.hf.requires_grad_(False)
        for parameter in model.hf.parameters():
            parameter.grad = None


@torch.no_grad()
def put(model: LanguageModel, weights: Weights) -> None:
    """Makes these the model's weights; those that are not named stay."""
    now = weights_of(model)
    for name, tensor in weights.items():
        now[name].copy_(tensor)


class Trainer:
    """AdamW without decay and without dropout: the model stays in evaluation mode."""

    def __init__(self, model: LanguageModel, learning_rate: float) -> None:
        """Raises UserError for a model in half precision, in which small updates vanish."""
        if any(parameter.dtype != torch.float32 for parameter in model.hf.parameters()):
            raise UserError(
                f"{model.identity.name} is not in float32, and small updates vanish in half precision: use --dtype float32."
            )
        self.model = model
        model.hf.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(model.hf.parameters(), lr=learning_rate, weight_decay=0.0)
        self.first_loss: float | None = None

    def update(self, rows: Sequence[Sequence[int]]) -> Update:
        """Trains on some rows once.

        Raises DivergedError before the weights are changed by a loss or a gradient that is no number.
        """
        with torch.enable_grad():
            loss = row_loss(self.model, rows)
            self.optimizer.zero_grad(set_to_none=True)
            value = float(loss.detach())
            self.first_loss = value if self.first_loss is None else self.first_loss
            if not value < self.first_loss + RISE_NATS:  # also where it is no number
                raise DivergedError(f"the loss went from {self.first_loss:.2f} to {value:.2f} nats per token")
            loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.hf.parameters(), CLIP))
        if not norm < float("inf"):
            raise DivergedError(f"the gradient is no number at a loss of {value:.2f} nats per token")
        self.optimizer.step()
        return Update(value, norm)


def row_loss(model: LanguageModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """Returns the mean −ln p of all tokens but each row's first; rows are padded on the right, which no earlier token sees."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows], device=model.device)
    counts = torch.tensor([[place < len(row) for place in range(width)] for row in rows], device=model.device)
    log_p = model.hf(input_ids=ids, use_cache=False).logits[:, :-1].float().log_softmax(dim=-1)
    nats = -log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return nats[counts[:, 1:]].mean()
