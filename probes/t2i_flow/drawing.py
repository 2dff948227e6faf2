"""Drawing the variants of some texts from the same noise in shared batches, and asking a judge about every picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from interp.models.attention_scale import scaled_attention
from interp.models.conditioning import Conditioning
from interp.models.heat_maps import HeatMaps
from interp.models.image import ImageModel
from probes.t2i_flow.judges import Judge, as_columns, ask
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.variants import Encoded, Variant

Pictures = Float32[np.ndarray, "cell seed height width 3"]


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: `seeds` name the noise, which all variants share."""

    seeds: tuple[int, ...]
    steps: int | None = None
    guidance: float | None = None
    batch: int = 16
    attention_scale: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One variant of one prompt."""

    prompt: Prompt
    encoded: Encoded
    variant: Variant


def draw(model: ImageModel, cells: Sequence[Cell], sampling: Sampling, record: HeatMaps | None = None) -> Pictures:
    """Returns the pictures of every cell from every seed's noise.

    All go through the denoiser in batches, side by side whatever prompt they are of; cells with scaled attention apart.
    """
    noise = model.noise(sampling.seeds)
    n_seeds = len(sampling.seeds)
    pictures: list[np.ndarray | None] = [None] * len(cells)
    plain = [index for index, cell in enumerate(cells) if not cell.variant.scaled]
    scaled = [index for index, cell in enumerate(cells) if cell.variant.scaled]
    for group in (plain, *([index] for index in scaled)):
        if group:
            chosen = [cells[index] for index in group]
            drawn = _generate(model, chosen, noise, sampling, record)
            for index, some in zip(group, drawn.reshape(len(group), n_seeds, *drawn.shape[1:]), strict=True):
                pictures[index] = some
    return np.stack([some for some in pictures if some is not None])


def _generate(
    model: ImageModel, cells: Sequence[Cell], noise: Any, sampling: Sampling, record: HeatMaps | None
) -> np.ndarray:
    rows = Conditioning.stack([cell.encoded.conditioning(cell.variant) for cell in cells])
    n_seeds = len(noise)
    rows = rows.select([cell for cell in range(len(cells)) for _ in range(n_seeds)])
    options: dict[str, Any] = {"steps": sampling.steps, "guidance": sampling.guidance}
    if not cells[0].variant.scaled:
        return model.generate(rows, noise.repeat(len(cells), 1, 1, 1), batch=sampling.batch, record=record, **options)
    positions = [cells[0].variant.scaled] * n_seeds
    with scaled_attention(model.pipeline.unet, positions, sampling.attention_scale, rows.n_positions):
        return model.generate(rows, noise, batch=n_seeds, record=record, **options)


def judged(
    model: ImageModel,
    cells: Sequence[Cell],
    pictures: Pictures,
    sampling: Sampling,
    judge: Judge,
    labels: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Yields the rows of `variants`: one for each picture and question, without an answer where the judge failed."""
    full = {cell.prompt.id: pictures[index] for index, cell in enumerate(cells) if cell.variant.name == "full"}
    for cell, drawn in zip(cells, pictures, strict=True):
        questions = cell.prompt.questions
        change = np.abs(drawn - full[cell.prompt.id]).mean(axis=(1, 2, 3)) if cell.prompt.id in full else None
        spelled = _spelled(model, cell)
        for index, (seed, picture) in enumerate(zip(sampling.seeds, drawn, strict=True)):
            answers = ask(judge, picture, [question.description for question in questions])
            verdicts = answers.verdicts or [None] * len(questions)
            for question, verdict in zip(questions, verdicts, strict=True):
                yield {
                    "model": model.identity.name,
                    "prompt_id": cell.prompt.id,
                    "group": cell.prompt.group,
                    **labels,
                    "variant": cell.variant.name,
                    "token_role": cell.variant.role,
                    "source_item": cell.variant.item_id,
                    **spelled,
                    "seed": seed,
                    "item_id": question.item_id,
                    "asked": question.asked,
                    "description": question.description,
                    **as_columns(verdict),
                    "failure": answers.failure,
                    "pixel_change": np.nan if change is None else float(change[index]),
                }


def _spelled(model: ImageModel, cell: Cell) -> dict[str, str]:
    """The positions a variant keeps, takes away or pastes, and the tokens there; padding is named once."""
    tokens = model.tokens(cell.prompt.text)
    chosen = [tokens[position] for position in cell.variant.positions]
    shown = [token.token if token.role == "text" else f"[{token.role}]" for token in chosen]
    shown = [name for index, name in enumerate(shown) if name != "[pad]" or name not in shown[:index]]
    encoders = dict.fromkeys(token.encoder for token in chosen)
    return {
        "encoder": "+".join(encoders),
        "kept_positions": " ".join(str(position) for position in cell.variant.positions),
        "kept_tokens": " ".join(shown),
    }
