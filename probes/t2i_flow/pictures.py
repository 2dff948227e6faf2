"""Drawing the variants of some texts from the same noise in shared batches, asking a judge about every picture, and keeping some."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image
from torch import Tensor

from interp.models.image.conditioning import BlockEdit, Conditioning
from interp.models.image.drawing import scaled_attention
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.model import ImageModel
from probes.t2i_flow.judges import Judge, as_columns, ask
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.variants import ALL_SUBSETS_UP_TO, Encoded, Variant

Pictures = Float32[np.ndarray, "cell seed height width 3"]


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: `seeds` name the noise, which all variants share."""

    seeds: tuple[int, ...]
    steps: int | None = None
    guidance: float | None = None
    batch: int = 16
    attention_scale: float = 0.0
    height: int | None = None
    width: int | None = None
    every_block: bool = False
    """Whether vectors are put in place before every block of the denoiser, not only before the first."""


@dataclass(frozen=True)
class Cell:
    """One variant of one prompt."""

    prompt: Prompt
    encoded: Encoded
    variant: Variant


def draw(model: ImageModel, cells: Sequence[Cell], sampling: Sampling, record: HeatMaps | None = None) -> Pictures:
    """Returns the pictures of every cell from every seed's noise.

    Cells go through the denoiser in batches, side by side whatever prompt they are of; those with scaled attention apart, and
    those whose vectors are put in place before every block with the others of the same positions.
    """
    noise = model.noise(sampling.seeds, height=sampling.height, width=sampling.width)
    groups: dict[Any, list[int]] = {}
    for index, cell in enumerate(cells):
        groups.setdefault(_drawn_with(cell, index, sampling), []).append(index)
    pictures: list[np.ndarray | None] = [None] * len(cells)
    for group in groups.values():
        drawn = _generate(model, [cells[index] for index in group], noise, sampling, record)
        for index, some in zip(group, drawn.reshape(len(group), len(noise), *drawn.shape[1:]), strict=True):
            pictures[index] = some
    return np.stack([some for some in pictures if some is not None])


def _drawn_with(cell: Cell, index: int, sampling: Sampling) -> Any:
    """What cells that are drawn side by side have in common."""
    if cell.variant.scaled:
        return index
    edit = _edit(cell, sampling)
    return None if edit is None else edit.positions


def _edit(cell: Cell, sampling: Sampling) -> BlockEdit | None:
    """What is put in place before every block, None where nothing is."""
    edit = cell.encoded.block_edit(cell.variant) if sampling.every_block else None
    return edit if edit is not None and edit.positions else None


def _generate(
    model: ImageModel, cells: Sequence[Cell], noise: Tensor, sampling: Sampling, record: HeatMaps | None
) -> np.ndarray:
    n_seeds = len(noise)
    rows = _for_each_seed([cell.encoded.conditioning(cell.variant) for cell in cells], n_seeds)
    options: dict[str, Any] = {"steps": sampling.steps, "guidance": sampling.guidance, "record": record}
    if cells[0].variant.scaled:
        positions = [cells[0].variant.scaled] * n_seeds
        with scaled_attention(model.pipeline.unet, positions, sampling.attention_scale, rows.n_positions):
            return model.generate(rows, noise, batch=n_seeds, **options)
    edits = [edit for cell in cells if (edit := _edit(cell, sampling))]
    if edits:
        source = _for_each_seed([edit.source for edit in edits], n_seeds)
        options["edit"] = BlockEdit(edits[0].positions, source)
    return model.generate(rows, noise.repeat(len(cells), 1, 1, 1), batch=sampling.batch, **options)


def _for_each_seed(conditionings: Sequence[Conditioning], n_seeds: int) -> Conditioning:
    """One row for each cell and seed, the seeds of a cell side by side."""
    rows = Conditioning.stack(conditionings)
    return rows.select([cell for cell in range(len(rows)) for _ in range(n_seeds)])


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
        change = np.abs(drawn - full[cell.prompt.id]).mean(axis=(1, 2, 3)) if cell.prompt.id in full else None
        spelled = _spelled(model, cell)
        for index, answer in answers(model, cell, drawn, sampling, judge):
            yield {
                **answer,
                **labels,
                "variant": cell.variant.name,
                "token_role": cell.variant.role,
                **spelled,
                "pixel_change": np.nan if change is None else float(change[index]),
            }


def answers(
    model: ImageModel, cell: Cell, drawn: np.ndarray, sampling: Sampling, judge: Judge
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the place of the seed, and the answer: one for each of a cell's pictures and questions, whatever asks them."""
    questions = cell.prompt.questions
    for index, (seed, picture) in enumerate(zip(sampling.seeds, drawn, strict=True)):
        said = ask(judge, picture, [question.description for question in questions])
        for question, verdict in zip(questions, said.verdicts or [None] * len(questions), strict=True):
            yield (
                index,
                {
                    "prompt_id": cell.prompt.id,
                    "group": cell.prompt.group,
                    "source_item": cell.variant.item_id,
                    "seed": seed,
                    "item_id": question.item_id,
                    "asked": question.asked,
                    "description": question.description,
                    **as_columns(verdict),
                    "failure": said.failure,
                },
            )


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


def stored_pictures(
    model: ImageModel,
    cells: Sequence[Cell],
    pictures: np.ndarray,
    sampling: Sampling,
    part: str,
    kept: Sequence[str],
) -> Iterator[dict[str, Any]]:
    """Yields the first seed's pictures of the prompts that are kept for grids."""
    for cell, drawn in zip(cells, pictures, strict=True):
        if cell.prompt.id in kept:
            tokens = model.tokens(cell.prompt.text)
            chosen = [tokens[position].token for position in cell.variant.positions]
            yield {
                "prompt_id": cell.prompt.id,
                "part": part,
                "variant": cell.variant.name,
                "token_role": cell.variant.role,
                "source_item": cell.variant.item_id,
                "kept_positions": " ".join(map(str, cell.variant.positions)),
                "kept_tokens": " ".join(chosen) if len(chosen) <= ALL_SUBSETS_UP_TO else "",
                "seed": sampling.seeds[0],
                "png": png(drawn[0]),
            }


def png(picture: np.ndarray) -> bytes:
    """Returns a picture (numbers in 0 … 1) as the bytes of a PNG file."""
    written = io.BytesIO()
    Image.fromarray((picture * 255).round().clip(0, 255).astype(np.uint8)).save(written, format="PNG")
    return written.getvalue()
