"""What drawing variants together saves: `python -m benchmarks.t2i_flow`.

Two ways draw the same variants of the same prompts from the same noise:
  shared    this toolkit: each text encoded once, all variants of some prompts through the denoiser in shared batches;
  script    what one writes first: diffusers, the texts encoded and the pipeline called anew for every picture.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from interp.models.image import ImageModel
from interp.models.image_loading import load_image
from probes.t2i_flow.drawing import Cell, Sampling, draw
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.plan import PROMPTS_PER_UNIT, prompts_of
from probes.t2i_flow.prompt_units import prompt_variants
from probes.t2i_flow.variants import Variant
from probes.t2i_flow.workbench import encode

MODEL = "shapes-t2i"
GRID = T2IFlow(n_prompts=20)
SAMPLING = Sampling((0,), batch=GRID.batch)
Result = TypeVar("Result")


def main() -> None:
    """Prints the seconds of both ways and the largest difference between their pictures."""
    torch.set_num_threads(1)  # waiting threads would count as work
    model = load_image(MODEL)
    model.generate(model.clean(), model.noise([0]))  # warm up
    cells = cells_of(model)
    shared_seconds, ours = timed(lambda: shared_way(model))
    script_seconds, theirs = timed(lambda: [script_picture(model, cell) for cell in cells])
    say(
        f"{len(cells)} pictures of {GRID.n_prompts} prompts, {MODEL} float32, {model.default_steps} steps, one thread\n"
    )
    say("| way | processor seconds | times the shared way |\n|---|---|---|")
    for name, seconds in (("shared", shared_seconds), ("script", script_seconds)):
        say(f"| {name} | {seconds:.1f} | {seconds / shared_seconds:.1f} |")
    say(f"\nlargest difference of a pixel: {np.abs(ours - np.stack(theirs)).max():.1e}")


def cells_of(model: ImageModel) -> list[Cell]:
    """Every variant of every prompt, as the inter-item part draws them."""
    return [
        Cell(prompt, encode(GRID, model, prompt), variant)
        for prompt in prompts_of(GRID)
        for variant in (Variant("full", "full"), *prompt_variants(model, prompt, each_word=True))
    ]


def shared_way(model: ImageModel) -> np.ndarray:
    """The toolkit's pictures, as many prompts at a time as a work unit has."""
    fresh = ImageModel(
        model._family, model.identity, {"steps": model.default_steps, "guidance": model.default_guidance}
    )
    cells, prompts = cells_of(fresh), prompts_of(GRID)
    drawn = []
    for first in range(0, len(prompts), PROMPTS_PER_UNIT):
        ids = {prompt.id for prompt in prompts[first : first + PROMPTS_PER_UNIT]}
        drawn.append(draw(fresh, [cell for cell in cells if cell.prompt.id in ids], SAMPLING)[:, 0])
    return np.concatenate(drawn)


@torch.no_grad()
def script_picture(model: ImageModel, cell: Cell) -> np.ndarray:
    """One variant's picture: its texts encoded by the pipeline, one call of the pipeline."""
    pipeline, variant = model.pipeline, cell.variant

    def encoded(text: str) -> torch.Tensor:
        return pipeline.encode_prompt(text, pipeline.device, 1, do_classifier_free_guidance=False)[0]

    text, clean = encoded(cell.prompt.text), encoded("")
    edited = text.clone()
    if variant.edit == "keep":
        edited = clean.clone()
        edited[:, list(variant.positions)] = text[:, list(variant.positions)]
    elif variant.edit == "without":
        edited[:, list(variant.positions)] = clean[:, list(variant.positions)]
    elif variant.edit == "alone":
        item = next(item for item in cell.prompt.items if item.id == variant.item_id)
        edited = clean.clone()
        edited[:, list(variant.positions)] = encoded(item.alone_text)[:, list(variant.source_positions)]
    shape = (1, pipeline.unet.config.in_channels, pipeline.unet.config.sample_size, pipeline.unet.config.sample_size)
    return pipeline(
        prompt_embeds=edited,
        negative_prompt_embeds=clean,
        latents=torch.randn(shape, generator=torch.Generator().manual_seed(SAMPLING.seeds[0])),
        num_inference_steps=model.default_steps,
        guidance_scale=model.default_guidance,
        output_type="np",
    ).images[0]


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Processor seconds of one call, and what it gave: unlike wall time they do not count what else the machine does."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def say(text: str) -> None:
    """Prints at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
