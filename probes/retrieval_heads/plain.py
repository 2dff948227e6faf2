"""The obvious way to see what heads attend to while a model answers: one prefill, then eager attention at every step.

Slow and simple; the oracle of the shared, teacher-forced path.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.models.language import LanguageModel


class PlainAnswer(NamedTuple):
    """What the model wrote and the two most attended positions of every head at every step."""

    emitted: list[int]
    attended: Int[Tensor, "layer head step two"]
    logits: Float[Tensor, "layer head step two"]
    """Logarithms of the two attention weights: equal to scores before the softmax up to a constant per row."""


@torch.inference_mode()
def answer_plainly(
    model: LanguageModel, prompt: Sequence[int], *, max_new_tokens: int, stop_ids: Sequence[int]
) -> PlainAnswer:
    """Returns the greedy answer to one prompt, token by token, with transformers' own cache and eager attention.

    As in the reference script: the prompt but its last token is read by the fast kernel, every later token alone.
    """
    cache = DynamicCache(config=model.hf.config)
    model.hf(torch.tensor([prompt[:-1]], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    emitted: list[int] = []
    steps = []
    token = prompt[-1]
    with model.eager():
        while len(emitted) < max_new_tokens and not (emitted and token in stop_ids):
            output = model.hf(
                torch.tensor([[token]], device=model.device),
                past_key_values=cache,
                use_cache=True,
                output_attentions=True,
            )
            steps.append(_top_two(output.attentions, n_keys=len(prompt) + len(emitted)))
            token = int(output.logits[0, -1].argmax())
            emitted.append(token)
    attended, weights = (torch.stack(parts, dim=2) for parts in zip(*steps, strict=True))
    return PlainAnswer(emitted, attended, weights.log())


def _top_two(attentions: Any, n_keys: int) -> tuple[Int[Tensor, "layer head two"], Float[Tensor, "layer head two"]]:
    """The two largest weights of the last row in every layer; lowest position first among equals."""
    positions, weights = [], []
    for layer in attentions:
        row = layer[0, :, -1].float().cpu()
        offset = n_keys - row.shape[-1]  # sliding-window layers keep only their window
        first = row.argmax(dim=-1, keepdim=True)
        second = row.scatter(-1, first, -1.0).argmax(dim=-1, keepdim=True)
        found = torch.cat([first, second], dim=-1)
        positions.append(found + offset)
        weights.append(row.gather(-1, found))
    return torch.stack(positions), torch.stack(weights)
