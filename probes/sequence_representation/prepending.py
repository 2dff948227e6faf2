"""Token Prepending: the last token's state, layer by layer, in the place of a placeholder before the sentence; and its controls.

Prompt and layers as in arXiv:2412.11556 and its code: at the input of every layer in [start, exit) the placeholder's state is
overwritten with the last token's, so that the sentence's tokens see what only the last one had gathered. The paper adds a
token of its own with a random embedding to the vocabulary; here the placeholder is a token of the vocabulary (of " *").
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.language.residuals import changed_residuals, read_residuals
from interp.models.tokens.encoding import Piece, beginning, encode_piece
from probes.sequence_representation.readers import ModelReader, Read, States, batches, padded
from probes.sequence_representation.settings import Arm

BEFORE, OPENING, CLOSING = "This sentence :", ' "', '" means in one word:"'
PLACEHOLDER = " *"
Donors = Mapping[int, Float[Tensor, "text residual"]]
"""What is written at the input of each layer, for every text."""


@dataclass(frozen=True)
class Prompted:
    """A text inside a prompt."""

    read: Read
    slot: int | None
    """Place of the placeholder."""


def prompted(reader: ModelReader, text: str, arm: Arm) -> Prompted:
    """Returns a text as an arm reads it: by itself, in the prompt, in the prompt with a placeholder, or twice.

    Raises ArgumentError for a text that is too long.
    """
    tokenizer: Any = reader.model.tokenizer
    if arm == "plain":
        return Prompted(reader.encode(text), None)
    ids = [*beginning(tokenizer, "auto"), *encode_piece(tokenizer, BEFORE, first=True).ids]
    slot = None
    if arm not in ("prompt", "echo"):
        slot = len(ids)
        ids.append(encode_piece(tokenizer, PLACEHOLDER).ids[-1])
    own: tuple[int, ...] = ()
    for closing in ('"', CLOSING) if arm == "echo" else (CLOSING,):
        piece = encode_piece(tokenizer, OPENING + text + closing)
        own = _of_text(piece, len(OPENING), len(OPENING) + len(text), len(ids))
        ids += piece.ids
    return Prompted(reader.checked(Read(tuple(ids), own), text), slot)


def _of_text(piece: Piece, start: int, end: int, before: int) -> tuple[int, ...]:
    return tuple(before + place for place, (a, b) in enumerate(piece.offsets) if a < end and b > start)


def read_arm(
    reader: ModelReader, texts: Sequence[str], arm: Arm, *, start: int, exit: int, seed: Sequence[int]
) -> Iterator[tuple[Prompted, States]]:
    """Yields every text as the arm reads it, with its states after every layer.

    Raises ArgumentError for layers that the model does not have.
    """
    rows = [prompted(reader, text, arm) for text in texts]
    if exit > reader.n_layers:
        raise ArgumentError(f"{reader.name} has {reader.n_layers} layers: --exits must be at most that, not {exit}.")
    donors = None
    if arm in ("other", "mean", "random"):
        last = last_states(reader, rows, range(start, exit))
        donors = {layer: donated(arm, states, [*seed, layer]) for layer, states in last.items()}
    layers, first = range(reader.n_layers), 0
    for batch in batches([row.read for row in rows]):
        here = rows[first : first + len(batch)]
        part = None if donors is None else {layer: all[first : first + len(batch)] for layer, all in donors.items()}
        first += len(batch)
        with ExitStack() as stack:
            for layer in range(start, exit) if arm in ("prepend", "other", "mean", "random") else ():
                given = None if part is None else part[layer]
                stack.enter_context(changed_residuals(reader.model, layer - 1, writing(here, given)))
            found = read_residuals(reader.model, padded(batch), layers)
            stacked = torch.stack([found[layer].float().cpu() for layer in layers])
        for place, row in enumerate(here):
            yield row, stacked[:, place, : len(row.read.ids)].numpy()


def writing(rows: Sequence[Prompted], given: Float[Tensor, "row residual"] | None) -> Callable[[Tensor], Tensor]:
    """Returns the change that puts what is given, or each row's own last state, into its slot."""
    slots = [row.slot for row in rows]
    lasts = [len(row.read.ids) - 1 for row in rows]
    every = list(range(len(rows)))

    def change(stream: Tensor) -> Tensor:
        changed = stream.clone()
        changed[every, slots] = stream[every, lasts] if given is None else given.to(stream)
        return changed

    return change


def last_states(reader: ModelReader, rows: Sequence[Prompted], layers: Sequence[int]) -> dict[int, Tensor]:
    """Returns what stands at the input of the layers in the last token of each row, where nothing is written."""
    found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for batch in batches([row.read for row in rows]):
        lasts = [len(row.ids) - 1 for row in batch]
        states = read_residuals(reader.model, padded(batch), [layer - 1 for layer in layers])
        for layer in layers:
            found[layer].append(states[layer - 1][range(len(batch)), lasts].float().cpu())
    return {layer: torch.cat(parts) for layer, parts in found.items()}


def donated(arm: Arm, last: Float[Tensor, "text residual"], seed: Sequence[int]) -> Float[Tensor, "text residual"]:
    """Returns what an arm writes instead of each text's own last state: another text's, the mean, or noise of the same norm."""
    if arm == "other":
        return last.roll(len(last) // 2, dims=0)
    if arm == "mean":
        return last.mean(dim=0, keepdim=True).expand_as(last)
    noise = torch.tensor(np.random.default_rng(list(seed)).standard_normal(last.shape), dtype=last.dtype)
    return noise * (last.norm(dim=1) / noise.norm(dim=1))[:, None]
