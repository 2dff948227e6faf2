"""From the residual stream to the logits: the final norm, the language-model head, the scales beside them, soft-capping.

No family is named here: a few tokens are watched as they pass, and what is found is what took part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import UserError
from interp.models.language.model import LanguageModel
from interp.models.language.replay import Call


@dataclass(frozen=True)
class LogitHead:
    """What stands between the last layer and the logits: after · head(before · norm(residual)), then soft-capped."""

    norm: nn.Module
    head: nn.Module
    before: float
    after: float
    cap: float | None
    """Soft-capping: cap · tanh(logit / cap); None without."""

    def logits(self, residual: Float[Tensor, "*axes residual"]) -> Float[Tensor, "*axes vocabulary"]:
        """Returns the logits that the model would compute if this were what its last layer hands on, in float32."""
        normed = self._normed(residual)
        return self._scaled(self.head(normed.to(self._weight.dtype)).float())

    def logits_of(
        self, residual: Float[Tensor, "*axes residual"], tokens: Sequence[int]
    ) -> Float[Tensor, "*axes token"]:
        """Returns the logits of some tokens alone, in float32."""
        head: Any = self.head
        chosen = torch.tensor(list(tokens), device=self._weight.device)
        logits = self._normed(residual).float() @ self._weight[chosen].float().T
        bias = getattr(head, "bias", None)
        return self._scaled(logits if bias is None else logits + bias[chosen].float())

    @property
    def _weight(self) -> Tensor:
        head: Any = self.head
        return head.weight

    def _normed(self, residual: Tensor) -> Tensor:
        normed = self.norm(residual.to(self._weight.device))
        return normed if self.before == 1 else normed * self.before

    def _scaled(self, logits: Tensor) -> Tensor:
        logits = logits if self.after == 1 else logits * self.after
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def find_logit_head(
    model: LanguageModel, layers: nn.ModuleList, calls: list[Call], refusal: Callable[[str], UserError]
) -> LogitHead:
    """Returns what was called behind the last layer in a watched pass.

    Raises UserError where the final norm is not found, and `refusal` with the reason where the logits are no multiple of what norm
    and head compute.
    """
    norm, before = _final_norm(model, layers, calls, refusal)
    after, cap = _behind_head(model, calls, refusal)
    head: Any = model.hf.get_output_embeddings()
    return LogitHead(norm, head, before, after, cap)


def _final_norm(
    model: LanguageModel, layers: nn.ModuleList, calls: list[Call], refusal: Callable[[str], UserError]
) -> tuple[nn.Module, float]:
    """The norm last called before the language-model head, and what its output is multiplied by on the way there."""
    head = model.hf.get_output_embeddings()
    ended = next((place for place, call in enumerate(calls) if call.module is layers[-1]), None)
    if ended is None:
        raise refusal("its last layer is not part of a pass over a text")
    at_head = next(place for place, call in enumerate(calls) if call.module is head)
    between = [call for call in calls[ended + 1 : at_head] if "norm" in type(call.module).__name__.lower()]
    if not between:
        raise UserError(f"{model.identity.name} has no final norm that this toolkit knows: see docs/adding_a_model.md.")
    call = between[-1]
    if sum(other.module is call.module for other in calls) > 1:
        raise refusal("its final norm is used in other places too")
    scale = _multiple(call.made, calls[at_head].given, _named_scales(model), None)
    if scale is None:
        raise refusal("its final norm's output is changed before the language-model head")
    return call.module, scale


def _behind_head(
    model: LanguageModel, calls: list[Call], refusal: Callable[[str], UserError]
) -> tuple[float, float | None]:
    """What the head's output is multiplied by, and the soft-cap behind it."""
    head = next(call for call in calls if call.module is model.hf.get_output_embeddings())
    logits: Any = calls[-1].output
    text: Any = model.hf.config.get_text_config(decoder=True)
    cap = getattr(text, "final_logit_softcapping", None) or getattr(text, "logits_soft_cap", None)
    scale = _multiple(head.made, logits.logits, _named_scales(model), cap)
    if scale is None:
        raise refusal("its logits are no multiple of what the language-model head computes")
    return scale, float(cap) if cap else None


def _named_scales(model: LanguageModel) -> list[float]:
    """Multipliers of logits that configurations name: exact where a measured one is rounded."""
    config: Any = model.hf.config.get_text_config(decoder=True)
    named = [1.0]
    if getattr(config, "logit_scale", None):
        named.append(float(config.logit_scale))
    if getattr(config, "logits_scaling", None):
        named.append(1 / float(config.logits_scaling))
    return named


def _multiple(before: Tensor | None, after: Tensor | None, named: list[float], cap: float | None) -> float | None:
    """What `after` is as a multiple of `before`, behind soft-capping if there is any; None when it is none."""
    if before is None or after is None or before.numel() != after.numel():
        return None
    tolerance = 1e-4 if before.dtype == after.dtype == torch.float32 else 2e-2
    x, y = before.double().flatten(), after.double().flatten().to(before.device)
    measured = [] if cap else [float(x @ y / (x @ x))]
    for scale in (*named, *measured):
        found = cap * torch.tanh(scale * x / cap) if cap else scale * x
        if bool(((found - y).abs() <= tolerance * y.abs().max()).all()):
            return scale
    return None
