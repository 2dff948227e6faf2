"""What drawing variants together saves, and what recording costs: `python -m benchmarks t2i_flow`.

Three ways draw the same variants of the same prompts from the same noise:
  shared    this toolkit: each text encoded once, all variants of some prompts through the denoiser in shared batches;
  script    diffusers used well: all texts encoded in one call, the pipeline called for batches of pictures;
  obvious   what one writes first: the texts encoded and the pipeline called anew for every picture.
Then the same batch of pictures is drawn by this toolkit without recording, by one plain call of the pipeline, and with heat
maps recorded; and by this toolkit with more and more steps, and in more and more pictures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.tables import Difference, Results, compare, grow, results
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.model import ImageModel
from interp.models.loading.image import load_image
from probes.t2i_flow.experiment import T2IFlow
from probes.t2i_flow.measure import encode
from probes.t2i_flow.pictures import Cell, Sampling, draw
from probes.t2i_flow.plan import PROMPTS_PER_UNIT, prompts_of
from probes.t2i_flow.variants import Variant, prompt_variants

NAME, MODEL = "t2i_flow", "shapes-t2i"
TOLERANCE = 1e-4
"""Of a pixel in 0 … 1: batches of another size round differently."""


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    n_prompts: int
    shared_steps: int | None
    """Of these pictures; the model's own if none are given."""
    repetitions: int
    pictures_recorded: int
    repetitions_recorded: int
    steps: tuple[int, ...]
    pictures_by_steps: int
    pictures: tuple[int, ...]
    repetitions_of_growth: int


FULL = Sizes(3, None, 3, 8, 15, (5, 10, 20, 40), 8, (4, 8, 16, 32, 64), 3)
QUICK = Sizes(1, 2, 1, 2, 1, (1, 2), 2, (1, 2), 1)


def run(sizes: Sizes) -> Results:
    """Returns the seconds of both ways, of recording, and by steps and pictures."""
    model = load_image(MODEL)
    model.generate(model.clean(), model.noise([0]))  # warm up
    return results([*sharing(model, sizes), *recording(model, sizes)], growth(model, sizes))


def sharing(model: ImageModel, sizes: Sizes) -> list[dict]:
    """Rows of the shared way and the script."""
    settings = T2IFlow(n_prompts=sizes.n_prompts)
    sampling = Sampling((0,), steps=sizes.shared_steps or model.default_steps, batch=settings.batch)
    cells = cells_of(model, settings)
    case = f"all variants of {sizes.n_prompts} prompts, {len(cells)} pictures of {sampling.steps} steps"
    return compare(
        {"model": MODEL, "benchmark": NAME, "kind": "speed", "case": case, "amount_name": "pictures drawn"},
        {
            ("toolkit", "shared batches, each text encoded once"): lambda: shared_way(model, settings, sampling),
            ("baseline", "texts encoded in one call, the pipeline called for batches"): lambda: script_pictures(
                model, cells, sampling
            ),
            ("obvious", "one call of the pipeline for each picture"): lambda: np.stack(
                [script_picture(model, cell, sampling) for cell in cells]
            ),
        },
        sizes.repetitions,
        pixels_apart,
        lambda _way, pictures: len(pictures),
    )


def recording(model: ImageModel, sizes: Sizes) -> list[dict]:
    """Rows of one batch of pictures drawn without recording, by the pipeline alone, and with heat maps."""
    n = sizes.pictures_recorded
    rows, noise = conditioning_of(model, n), model.noise(range(n))
    clean = model.clean()

    def generate(record: HeatMaps | None) -> np.ndarray:
        return model.generate(rows, noise, batch=n, record=record)

    @torch.no_grad()
    def pipeline_call() -> np.ndarray:
        return model.pipeline(
            prompt_embeds=rows.sequence,
            negative_prompt_embeds=clean.sequence.expand(n, -1, -1),
            latents=noise,
            num_inference_steps=model.default_steps,
            guidance_scale=model.default_guidance,
            output_type="np",
        ).images

    return compare(
        {
            "model": MODEL, "benchmark": NAME, "kind": "recording", "case": f"{n} pictures in one batch",
            "amount_name": "pictures drawn",
        },
        {
            ("baseline", "one plain call of the pipeline"): pipeline_call,
            ("toolkit", "generate, record=None"): lambda: generate(None),
            ("toolkit", "generate, heat maps recorded"): lambda: generate(HeatMaps()),
        },
        sizes.repetitions_recorded,
        pixels_apart,
        lambda _way, pictures: len(pictures),
    )  # fmt: skip


def growth(model: ImageModel, sizes: Sizes) -> list[dict]:
    """Rows by steps and by pictures."""
    labels = {"model": MODEL, "benchmark": NAME}
    n = sizes.pictures_by_steps
    rows, noise = conditioning_of(model, max(n, *sizes.pictures)), model.noise(range(max(n, *sizes.pictures)))

    def by_steps(steps: int):
        return lambda: model.generate(rows.select(range(n)), noise[:n], steps=steps)

    def by_pictures(pictures: int):
        return lambda: model.generate(rows.select(range(pictures)), noise[:pictures])

    return [
        *grow({**labels, "curve": "steps"}, sizes.steps, sizes.repetitions_of_growth, by_steps),
        *grow({**labels, "curve": "pictures"}, sizes.pictures, sizes.repetitions_of_growth, by_pictures),
    ]


def conditioning_of(model: ImageModel, n: int):
    """The experiment's first prompts, over and over until there are n rows."""
    prompts = prompts_of(T2IFlow(n_prompts=8))
    return model.encode([prompts[row % len(prompts)].text for row in range(n)])


def pixels_apart(first: np.ndarray, other: np.ndarray) -> Difference:
    """The largest difference of a pixel."""
    return Difference("largest difference of a pixel", float(np.abs(first - other).max()), first.size, TOLERANCE)


def cells_of(model: ImageModel, settings: T2IFlow) -> list[Cell]:
    """Every variant of every prompt, as the inter-item part draws them."""
    return [
        Cell(prompt, encode(settings, model, prompt), variant)
        for prompt in prompts_of(settings)
        for variant in (Variant("full", "full"), *prompt_variants(model, prompt, each_word=True))
    ]


def shared_way(model: ImageModel, settings: T2IFlow, sampling: Sampling) -> np.ndarray:
    """The toolkit's pictures, as many prompts at a time as a work unit has."""
    defaults = {"steps": model.default_steps, "guidance": model.default_guidance}
    fresh = ImageModel(model._family, model.identity, defaults)  # nothing encoded yet
    cells, prompts = cells_of(fresh, settings), prompts_of(settings)
    drawn = []
    for first in range(0, len(prompts), PROMPTS_PER_UNIT):
        ids = {prompt.id for prompt in prompts[first : first + PROMPTS_PER_UNIT]}
        drawn.append(draw(fresh, [cell for cell in cells if cell.prompt.id in ids], sampling)[:, 0])
    return np.concatenate(drawn)


@torch.no_grad()
def script_pictures(model: ImageModel, cells: list[Cell], sampling: Sampling) -> np.ndarray:
    """All variants' pictures: every text encoded once, in one call, and the pipeline called for batches."""
    pipeline = model.pipeline
    texts = ["", *dict.fromkeys(text for cell in cells for text in texts_of(cell))]
    sequences = pipeline.encode_prompt(texts, pipeline.device, 1, do_classifier_free_guidance=False)[0]
    encoded = {text: sequences[row : row + 1] for row, text in enumerate(texts)}
    edited = torch.cat([edited_text(cell, encoded) for cell in cells])
    return np.concatenate(
        [
            called(model, edited[first : first + sampling.batch], encoded[""], sampling)
            for first in range(0, len(cells), sampling.batch)
        ]
    )


@torch.no_grad()
def script_picture(model: ImageModel, cell: Cell, sampling: Sampling) -> np.ndarray:
    """One variant's picture: its texts encoded by the pipeline, one call of the pipeline."""
    pipeline = model.pipeline
    encoded = {
        text: pipeline.encode_prompt(text, pipeline.device, 1, do_classifier_free_guidance=False)[0]
        for text in ("", *texts_of(cell))
    }
    return called(model, edited_text(cell, encoded), encoded[""], sampling)[0]


def texts_of(cell: Cell) -> tuple[str, ...]:
    """The texts that a variant is made of, besides the empty one."""
    alone = [item.alone_text for item in cell.prompt.items if item.id == cell.variant.item_id]
    return (cell.prompt.text, *alone) if cell.variant.edit == "alone" else (cell.prompt.text,)


def edited_text(cell: Cell, encoded: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A variant's vectors, from those of its texts."""
    variant, text, clean = cell.variant, encoded[cell.prompt.text], encoded[""]
    edited = text.clone()
    if variant.edit == "keep":
        edited = clean.clone()
        edited[:, list(variant.positions)] = text[:, list(variant.positions)]
    elif variant.edit == "without":
        edited[:, list(variant.positions)] = clean[:, list(variant.positions)]
    elif variant.edit == "alone":
        item = next(item for item in cell.prompt.items if item.id == variant.item_id)
        edited = clean.clone()
        edited[:, list(variant.positions)] = encoded[item.alone_text][:, list(variant.source_positions)]
    return edited


def called(model: ImageModel, edited: torch.Tensor, clean: torch.Tensor, sampling: Sampling) -> np.ndarray:
    """One call of the pipeline, all its pictures from the same noise."""
    pipeline, n = model.pipeline, len(edited)
    shape = (1, pipeline.unet.config.in_channels, pipeline.unet.config.sample_size, pipeline.unet.config.sample_size)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(sampling.seeds[0]))
    return pipeline(
        prompt_embeds=edited,
        negative_prompt_embeds=clean.expand(n, -1, -1),
        latents=noise.expand(n, -1, -1, -1),
        num_inference_steps=sampling.steps,
        guidance_scale=model.default_guidance,
        output_type="np",
    ).images
