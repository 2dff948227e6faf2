"""Samplers: the same picture from the same noise, drawn twice or alone, for every scheduler that a pipeline takes, or a sentence."""

import inspect
import re
import warnings
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers import KarrasDiffusionSchedulers

from interp.errors import ArgumentError, UserError
from interp.models.identity import ModelIdentity
from interp.models.image.drawing import own_noise
from interp.models.image.families import family_of
from interp.models.image.model import ImageModel
from tests.pictures import PIXELS
from tests.tiny_pipelines import BUILDERS

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # numpy's, of how diffusers makes arrays
]
STEPS = 4
KINDS = [
    name
    for name in dir(diffusers)
    if name.endswith("Scheduler") and isinstance(getattr(diffusers, name), type) and "Flax" not in name
]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stochastic": {"stochastic_sampling": True},
    "sde": {"algorithm_type": "sde-dpmsolver++"},
}


@pytest.fixture(scope="module")
def models() -> dict[str, ImageModel]:
    """One model of each family."""
    return {name: _model(name) for name in ("sd", "sdxl", "sd3", "flux")}


def _model(family: str) -> ImageModel:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        pipeline = BUILDERS[family]()
    kind = family_of(family, type(pipeline).__name__)
    return ImageModel(kind(pipeline), ModelIdentity(f"tiny-{family}", "tests", "0", "float32"), {"guidance": 2.0})


def made(name: str, options: dict[str, Any]) -> Any:
    """A scheduler, or None where it wants more than these options, or a package that is not here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(diffusers, name)(**options)
        except (TypeError, NotImplementedError, ImportError):
            return None


def schedulers() -> list[Any]:
    """Every scheduler of the installed diffusers in each of its noisy ways: those of flows for SD3, the others for SD."""
    found = []
    for name in KINDS:
        for way, options in OPTIONS.items():
            if set(options) <= set(inspect.signature(getattr(diffusers, name).__init__).parameters):
                scheduler = made(name, options)
                family = "sd" if hasattr(scheduler, "init_noise_sigma") else "sd3"
                found += (
                    [pytest.param(family, name, options, id=f"{family}-{name}-{way}")] if scheduler is not None else []
                )
    return found


def drawn(model: ImageModel, rows: list[int], seed: int, steps: int = STEPS) -> np.ndarray:
    """Pictures of some of two rows, after the process's own generator was set."""
    torch.manual_seed(seed)
    texts, noise = model.encode(["red circle", "blue circle"]), model.noise([1, 2], **PIXELS)
    return model.generate(texts.select(rows), noise[rows], steps=steps)


TAKEN = {kind.name for kind in KarrasDiffusionSchedulers} | {
    "LCMScheduler",
    "TCDScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
}
"""Those that the pipelines are made for; the others are of other kinds of pipelines."""


@pytest.mark.parametrize(("family", "name", "options"), schedulers())
def test_a_picture_depends_on_its_own_noise_alone_or_the_scheduler_is_refused(
    models: dict[str, ImageModel], family: str, name: str, options: dict[str, Any]
) -> None:
    models[family].pipeline.scheduler = made(name, options)
    try:
        both = drawn(models[family], [0, 1], 0)
    except UserError as error:
        refusal = str(error)
    else:
        np.testing.assert_allclose(drawn(models[family], [1], 9), both[1:], atol=1e-4)
        return
    assert name not in TAKEN
    assert re.search(f"scheduler {name} of .* does not run in .*: save the model with another|not finite", refusal)


@pytest.mark.parametrize(
    ("family", "name", "options"),
    [
        ("sdxl", "EulerAncestralDiscreteScheduler", {}),
        ("flux", "FlowMatchEulerDiscreteScheduler", OPTIONS["stochastic"]),
        ("flux", "FlowMatchLCMScheduler", {}),
    ],
)
def test_noise_on_the_way_is_the_rows_own_in_every_family(
    models: dict[str, ImageModel], family: str, name: str, options: dict[str, Any]
) -> None:
    models[family].pipeline.scheduler = made(name, options)
    both = drawn(models[family], [0, 1], 0, steps=2)
    np.testing.assert_array_equal(drawn(models[family], [0, 1], 5, steps=2), both)
    np.testing.assert_allclose(drawn(models[family], [1], 9, steps=2), both[1:], atol=1e-4)


class FromNowhere(diffusers.DDIMScheduler):
    """Draws noise that nobody gives it."""

    def step(self, *inputs: Any, **options: Any) -> Any:
        (latents, *rest) = super().step(*inputs, **options)
        return (latents + torch.randn_like(latents), *rest)


class SharedByRows(diffusers.DDIMScheduler):
    """Always draws the same noise, for all rows in one go."""

    def step(self, *inputs: Any, **options: Any) -> Any:
        (latents, *rest) = super().step(*inputs, **options)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(len(latents)))
        return (latents + noise, *rest)


class Remembers(diffusers.DDIMScheduler):
    """Adds what it was given before: a state that set_timesteps does not clear."""

    seen: Any = 0.0

    def step(self, *inputs: Any, **options: Any) -> Any:
        (latents, *rest) = super().step(*inputs, **options)
        latents = latents + self.seen
        self.seen = self.seen + float(latents.abs().mean())
        return (latents, *rest)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (FromNowhere, "when it is drawn again"),
        (SharedByRows, "when it is drawn alone"),
        (Remembers, "when it is drawn again"),
    ],
)
def test_a_scheduler_planted_wrong_is_refused_before_a_picture_is_drawn(
    models: dict[str, ImageModel], kind: Any, what: str
) -> None:
    model = models["sd"]
    model.pipeline.scheduler = kind()
    computed: list[int] = []
    handle = model.pipeline.unet.conv_in.register_forward_pre_hook(lambda *_: computed.append(1))
    with pytest.raises(ArgumentError, match=f"scheduler {kind.__name__} of tiny-sd .* {what}"):
        drawn(model, [0], 0)
    handle.remove()
    assert not computed


def test_nothing_is_left_in_a_pipeline_whose_sampler_was_looked_at(models: dict[str, ImageModel]) -> None:
    model, scheduler = models["sd"], diffusers.DDPMScheduler()
    model.pipeline.scheduler = scheduler
    calls: list[int] = []
    handle = model.pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    drawn(model, [0], 0)
    handle.remove()
    assert len(calls) == STEPS
    assert "step" not in vars(scheduler)
    assert model.pipeline.scheduler is scheduler
    with own_noise(scheduler, [torch.Generator()]):
        assert "step" in vars(scheduler)
    assert "step" not in vars(scheduler)
