"""Samplers of text-to-image pipelines: each row's noise is its own, and one whose pictures depend on more is refused.

A comparison of two pictures "from the same noise" means nothing where a sampler draws further noise from the process's own
generator, or from one that the rows of a batch share, or carries something over from the picture before.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.image_families import Family

TOLERANCE = 1e-3
"""Largest difference, in standard deviations of the latents, that is rounding; noise of another draw differs by one or more."""
CANNOT_RUN = (
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    NotImplementedError,
    ImportError,
)
"""What schedulers of other kinds of pipelines raise when these call them."""


@contextmanager
def own_noise(scheduler: Any, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Gives the rows' generators to every step of the scheduler while it lasts, where the pipeline does not (SD3, FLUX)."""
    step = scheduler.step
    if "generator" not in inspect.signature(step).parameters:
        yield
        return

    @functools.wraps(step)  # pipelines read the signature
    def step_with_generators(*inputs: Any, **options: Any) -> Any:
        if options.get("generator") is None:
            options["generator"] = list(generators)
        return step(*inputs, **options)

    before = vars(scheduler).get("step")
    scheduler.step = step_with_generators
    try:
        yield
    finally:
        if before is None:
            del scheduler.step
        else:
            scheduler.step = before


def rehearsal(family: Family) -> Any:
    """Returns the pipeline with a copy of its sampler and an idle denoiser: the sampler's own steps, at no cost.

    Neither the pipeline's own sampler nor hooks on its denoiser get to know of what it draws.
    """
    twin = copy.copy(family.pipeline)
    # Past the pipeline's own way to set a part, which would note it in a config that both share.
    object.__setattr__(twin, "scheduler", copy.deepcopy(family.pipeline.scheduler))
    object.__setattr__(twin, family.denoiser_name, _Idle(family.denoiser))
    return twin


class _Idle:
    """Answers a tenth of what it is given, and is the denoiser in everything else."""

    def __init__(self, denoiser: Any) -> None:
        self._denoiser = denoiser

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)

    def __call__(self, *inputs: Tensor, **options: Any) -> tuple[Tensor]:
        latents = inputs[0] if inputs else options["hidden_states"]
        answered, wide = 0.1 * latents, getattr(self._denoiser.config, "out_channels", None)
        if latents.dim() == 4 and wide and wide > latents.shape[1]:  # a learned variance beside the noise
            answered = torch.cat([answered, torch.zeros_like(answered)[:, : wide - latents.shape[1]]], dim=1)
        return (answered,)


def check_scheduler(
    family: Family, model: str, steps: int, latents_of: Callable[[Sequence[int]], Float[Tensor, "row *latent"]]
) -> None:
    """Draws two rows together, again, and the second alone; `latents_of(rows)` runs the sampler from the noise of those rows.

    Raises ArgumentError when the sampler does not run in this pipeline, or a row comes out differently; lets an
    OutOfMemoryError pass.
    """
    name = type(family.pipeline.scheduler).__name__
    advice = f"save the model with another scheduler, or set pipeline.scheduler, such as {SAFE['flow' if family.joint else 'noise']}"
    devices = [family.device] if family.device.type == "cuda" and torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        try:
            together, again, alone = (
                _after_seed(seed, latents_of, rows) for seed, rows in enumerate(([0, 1], [0, 1], [1]))
            )
        except torch.OutOfMemoryError:
            raise
        except CANNOT_RUN as error:
            said = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['it says no more'])[0].rstrip('.')}"
            raise ArgumentError(
                f"The scheduler {name} of {model} does not run in {family.pipeline_class} with {steps} steps ({said}): {advice}."
            ) from error
    spread = float(together.float().std()) or 1.0
    for other, mine, what in (
        (again, together, "when it is drawn again"),
        (alone, together[1:], "when it is drawn alone"),
    ):
        apart = float((other.float() - mine.float()).abs().max()) / spread
        if not apart <= TOLERANCE and bool(torch.isfinite(mine).all()):
            raise ArgumentError(
                f"With the scheduler {name} of {model} the same picture from the same noise is another one {what} (by {apart:.2g} "
                f"standard deviations): {advice}."
            )


SAFE = {"flow": "FlowMatchEulerDiscreteScheduler", "noise": "DDIMScheduler"}
"""Schedulers that draw no noise of their own, by what a denoiser was trained to say."""


def _after_seed(seed: int, latents_of: Callable[[Sequence[int]], Tensor], rows: Sequence[int]) -> Tensor:
    torch.manual_seed(seed)  # another state of the process's generator each time
    return latents_of(rows)
