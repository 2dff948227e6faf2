"""What every unit of a run needs at hand: how pictures are drawn and judged, what a prompt is made of, what is stored."""

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from interp.models.image import ImageModel
from probes.t2i_flow.drawing import Cell, Sampling
from probes.t2i_flow.judges import Judge, load_judge
from probes.t2i_flow.prompts import Prompt
from probes.t2i_flow.settings import Settings
from probes.t2i_flow.variants import (
    ALL_SUBSETS_UP_TO,
    Encoded,
)

Tables = dict[str, pd.DataFrame]


def sampling_of(settings: Settings, *, fresh: bool = False) -> Sampling:
    """Returns how pictures are drawn; `fresh` names noises that nothing was chosen by."""
    first = 100_000 * settings.seed + (settings.seeds if fresh else 0)
    return Sampling(
        tuple(range(first, first + settings.seeds)),
        settings.steps,
        settings.guidance,
        settings.batch,
        settings.attention_scale,
        settings.height,
        settings.width,
        every_block=settings.edit_blocks == "every",
    )


@lru_cache(maxsize=1)
def _judge(name: str, threshold: float | None) -> Judge:
    """A judge may be a model: it is loaded once."""
    return load_judge(name, threshold)


def judge_of(settings: Settings) -> Judge:
    """Returns the judge of the settings."""
    return _judge(settings.judge, settings.judge_threshold)


def encode(settings: Settings, model: ImageModel, prompt: Prompt) -> Encoded:
    """Returns everything the variants of a prompt are made of."""
    alone = {item.id: model.encode([item.alone_text]) for item in prompt.items}
    return Encoded(model.encode([prompt.text]), model.clean(settings.clean), alone, settings.pooled)


def alone_positions(model: ImageModel, prompt: Prompt, item_id: str) -> tuple[int, ...]:
    """Returns the positions of an item's tokens in the text that has it by itself."""
    item = next(item for item in prompt.items if item.id == item_id)
    return model.spans(item.alone_text, item.phrase)


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
                "model": model.identity.name,
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


def numbers(values: Any) -> list[float]:
    """Returns a tensor's values as numbers that a table takes."""
    return [float(value) for value in values.float().tolist()]


def frame_of(name: str, rows: Sequence[dict[str, Any]]) -> Tables:
    """Returns the rows as a table of that name, or no table where there are none."""
    return {name: pd.DataFrame(rows)} if rows else {}
