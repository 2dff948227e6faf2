"""Policies that drop keys for good, by what the prompt's queries read: each with its paper, its formula, and its code's defects."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from interp.errors import ArgumentError, check_choice
from interp.experiments.bounds import Count, CountOrNone, Fraction, Positive
from interp.retention.policies.base import Event, Evict, Granularity, best
from interp.retention.policies.layer import Allowance, Layer, Prompt, Reduction


@dataclass(frozen=True)
class LastQuery(Evict):
    """What the last query reads: w_t(j), mean over the heads that share a key-value head. A2SF's alpha 0."""

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 list key"]:
        """Returns the weights of the prompt's last query."""
        return self.reduced(prompt.weights(1), prompt)[:, :, 0]

    def updated(self, scores: Tensor, weights: Tensor, layer: Layer, position: int) -> Tensor:
        """Returns the weights of the step."""
        return self.reduced(weights, layer.prompt)


@dataclass(frozen=True)
class Tova(LastQuery):
    """One list for the whole layer by the last query's weights, mean over all heads (Oren et al. 2024, arXiv:2401.06104).

    The last token is always kept (kvpress since 0.5.4: with the maximum + 1, before with the maximum, which ties could evict).
    """

    granularity: ClassVar[Granularity] = "layer"

    @property
    def held(self) -> tuple[int, int]:
        """The last token."""
        return 0, 1

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 1 key"]:
        """Returns the mean weights, the last token's above all."""
        scores = super().scores(prompt).clone()
        scores[..., -1] = 2.0
        return scores

    def updated(self, scores: Tensor, weights: Tensor, layer: Layer, position: int) -> Tensor:
        """Returns the mean weights of the step, its own token's above all."""
        scores = super().updated(scores, weights, layer, position).clone()
        scores[..., position] = 2.0
        return scores


@dataclass(frozen=True)
class A2SF(Evict):
    """Forgetting scores: S <- alpha S + A_t (Jo et al. 2024, arXiv:2407.20485): query i of L weighs alpha^(L-1-i).

    The authors' code first evicted one key per step (alpha .2 in its class, 1.0 in its harness), later cuts once at the prompt's
    end (group sum, last 16 kept, alpha .95). Its `sigmoid` policy lacks the 1 + and so ranks as alpha = exp(-a) does.
    """

    group_reduction: ClassVar[Reduction] = "sum"

    alpha: Fraction = 0.95
    """What a score keeps of itself with every query: 1 sums up (H2O), 0 forgets all but the last."""

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns the discounted sums over the prompt's queries."""
        weights = prompt.weights()
        age = torch.arange(prompt.n - 1, -1, -1, device=weights.device).to(weights)
        return self.reduced(torch.einsum("rhqk,q->rhk", weights, self.alpha**age), prompt)  # 0**0 is 1

    def updated(self, scores: Tensor, weights: Tensor, layer: Layer, position: int) -> Tensor:
        """Returns the discounted scores and the step's weights."""
        return self.alpha * scores + self.reduced(weights, layer.prompt)


@dataclass(frozen=True)
class H2OSum(A2SF):
    """Heavy hitters: the sum of all queries' weights (Zhang et al. 2023, arXiv:2306.14048). Old keys have been seen more often.

    The paper keeps half of its budget for the last tokens: protection is a factor here.
    """

    alpha: Fraction = 1.0


@dataclass(frozen=True)
class H2OMean(Evict):
    """Mean weight over the queries that can see a key, as kvpress' ObservedAttention: heavy hitters without the age bias.

    The last key was seen by one query, so its mean is one number: nothing protects it.
    """

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns the sums over the number of queries that see each key."""
        n_seeing = torch.arange(prompt.n, 0, -1, device=prompt.keys.device)
        return self.reduced(prompt.weights().sum(dim=2), prompt) / n_seeing

    def updated(self, scores: Tensor, weights: Tensor, layer: Layer, position: int) -> Tensor:
        """Returns the means with one query more."""
        n_before = (position - torch.arange(scores.shape[-1], device=scores.device)).clamp(min=0)
        return (scores * n_before + self.reduced(weights, layer.prompt)) / (n_before + 1)


@dataclass(frozen=True)
class Keyformer(Evict):
    """Sums of softmax((logits + noise) / tau) over queries (Adnan et al. 2024, arXiv:2403.09054); tau grows by tau_delta a step.

    The code's schedules differ: delta .01 in its configurations, (2 - 1) / new tokens in its scripts, 1.0 a step in its harness,
    whose mask uses tau_init alone; there an accumulator is undefined. It sums over the batch: here each row is by itself.
    """

    group_reduction: ClassVar[Reduction] = "sum"

    noise: str = "gumbel"
    """gumbel, normal (of the same mean and variance) or none."""
    tau_init: Positive = 1.0
    """Temperature while the prompt is read."""
    tau_delta: Annotated[float, Ge(0)] = 0.01
    """What each step adds to it."""
    draw: CountOrNone = 0
    """Number of the draw of the noise."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for a noise that is none of the three, or another event."""
        super().__post_init__()
        check_choice("noise", self.noise, ("gumbel", "normal", "none"))

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns the sums over the prompt's queries."""
        logits = prompt.logits()
        noisy = (logits + self._noise(logits, prompt, 0)) / self.tau_init
        return self.reduced(torch.softmax(noisy, dim=-1).sum(dim=2), prompt)

    def updated(self, scores: Tensor, weights: Tensor, layer: Layer, position: int) -> Tensor:
        """Returns the sums with the step's."""
        step = position - layer.prompt.n + 1
        logits = weights.log()  # the softmax over what is left does not change when a constant is added
        noisy = (logits + self._noise(logits, layer.prompt, step)) / (self.tau_init + step * self.tau_delta)
        return scores + self.reduced(torch.softmax(noisy, dim=-1), layer.prompt)

    def _noise(self, logits: Tensor, prompt: Prompt, step: int) -> Tensor:
        if self.noise == "none":
            return torch.zeros_like(logits)
        generator = np.random.default_rng([prompt.seed, prompt.layer, self.draw, step])
        # Rows that differ in budget have the same noise, and a key has the same however many come after it.
        shape = (logits.shape[-1], *logits.shape[1:-1])
        gumbel = self.noise == "gumbel"
        drawn = generator.gumbel(size=shape) if gumbel else generator.normal(np.euler_gamma, np.pi / 6**0.5, shape)
        return torch.from_numpy(np.moveaxis(drawn, 0, -1).copy()).to(logits)


@dataclass(frozen=True)
class Lazy(Evict):
    """Keys that come back (Zhang et al. 2025, arXiv:2506.15969): a key is active where its weight is at least alpha.

    TS is its last active step, MRI the largest gap between two. Form `code`: 2 / (1 + e^(1 + (t - TS) / MRI)) + [MRI > 0] 2 / (1 +
    e^(MRI - 1)); form `notes`: 2 sigmoid(-(t - TS) / MRI) + 2 sigmoid(-1 / MRI), whose second term rises with MRI where the
    code's falls. A key never active after its birth scores 1 for ever in the code. The last W are kept, and cuts come every W steps.
    """

    every: ClassVar[int] = 16

    event: Event = "every_window"  # type: ignore[misc]
    """every_window: cuts at the prompt's end and every 16 steps; prompt_end: only the first."""
    alpha: Fraction = 1e-4
    """The weight from which a key is active: below 1 / n for any text of fewer than 10,000 tokens."""
    form: str = "code"
    """code or notes."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for a form that is none of the two, or another event."""
        super().__post_init__()
        check_choice("form", self.form, ("code", "notes"))

    @property
    def held(self) -> tuple[int, int]:
        """The window."""
        return 0, self.every

    @property
    def least(self) -> int:
        """The window and one more."""
        return self.every + 1

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 twice key"]:
        """Returns TS and MRI of every key, list after list."""
        active = self.reduced(prompt.weights(), prompt) >= self.alpha
        steps = torch.arange(prompt.n, device=active.device)[:, None].to(prompt.keys)
        last = torch.where(active, steps, steps.T - 1).cummax(dim=2).values  # a new key's TS is the step before it
        before = torch.cat([(steps.T - 1).expand_as(last[:, :, :1]), last[:, :, :-1]], dim=2)
        gaps = torch.where(active & (steps >= steps.T), steps - before, 0).amax(dim=2)
        return torch.cat([last[:, :, -1], gaps], dim=1)

    def updated(self, scores: Tensor, weights: Tensor, layer: Layer, position: int) -> Tensor:
        """Returns TS and MRI after a step."""
        last, gaps = (part.clone() for part in scores.chunk(2, dim=1))
        last[..., position], gaps[..., position] = position - 1, 0
        active = self.reduced(weights, layer.prompt) >= self.alpha
        gaps = torch.where(active, torch.maximum(gaps, position - last), gaps)
        return torch.cat([torch.where(active, float(position), last), gaps], dim=1)

    def ranked(self, scores: Tensor, n_read: int) -> Float[Tensor, "row list key"]:
        """Returns the scores, the last window's above all."""
        last, gaps = scores.chunk(2, dim=1)
        since = (n_read - 1 - last) / gaps.clamp(min=1e-6)
        if self.form == "code":
            ranked = 2 * torch.sigmoid(-1 - since) + (gaps > 0) * 2 * torch.sigmoid(1 - gaps)
        else:
            ranked = 2 * torch.sigmoid(-since) + 2 * torch.sigmoid(-1 / gaps.clamp(min=1e-6))
        keys = torch.arange(ranked.shape[-1], device=ranked.device)
        return ranked.masked_fill((keys >= n_read - self.every) & (keys < n_read), 9.0)


@dataclass(frozen=True)
class SnapKV(Evict):
    """What the last queries read, smoothed (Li et al. 2024, arXiv:2404.14469): their mean weights, average pool, window kept.

    kvpress' reading: mean over window and group, zero padding that lowers both ends. The original sums and keeps a list for each
    query head; it does nothing below its capacity.
    """

    window: Count = 16
    """Last queries that vote and are kept. The paper's 32 and kvpress' 64 are as long as whole budgets here."""
    kernel: Count = 5
    """Width of the pool; odd."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for an even kernel, which has no middle, or another event."""
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise ArgumentError(f"The option kernel of {type(self).__name__} must be odd, not {self.kernel}.")

    @property
    def held(self) -> tuple[int, int]:
        """The window."""
        return 0, self.window

    @property
    def least(self) -> int:
        """The window and one more."""
        return self.window + 1

    def scores(self, prompt: Prompt) -> Float[Tensor, "1 kv_head key"]:
        """Returns the pooled votes, the window above all."""
        votes = prompt.weights(self.window)[..., : prompt.n - self.window].mean(dim=2)
        pooled = avg_pool1d(votes, self.kernel, stride=1, padding=self.kernel // 2)
        return pad(self.reduced(pooled, prompt), (0, self.window), value=2.0)


@dataclass(frozen=True)
class PyramidKV(SnapKV):
    """SnapKV whose budget falls linearly from the first layer to the last (Cai et al. 2024, arXiv:2406.02069).

    Of the layers that keep all of a text: those with a window or a state have no part in the budget. One such layer alone gets it whole.
    """

    budget_rule: ClassVar[str] = "mean_of_layers"

    beta: Count = 20
    """The last layer keeps the mean budget over beta beside its window."""

    def allotted(self, scores: Tensor, allowed: Allowance, prompt: Prompt) -> Tensor:
        """Returns this layer's budget, no less than what is protected; their mean is the one asked for, as far as layers have keys."""
        rest = allowed.n - self.window
        least = torch.maximum(rest / self.beta, 2 * rest - (prompt.n - self.window))
        sure = allowed.protected(prompt.n, prompt.n)
        least = torch.maximum(least, sure[:, : prompt.n - self.window].sum(dim=-1))
        most = 2 * rest - least
        place, last = prompt.dropping.index(prompt.layer), len(prompt.dropping) - 1
        depth = place / last if last else 0.5
        return self.window + (most + (least - most) * depth).round().long()


@dataclass(frozen=True)
class AdaKV(SnapKV):
    """SnapKV's scores with one budget for all heads of a layer (Feng et al. 2024, arXiv:2407.11550).

    The best of all heads' keys together, but each head keeps a share of its own. kvpress overwrites dropped keys instead of
    deleting them; a mask before the softmax is what that stands for.
    """

    budget_rule: ClassVar[str] = "heads_together"

    safeguard: Fraction = 0.2
    """Share of the budget that each head keeps whatever the others have."""

    def allotted(self, scores: Tensor, allowed: Allowance, prompt: Prompt) -> Tensor:
        """Returns how many keys each key-value head gets."""
        protected = allowed.protected(prompt.n, prompt.n)
        sure = best(scores, (self.safeguard * allowed.n).long(), protected) | protected[:, None]
        ranked = scores.masked_fill(sure, torch.inf).flatten(1)[:, None]
        together = best(ranked, allowed.n * scores.shape[1], torch.zeros_like(ranked[:, 0], dtype=torch.bool))
        return together.view_as(scores).sum(dim=-1)
