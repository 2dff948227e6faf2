"""Drawing with a diffusers pipeline: the arguments of its call, a mask over the text, and noise of its own for every row.

Comparing two pictures "from the same noise" is meaningless if a sampler draws further noise from the process's own
generator, or from one that the rows of a batch share, or carries something over from the picture before. So each row's noise
is its own, and a sampler whose pictures depend on more is refused.
"""

import copy
import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from interp.errors import ArgumentError, RunError
from interp.models.image.conditioning import Conditioning
from interp.models.image.family import Encoded, Family

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


# ---------------------------------------------------------------------- the pipeline's call


class Sampling(NamedTuple):
    """How pictures are drawn: `other` is what guidance turns away from, None where the denoiser has no second branch."""

    steps: int
    guidance: float
    other: Encoded | None


def arguments(family: Family, conditioning: Conditioning, noise: Tensor, how: Sampling) -> dict[str, Any]:
    """Returns the arguments of the pipeline's call."""
    scale, n_rows = family.pipeline.vae_scale_factor, len(conditioning)
    given = family.text_options("prompt", encoded(conditioning))
    if how.other is not None and is_guided(family, how):
        other = how.other.each(lambda part: part.expand(n_rows, *part.shape[1:]))
        given |= family.text_options("negative_prompt", other)
    if "negative_prompt" in inspect.signature(family.pipeline.__call__).parameters:
        given["negative_prompt"] = None  # where the pipeline's own is an empty text, that is two negative prompts
    return {
        **given,
        **family.call_options(),
        **family.guidance_options(how.guidance),
        "latents": family.latents(noise.to(family.device, family.latents_dtype)),
        "height": noise.shape[-2] * scale,
        "width": noise.shape[-1] * scale,
        "num_inference_steps": how.steps,
        "generator": [generator_of(row) for row in noise],
        "output_type": "np",
    }


def is_guided(family: Family, how: Sampling) -> bool:
    """Returns whether there is a second branch, beside the one with the texts."""
    return how.other is not None and how.guidance > family.unguided


def encoded(conditioning: Conditioning) -> Encoded:
    """Returns the parts of a conditioning, with what was dropped hidden where the family hides padding."""
    shown = None if conditioning.shown is None else conditioning.seen
    return Encoded(conditioning.sequence, conditioning.pooled, shown)


def watched(family: Family) -> dict[str, Any]:
    """Returns the argument of the pipeline's call that has `refuse_non_finite` called after every step."""
    if "callback_on_step_end" in inspect.signature(family.pipeline.__call__).parameters:
        return {"callback_on_step_end": refuse_non_finite}
    return {"callback": lambda step, timestep, latents: refuse_non_finite(None, step, timestep, {"latents": latents})}


def generator_of(noise: Float32[Tensor, "channel latent_height latent_width"]) -> torch.Generator:
    """Returns a generator for the sampler's further noise, seeded by a row's initial noise, so independent of other rows."""
    digest = hashlib.sha256(noise.cpu().contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def refuse_non_finite(pipeline: Any, step: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Raises RunError if a step left non-finite latents; the pipeline calls this after every step."""
    finite = torch.isfinite(state["latents"]).flatten(1).all(dim=1)
    if not finite.all():
        raise RunError(
            f"The latents of {int((~finite).sum())} of {len(finite)} pictures are not finite after step {step + 1}: try "
            "--dtype float32 or bfloat16, or less guidance."
        )
    return {}


def finite_pictures(pictures: np.ndarray) -> Float32[np.ndarray, "row height width 3"]:
    """Returns the pictures in float32. Raises RunError if the decoder returned non-finite values."""
    if not np.isfinite(pictures).all():
        raise RunError("The pictures that were decoded are not finite: try --dtype float32 or bfloat16.")
    return pictures.astype(np.float32)


@contextmanager
def masking(family: Family, mask: Bool[Tensor, "row position"]) -> Iterator[None]:
    """Hides positions of the text from the denoiser inside the block; the unconditional half of a guided batch sees all."""

    def add(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        guided = family.pipeline.do_classifier_free_guidance
        whole = torch.cat([torch.ones_like(mask), mask]) if guided else mask
        return inputs, {**options, "encoder_attention_mask": whole}

    handle = family.denoiser.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


# ---------------------------------------------------------------------- samplers


@contextmanager
def own_noise(scheduler: Any, generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Inside the block, passes the rows' generators to every step of the scheduler, if the pipeline does not (SD3, FLUX)."""
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

    def __call__(self, *inputs: Any, **options: Any) -> tuple[Any]:
        latents = inputs[0] if inputs else options["hidden_states"]
        if isinstance(latents, list):
            return ([0.1 * row for row in latents],)
        answered, config = 0.1 * latents, self._denoiser.config
        wide = config.out_channels if "out_channels" in config else getattr(self._denoiser, "out_channels", None)
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
    advice = f"save the model with another scheduler, or set pipeline.scheduler, such as {SAFE['flow' if family.flow else 'noise']}"
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


def takes_scaled_attention(denoiser: Any) -> bool:
    """Whether a denoiser reads the text by cross-attention, which can be scaled."""
    return any(name.endswith("attn2.processor") for name in getattr(denoiser, "attn_processors", {}))


@contextmanager
def scaled_attention(denoiser: Any, rows: Sequence[Sequence[int]], scale: float, n_positions: int) -> Iterator[None]:
    """Multiplies the cross-attention weights of some text positions by `scale` and renormalises, in every layer and step.

    `rows` has the positions for each of the last rows that the denoiser is called with: with guidance the rows before them are
    the unconditional branch, which is left alone. Like the reweighting of prompt-to-prompt (Hertz et al. 2023), which does
    not normalise again. Each module's own processor does the work: only its mask is changed. Heat maps recorded meanwhile are
    those of the weights before they are scaled.
    Raises ArgumentError for a negative scale, and for a denoiser without cross-attention.
    """
    if scale < 0:
        raise ArgumentError("An attention scale is 0 or more: 0 hides the tokens, 1 changes nothing.")
    if not takes_scaled_attention(denoiser):
        raise ArgumentError(
            f"{type(denoiser).__name__} reads text by joint attention, which is not scaled: leave this out, or use a model with "
            "cross-attention (Stable Diffusion 1 and 2, SDXL)."
        )
    own = dict(denoiser.attn_processors)
    bias = scale_bias(rows, scale, n_positions)
    biased = {name: _Biased(one, bias) for name, one in own.items() if name.endswith("attn2.processor")}
    denoiser.set_attn_processor({**own, **biased})
    try:
        yield
    finally:
        denoiser.set_attn_processor(own)


def scale_bias(rows: Sequence[Sequence[int]], scale: float, n_positions: int) -> Float[Tensor, "row 1 position"]:
    """Returns the bias on attention scores that multiplies the weights of these positions by `scale`."""
    bias = torch.zeros(len(rows), 1, n_positions)
    for row, positions in enumerate(rows):
        bias[row, 0, list(positions)] = math.log(scale) if scale > 0 else -math.inf
    return bias


class _Biased:
    """An attention processor that does what another one does, with something added to the scores of the last rows."""

    def __init__(self, processor: Any, bias: Float[Tensor, "row 1 position"]) -> None:
        self._processor, self._bias = processor, bias

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        before = self._bias.new_zeros(len(hidden_states) - len(self._bias), *self._bias.shape[1:])
        bias = torch.cat([before, self._bias]).to(hidden_states)
        mask = bias if attention_mask is None else attention_mask + bias
        return self._processor(attn, hidden_states, encoder_hidden_states, mask, *args, **kwargs)
