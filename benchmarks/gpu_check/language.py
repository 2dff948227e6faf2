"""Checks of a language model of a real shape with random weights: recorded rows, what looking costs, forks, rollouts."""

import math
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.gpu_check.card import GB, Card
from benchmarks.gpu_check.sizes import TextSizes
from benchmarks.gpu_check.verdicts import Group, Measured, NotRunError
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.language.recording import AttentionRows, TopKeys
from interp.models.language.sampling import Job, Policy, StopRule, sample

N_QUERIES = 16
"""Rows that are looked at: an answer's worth."""
N_DEPTHS = 10
FLOAT32_ROUNDING = 1e-5
"""Largest difference of a weight in 0 … 1 that is rounding of float32 sums."""
COST = 1.05
"""What looking may cost at most, times the prefill that looks at nothing."""
OWN_SHARE = {torch.float32: 1e-3}
OWN_SHARE_OF_HALF = 0.25
"""How far the logits of a forked prompt may be from those of its own prefill, over how far those of the nearest other prompt are.
In bfloat16, sums in another order leave 0.03 to 0.05 through 2 to 16 random layers; a wrong fork leaves 1."""


@dataclass(frozen=True)
class Subject:
    """A random model and the sizes of the texts that it is given."""

    model: LanguageModel
    sizes: TextSizes

    def ids(self, n_tokens: int, seed: int = 0) -> list[int]:
        """Token ids drawn at random."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(3, self.model.hf.config.vocab_size, (n_tokens,), generator=generator).tolist()


def group(name: str, shape: str, sizes: TextSizes) -> Group:
    """Returns the checks of a language model."""
    checks = {"rows": rows, "forks": forks, "rollouts": rollouts}
    checks |= {f"recording {n:,}": partial(recording, n_tokens=n) for n in sizes.long_tokens}
    return Group(name, shape, partial(make, sizes), checks)


def make(sizes: TextSizes, card: Card) -> Subject:
    """Returns a random model on the device.

    Raises torch's OutOfMemoryError where its weights do not fit into what is free.
    """
    config = AutoConfig.for_model(**sizes.config)
    with torch.device("meta"):
        n_weights = sum(one.numel() for one in AutoModelForCausalLM.from_config(config).parameters())
    needed = n_weights * card.dtype.itemsize / GB
    if needed > card.free_gb():
        raise torch.OutOfMemoryError(f"its weights take {needed:.1f} GB, and {card.free_gb():.1f} GB are free")
    hf = card.built(lambda: AutoModelForCausalLM.from_config(config, dtype=card.dtype))
    name = str(sizes.config["model_type"])
    return Subject(LanguageModel(hf, None, ModelIdentity(f"random-{name}", "gpu_check", "0", "float32")), sizes)


# ---------------------------------------------------------------------- rows


def rows(subject: Subject, card: Card) -> list[Measured]:
    """Recorded rows against transformers' own eager function on the same queries and keys, in the model's precision and in float64."""
    n = subject.sizes.rows_tokens
    chosen = torch.linspace(n // 2, n - 1, N_QUERIES).long()
    reader = AgainstEager(subject.model.hf)
    with subject.model.record(chosen[None], reader):
        subject.model.extend(subject.model.prefix(room=n), [subject.ids(n)], logits="none")
    precision = str(card.dtype).removeprefix("torch.")
    return [
        Measured("largest difference from eager in float64", reader.from_exact, "weight", FLOAT32_ROUNDING),
        Measured(
            f"largest difference from eager in {precision}, over what rounding may make of it",
            reader.share_of_rounding,
            "times",
            1.0,
            note=f"{reader.from_eager:.2g} at most, in {reader.n_rows:,} rows of {n:,} tokens",
        ),
    ]


class AgainstEager:
    """A reader that holds every row it is shown against transformers' eager attention and keeps the largest differences."""

    def __init__(self, hf: Any) -> None:
        self._eager = sys.modules[type(hf).__module__].eager_attention_forward
        self._config = hf.config
        self.from_exact = self.from_eager = self.share_of_rounding = 0.0
        self.n_rows = 0

    def __call__(self, shown: AttentionRows) -> dict[str, Tensor]:
        """Compares the rows, and keeps how far each is from eager attention."""
        call = shown.call
        ((key, value),) = call.segments
        query = call.query[:, :, shown.columns[0]]
        unseen = self._unseen(shown, key.shape[2])
        attend = partial(self._attend, query, key, value, unseen, call.sinks, call.scaling)
        exact, eager = attend(torch.float64), attend(query.dtype)
        bound = self._rounding(shown, query, key)
        off_eager = (shown.weights - eager).abs().amax(dim=-1)
        self.from_exact = max(self.from_exact, float((shown.weights - exact).abs().max()))
        self.from_eager = max(self.from_eager, float(off_eager.max()))
        self.share_of_rounding = max(self.share_of_rounding, float((off_eager / bound).max()))
        self.n_rows += off_eager.numel()
        return {"off": off_eager[..., None]}

    def _unseen(self, shown: AttentionRows, n_keys: int) -> Tensor:
        """Which keys a row may not see, from the configuration alone."""
        keys = torch.arange(n_keys, device=shown.columns.device)
        ahead = keys - (shown.columns[0] + shown.call.starts[0])[:, None]
        kinds = getattr(self._config, "layer_types", None)
        sliding = kinds is not None and kinds[shown.layer] == "sliding_attention"
        return (ahead > 0) | (ahead <= -self._config.sliding_window) if sliding else ahead > 0

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        unseen: Tensor,
        sinks: Tensor | None,
        scaling: float,
        dtype: torch.dtype,
    ) -> Float[Tensor, "row head query key"]:
        module = SimpleNamespace(
            num_key_value_groups=query.shape[1] // key.shape[1],
            sinks=None if sinks is None else sinks.to(dtype),
            training=False,
        )
        mask = torch.zeros(unseen.shape, dtype=dtype, device=unseen.device)
        mask = mask.masked_fill(unseen, torch.finfo(dtype).min)[None, None]
        _, weights = self._eager(module, query.to(dtype), key.to(dtype), value.to(dtype), mask, scaling)
        return weights.float()

    def _rounding(self, shown: AttentionRows, query: Tensor, key: Tensor) -> Float[Tensor, "row head query"]:
        """How far rounding alone may take a weight of each row: scores are rounded twice, and once less their maximum.

        A weight is then off by a factor of at most exp(2 δ), and rounded itself.
        """
        scores = shown.logits.masked_fill(shown.logits.isinf(), 0).abs().amax(dim=-1)
        lengths = [part.float().norm(dim=-1).amax() for part in (query, key)]
        sums = query.shape[-1] * torch.finfo(torch.float32).eps * lengths[0] * lengths[1] * shown.call.scaling
        eps = torch.finfo(query.dtype).eps
        return torch.expm1(2 * (2 * eps * scores + sums)) + eps


# ---------------------------------------------------------------------- what looking costs


def recording(subject: Subject, card: Card, n_tokens: int) -> list[Measured]:
    """A prefill whose last rows are recorded against one that records nothing, in turn; seconds and memory."""
    model, ids = subject.model, subject.ids(n_tokens)
    cost = COST if subject.sizes.is_promised else None

    def prefill() -> Tensor:
        return model.extend(model.prefix(room=n_tokens), [ids], logits="last")

    def recorded() -> Tensor:
        with model.record(torch.arange(n_tokens - N_QUERIES, n_tokens)[None], TopKeys(2)):
            return prefill()

    prefill()  # warm up
    seconds: dict[Any, list[float]] = {prefill: [], recorded: []}
    peaks: dict[Any, float] = {}
    logits: dict[Any, Tensor] = {}
    for _ in range(subject.sizes.repetitions):
        for way, taken in seconds.items():
            card.clean()
            before = card.held_gb()
            spent, logits[way] = card.timed(way)
            taken.append(spent)
            peaks[way] = card.peak_gb() - before
    plain, looking = (statistics.median(seconds[way]) for way in (prefill, recorded))
    return [
        Measured("seconds, with recording over without", looking / plain, "times", cost, note=f"{plain:.3g} s without"),
        Measured(
            "difference of the last logits", float((logits[prefill] - logits[recorded]).abs().max()), "logit", 0.0
        ),
        *memory(peaks[prefill], peaks[recorded], model, n_tokens),
    ]


def memory(plain: float, looking: float, model: LanguageModel, n_tokens: int) -> list[Measured]:
    """What the two prefills take beyond the weights; nothing where torch does not count it."""
    if math.isnan(plain):
        return []
    square = model.geometry.n_heads * n_tokens**2 * 2 / GB
    return [
        Measured("memory, with recording over without", looking / plain, "times", COST, note=f"{plain:.1f} GB without"),
        Measured(
            "memory with recording, keys and values included",
            looking,
            "GB",
            note=f"all pairs of one layer: {square:.0f} GB",
        ),
    ]


# ---------------------------------------------------------------------- forks and rollouts


def forks(subject: Subject, card: Card) -> list[Measured]:
    """A needle at ten depths of one text: shared beginnings are read once, against ten prefills."""
    sizes, model = subject.sizes, subject.model
    n = sizes.tree_tokens
    hay, needle, question = subject.ids(n - 48), subject.ids(32, 1), subject.ids(16, 2)
    cuts = [round(len(hay) * depth / (N_DEPTHS - 1)) for depth in range(N_DEPTHS)]
    prompts = [[*hay[:cut], *needle, *hay[cut:], *question] for cut in sorted(cuts, reverse=True)]
    read = 0

    def tree() -> list[Tensor]:
        nonlocal read
        trunk, found = model.prefix(room=n), []
        for prompt in prompts:
            read += model.reread(trunk, prompt[:-1])
            found.append(model.extend(trunk, [prompt[-1:]]))
        return found

    def ten() -> list[Tensor]:
        return [model.extend(model.prefix(room=n), [prompt]) for prompt in prompts]

    model.extend(model.prefix(), [prompts[0]])  # warm up
    plain, whole = card.timed(ten)
    shared, forked = card.timed(tree)
    apart = max(float((one - other).norm()) for one, other in zip(forked, whole, strict=True))
    nearest = min(float((one - other).norm()) for one, other in pairwise(whole))
    tokens = f"{read / sum(map(len, prompts)):.2f} of the tokens are read"
    return [
        Measured("seconds, tree over ten prefills", shared / plain, "times", 1.0 if sizes.is_promised else None, note=tokens),
        Measured(
            "logits: distance from the own prefill, over that from the nearest other prompt",
            apart / nearest, "times", OWN_SHARE.get(card.dtype, OWN_SHARE_OF_HALF),
        ),
    ]  # fmt: skip


def rollouts(subject: Subject, card: Card) -> list[Measured]:
    """Continuations of one prompt, drawn in a batch, and some of them one after the other."""
    sizes, model = subject.sizes, subject.model
    spine = model.prefix(subject.ids(min(512, sizes.tree_tokens)))
    last = tuple(subject.ids(1, 3))
    jobs = [Job(spine.lengths[0], last, sizes.rollout_tokens, ("gpu_check", one)) for one in range(sizes.rollouts)]
    stop = StopRule([])
    sample(model, spine, jobs[:1], Policy(), stop)  # warm up
    batched, written = card.timed(lambda: sample(model, spine, jobs, Policy(), stop))
    alone, _ = card.timed(lambda: [sample(model, spine, [job], Policy(), stop) for job in jobs[: sizes.alone]])
    if not all(len(one.token_ids) == sizes.rollout_tokens for one in written):
        raise NotRunError("a rollout ended before its room was used, so rates are not of one length")
    rate, one_by_one = len(jobs) / batched, sizes.alone / alone
    note = f"{sizes.rollout_tokens} tokens each, after {spine.lengths[0]}"
    return [
        Measured("rollouts in batches", rate, "a second", note=note),
        Measured(
            "rate in batches over one by one",
            rate / one_by_one,
            "times",
            1.0 if sizes.is_promised else None,
            at_least=True,
        ),
    ]
