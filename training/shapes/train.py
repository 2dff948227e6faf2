"""Trains one of the small text-to-image models: `python -m training.shapes.train shapes-t2i --out FOLDER`.

If interrupted, run it again: it resumes from its last checkpoint. The encoder's training takes under a minute and starts over.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch.nn.functional import pixel_shuffle

from probes.t2i_flow.judges import is_exact
from probes.t2i_flow.scenes import sample_scenes
from training.shapes.captions import read_captions
from training.shapes.denoiser import new_denoiser, new_scheduler, train_denoiser
from training.shapes.encoder import train_encoder
from training.shapes.recipe import REGIMES, STEPS, DenoiserRecipe, EncoderRecipe
from training.shapes.shipping import ship
from training.shapes.vocabulary import CONTEXT_TOKENS, build_tokenizer

WATCHED = 48
"""Scenes of each number of objects that the learning curve is measured on."""
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "10000000000",
    "MALLOC_TRIM_THRESHOLD_": "10000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def main() -> None:
    """Trains the model named on the command line and leaves it, with its card, in the folder given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=REGIMES)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and finished models")
    parser.add_argument("--steps", type=int, default=DenoiserRecipe.steps, help="training steps of the denoiser")
    arguments = parser.parse_args()
    _keep_memory()
    recipe, encoder_recipe = DenoiserRecipe(steps=arguments.steps), EncoderRecipe()
    scenes = sample_scenes(np.random.default_rng(recipe.seed), recipe.captions)
    regime = REGIMES[arguments.name]
    tokenizer = build_tokenizer(regime)
    captions = read_captions(scenes, tokenizer)
    encoder, encoder_curve = train_encoder(regime, captions, scenes, tokenizer, encoder_recipe)

    @torch.no_grad()
    def states(texts: list[str]) -> torch.Tensor:
        read = tokenizer(texts, padding="max_length", max_length=CONTEXT_TOKENS, return_tensors="pt")
        parts = torch.as_tensor(read["input_ids"]).split(512)
        return torch.cat([encoder(input_ids=part).last_hidden_state for part in parts])

    watched = [
        scene for arity in (1, 2) for scene in sample_scenes(np.random.default_rng(1000 + arity), WATCHED, arity)
    ]
    watched_states = states([scene.text for scene in watched])

    def look(_step: int, denoiser: UNet2DConditionModel) -> dict[str, float]:
        noise = torch.randn((len(watched), 12, 8, 8), generator=torch.Generator().manual_seed(1))
        pictures = draw(denoiser, new_scheduler(), watched_states, noise)
        exact = [is_exact(picture, scene.items) for picture, scene in zip(pictures, watched, strict=True)]
        return {"one_exact": float(np.mean(exact[:WATCHED])), "two_exact": float(np.mean(exact[WATCHED:]))}

    workplace = arguments.out / f"{arguments.name}-training"
    workplace.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    denoiser, progress = train_denoiser(
        new_denoiser(recipe, encoder_recipe.width),
        scenes,
        states([scene.text for scene in scenes]),
        states([""])[0],
        recipe,
        workplace,
        look=look,
    )
    curves = {"encoder": encoder_curve, "denoiser": progress.curve}
    facts = {"regime": regime, "steps": progress.step, "cpu_seconds": round(progress.cpu_seconds)}
    ship(arguments.out / arguments.name, tokenizer, encoder, denoiser, curves, facts)


@torch.no_grad()
def draw(denoiser: UNet2DConditionModel, scheduler: Any, text: torch.Tensor, noise: torch.Tensor) -> np.ndarray:
    """Returns the pictures [row, height, width, 3] that texts make of noise, without a pipeline."""
    scheduler.set_timesteps(STEPS)
    latents = noise
    for time in scheduler.timesteps:
        latents = scheduler.step(denoiser(latents, time, text).sample, time, latents).prev_sample
    return ((pixel_shuffle(latents, 2) + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def _keep_memory() -> None:
    """Starts again with an allocator that keeps what it has: giving large buffers back at each step can cost 40 times a step."""
    if not _MALLOC.keys() <= os.environ.keys():
        module = ["-m", "training.shapes.train"]
        os.execve(sys.executable, [sys.executable, *module, *sys.argv[1:]], {**os.environ, **_MALLOC})  # noqa: S606 (itself, again)


if __name__ == "__main__":
    main()
