"""Captions as token ids, with the tokens at which an encoder is told what it should know, and those it should keep empty."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import CLIPTokenizer, T5Tokenizer

from probes.t2i_flow.scenes import COLOURS, SHAPES, Scene
from training.shapes.vocabulary import CONTEXT_TOKENS


class Captions(NamedTuple):
    """A pool of captions; item arrays have one row for every item of every caption, in order."""

    ids: Int[Tensor, "caption position"]
    silent: Bool[Tensor, "caption position"]
    """Tokens that name no part of an item: articles, joining and context words, punctuation, the end and what follows."""
    caption: Int[Tensor, " item"]
    colour_position: Int[Tensor, " item"]
    """Last token of the colour's name."""
    noun_position: Int[Tensor, " item"]
    """Last token of the noun."""
    colour: Int[Tensor, " item"]
    shape: Int[Tensor, " item"]
    """The shape that is drawn, in the sense that the context decides."""
    place: Int[Tensor, " item"]
    """0 for the item named first, 1 for the second."""


def read_captions(scenes: Sequence[Scene], tokenizer: CLIPTokenizer | T5Tokenizer) -> Captions:
    """Returns the captions of scenes."""
    read = tokenizer(
        [scene.text for scene in scenes],
        padding="max_length",
        max_length=CONTEXT_TOKENS,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    ids = torch.as_tensor(read["input_ids"])
    ends = torch.as_tensor(read["offset_mapping"])[..., 1].tolist()
    rows: list[tuple[int, ...]] = []
    for index, scene in enumerate(scenes):
        after = 0
        for place, item in enumerate(scene.items):
            start = scene.text.index(item.phrase, after)
            after = start + len(item.phrase)
            colour_position = ends[index].index(start + len(item.colour))
            noun_position = ends[index].index(after)
            colour, shape = list(COLOURS).index(item.colour), SHAPES.index(item.shape)
            rows.append((index, colour_position, noun_position, colour, shape, place))
    phrases = sorted({item.phrase for scene in scenes for item in scene.items})
    speaking = {id for phrase in tokenizer(phrases, add_special_tokens=False)["input_ids"] for id in phrase}
    beginning = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return Captions(ids, ~torch.isin(ids, torch.tensor([*beginning, *speaking])), *torch.tensor(rows).T)
