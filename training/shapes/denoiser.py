"""The denoiser: a small UNet that learns to draw captions from noise, with checkpoints it goes on from."""

import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from probes.t2i_flow.scenes import Scene
from training.shapes.pictures import cells_in_noise, latents_of
from training.shapes.recipe import DenoiserRecipe

CHECKPOINT = "denoiser.safetensors"
CHECKPOINT_STEPS, CURVE_STEPS = 50, 100


@dataclass
class Progress:
    """How far a training run has come."""

    step: int = 0
    cpu_seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def new_denoiser(recipe: DenoiserRecipe, text_width: int) -> UNet2DConditionModel:
    """Returns an untrained denoiser of 8 × 8 latents that looks at the text at both of its levels."""
    blocks = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(recipe.channels, recipe.channels),
        down_block_types=blocks[0],
        up_block_types=blocks[1],
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=recipe.heads,
        cross_attention_dim=text_width,
    )


def new_scheduler() -> DDIMScheduler:
    """Returns the scheduler of training and drawing: it begins at noise without any signal and predicts the picture itself."""
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        prediction_type="sample",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def train_denoiser(
    denoiser: UNet2DConditionModel,
    scenes: Sequence[Scene],
    states: Float[Tensor, "caption position channel"],
    empty: Float[Tensor, "position channel"],
    recipe: DenoiserRecipe,
    folder: Path,
    *,
    stop_after: int | None = None,
    look: Callable[[int, UNet2DConditionModel], dict[str, float]] = lambda step, average: {},
) -> tuple[UNet2DConditionModel, Progress]:
    """Trains the denoiser from the folder's checkpoint, if there is one; returns the mean of its weights and how far it came.

    `states` are the encoder's vectors of the scenes' captions, `empty` those of the empty caption. `look` is shown the mean every
    CURVE_STEPS steps; what it returns goes into the curve.
    """
    average = copy.deepcopy(denoiser).eval()
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    progress = restore(folder / CHECKPOINT, denoiser, average, optimizer)
    kept = new_scheduler().alphas_cumprod
    begun, before = time.process_time(), progress.cpu_seconds
    last = min(recipe.steps, recipe.steps if stop_after is None else stop_after)
    for step in tqdm(
        range(progress.step, last), initial=progress.step, total=recipe.steps, desc="denoiser", disable=None
    ):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        loss = _loss(denoiser, scenes, states, empty, kept, recipe, step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), recipe.clip_norm)
        optimizer.step()
        _average_in(average, denoiser, min(recipe.average, (step + 1) / (step + 10)))
        progress.step, progress.cpu_seconds = step + 1, before + time.process_time() - begun
        if progress.step % CURVE_STEPS == 0 or progress.step == recipe.steps:
            progress.curve.append({"step": progress.step, "loss": loss.item(), **look(progress.step, average)})
        if progress.step % CHECKPOINT_STEPS == 0 or progress.step == last:
            keep(folder / CHECKPOINT, denoiser, average, optimizer, progress)
    return average, progress


def _loss(
    denoiser: UNet2DConditionModel,
    scenes: Sequence[Scene],
    states: Float[Tensor, "caption position channel"],
    empty: Float[Tensor, "position channel"],
    kept: Float[Tensor, " time"],
    recipe: DenoiserRecipe,
    step: int,
) -> Float[Tensor, ""]:
    """Returns the loss of one step's batch, which depends on the step and the seed alone."""
    rng = np.random.default_rng((recipe.seed, step))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    chosen = rng.integers(len(scenes), size=recipe.batch)
    noise = torch.randn((recipe.batch, 12, 8, 8), generator=generator)
    batch = [scenes[index] for index in chosen]
    cells = [order[: len(scene.items)] for scene, order in zip(batch, cells_in_noise(noise), strict=True)]
    picture = latents_of(batch, cells)
    text = _thinned(states[torch.from_numpy(chosen)], empty, recipe, generator)
    times = (
        1000 * torch.rand(recipe.batch, generator=generator).sqrt()
    ).long()  # more of them where there is much noise
    signal = kept[times][:, None, None, None]
    noisy = signal.sqrt() * picture + (1 - signal).sqrt() * noise
    return mse_loss(denoiser(noisy, times, text).sample, picture)


def _thinned(
    text: Float[Tensor, "row position channel"],
    empty: Float[Tensor, "position channel"],
    recipe: DenoiserRecipe,
    generator: torch.Generator,
) -> Float[Tensor, "row position channel"]:
    """Puts the empty caption's vectors in place of all of some captions, and of some positions of others.

    Without it a caption of which one token is kept would be a text the denoiser has never met.
    """
    rows, positions = text.shape[:2]
    kind = torch.rand(rows, 1, generator=generator)
    share = 0.6 * torch.rand(rows, 1, generator=generator)
    some = torch.rand(rows, positions, generator=generator) < share
    thinned = (kind < recipe.empty_share + recipe.thinned_share) & some
    return torch.where(((kind < recipe.empty_share) | thinned)[..., None], empty, text)


@torch.no_grad()
def _average_in(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    for mean, now in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(now, 1 - decay)


def learning_rate(step: int, recipe: DenoiserRecipe) -> float:
    """Returns the learning rate of a step: a linear rise, then half a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / recipe.rise_steps)
    return recipe.learning_rate * rise * (0.02 + 0.98 * (1 + math.cos(math.pi * step / recipe.steps)) / 2)


def keep(path: Path, model: Any, average: Any, optimizer: Any, progress: Progress) -> None:
    """Writes a checkpoint aside and renames it: there is a whole one at every moment."""
    tensors = {f"average/{name}": parameter.detach() for name, parameter in average.named_parameters()}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {
            f"now/{name}": parameter.detach(),
            f"first/{name}": state["exp_avg"],
            f"second/{name}": state["exp_avg_sq"],
        }
    aside = path.with_suffix(".aside")
    save_file(tensors, aside, metadata={"progress": json.dumps(asdict(progress))})
    os.replace(aside, path)


@torch.no_grad()
def restore(path: Path, model: Any, average: Any, optimizer: Any) -> Progress:
    """Puts a checkpoint's weights and moments in place; returns how far it had come, or a beginning without one."""
    if not path.is_file():
        return Progress()
    with safe_open(path, framework="pt") as kept:
        progress = Progress(**json.loads(kept.metadata()["progress"]))
        for name, parameter in average.named_parameters():
            parameter.copy_(kept.get_tensor(f"average/{name}"))
        for name, parameter in model.named_parameters():
            parameter.copy_(kept.get_tensor(f"now/{name}"))
            optimizer.state[parameter] = {
                "step": torch.tensor(float(progress.step)),
                "exp_avg": kept.get_tensor(f"first/{name}"),
                "exp_avg_sq": kept.get_tensor(f"second/{name}"),
            }
    return progress
