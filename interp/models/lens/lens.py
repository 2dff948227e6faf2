"""The logit lens: the residual stream after any number of layers, decoded by the model's own final norm and unembedding.

Depth is the number of layers applied: depth 0 is the input of the first layer, the last depth is the input of the final norm. The
final norm, scales and soft cap are located by tracing the model (interp.models.language.logit_head) and never left out. The result
is checked: at the last depth the lens must give the model's own logits.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.errors import ArgumentError, UserError
from interp.models.language.kept_logits import check_numbers, head_at
from interp.models.language.logit_head import LogitHead, find_logit_head
from interp.models.language.model import LanguageModel
from interp.models.language.replay import few_tokens, watch
from interp.models.language.residuals import changed_input, entering, layer_modules, read_residuals

States = Float[Tensor, "depth row token residual"]
TOLERANCE, TOLERANCE_HALF = 1e-4, 2e-2
"""Largest error of the last depth's logits, as a share of the largest logit, in float32 and in half precision."""
_TOKENS = 12
_CHECKED: "weakref.WeakKeyDictionary[nn.Module, LogitHead]" = weakref.WeakKeyDictionary()
"""What was found and checked of models that are in memory."""


class LogitLens:
    """Decodes states of any depth to next-token logits."""

    name = "logit"

    def __init__(self, model: LanguageModel) -> None:
        """Finds the final norm and the head and checks them.

        Raises UserError, in one sentence, where the final norm is not found or the last depth does not give the model's logits.
        """
        self.model = model
        self.layers = layer_modules(model)
        self.head = _CHECKED.get(model.hf) or self._find()
        _CHECKED[model.hf] = self.head

    @property
    def n_depths(self) -> int:
        """Number of depths: the number of layers plus one."""
        return len(self.layers) + 1

    def states(self, ids: Int[Tensor, "row token"]) -> States:
        """Returns the residual stream at every depth, in the model's precision; rows may be padded on the right with any id."""
        entered: list[Tensor] = []

        def keep(_: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
            entered.append(entering(given, options).clone())

        handle = self.layers[0].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            after = read_residuals(self.model, ids, range(len(self.layers)))
        finally:
            handle.remove()
        states = [entered[0], *(after[layer] for layer in range(len(self.layers)))]
        if any(state.shape != states[-1].shape or state.ndim != 3 for state in states):
            raise self._refusal("its layers hand on something other than one vector for each token")
        return torch.stack([state.to(states[-1].device) for state in states])

    def logits(self, states: Float[Tensor, "*axes residual"], depth: int) -> Float[Tensor, "*axes vocabulary"]:
        """Returns the logits, in float32, of states after `depth` layers.

        Raises ArgumentError for a depth that the model does not have.
        """
        self.check_depth(depth)
        logits = self.head.logits(states)
        check_numbers(self.model, logits)
        return logits

    def check_depth(self, depth: int) -> None:
        """Raises ArgumentError for a depth that the model does not have."""
        if not 0 <= depth < self.n_depths:
            raise ArgumentError(
                f"{self.model.identity.name} has no depth {depth}: depths go from 0 (what enters the first layer) to "
                f"{self.n_depths - 1}."
            )

    def each_depth(self, ids: Sequence[int]) -> Float[Tensor, "depth token vocabulary"]:
        """Returns the logits of one short text at every depth; all are in memory at once."""
        with torch.inference_mode():
            states = self.states(torch.tensor([list(ids)]))[:, 0]
            return torch.stack([self.logits(state, depth) for depth, state in enumerate(states)])

    def _find(self) -> LogitHead:
        model = self.model
        with model.hooks.closed(), torch.inference_mode(mode=False), torch.no_grad():
            ids = few_tokens(model, min(_TOKENS, model.context_window or _TOKENS))
            calls = watch(model, ids)
            head = find_logit_head(model, self.layers, calls, self._refusal)
            output: Any = calls[-1].output
            self._check(output.logits.float(), head.logits(self.states(ids)[-1]))
        return head

    def _check(self, wanted: Tensor, found: Tensor) -> None:
        tolerance = TOLERANCE if self.model.hf.dtype == torch.float32 else TOLERANCE_HALF
        error = float((found - wanted.to(found.device)).abs().max() / wanted.abs().max())
        if not error <= tolerance:
            raise self._refusal(
                f"what its last layer hands on, read out by its final norm and head, is off from its logits by {error:.1%}"
            )

    def _refusal(self, reason: str) -> UserError:
        model = self.model
        return UserError(
            f"{model.identity.name} ({model.hf.config.model_type}) cannot be read by a lens: {reason}; name another model."
        )


@torch.inference_mode()
def read_through(
    lens: LogitLens,
    starts: Float[Tensor, "row residual"],
    states: Float[Tensor, "row residual"],
    depth: int,
    ids: Int[Tensor, "row two"],
) -> Float[Tensor, "row vocabulary"]:
    """Returns the logits of states after `depth` layers when the remaining layers run on two positions: each row's start and the state.

    `ids` are the two tokens, for models that look something up by token; they are at positions 0 and 1. At depth 0 the result is the
    model's prediction after a text of two tokens, at the last depth the logit lens.
    Raises ArgumentError for a depth that the model does not have.
    """
    lens.check_depth(depth)
    if depth == lens.n_depths - 1:
        return lens.logits(states, depth)
    pair = torch.stack([starts, states], dim=1)
    model, last = lens.model, torch.ones((len(states), 1), dtype=torch.long)
    with model.hooks.closed(), head_at(model, last), changed_input(model, depth, pair.to):
        logits = model.hf(input_ids=ids.to(model.device), use_cache=False).logits[:, -1].float()
    check_numbers(model, logits)
    return logits
