"""The text side of a text-to-image pipeline: tokens, the positions that spell a phrase, the encoders' conditioning."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from interp.errors import ArgumentError, RunError
from interp.models.identity import ModelIdentity
from interp.models.image.conditioning import Block, Conditioning
from interp.models.image.family import Encoded, Family
from interp.models.image.text_encoder import TextEncoder
from interp.models.tokens.token_spans import Token, find_phrase, read_tokens, spelling_apart

_CACHED_ELEMENTS = 2**28
"""Encoded texts that are kept, in numbers: a gigabyte of float32."""


class TextSide:
    """The half of an ImageModel that reads text: everything before the denoiser."""

    def __init__(self, family: Family, identity: ModelIdentity) -> None:
        """Reads nothing yet."""
        self._family = family
        self.identity = identity
        self._encoded: OrderedDict[str, Conditioning] = OrderedDict()

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the blocks of the sequence: clip, t5. CLIP encoders that share positions are one block."""
        return tuple(block.encoder for block in self._blocks)

    @property
    def encoder_layers(self) -> dict[str, int]:
        """How many layers each encoder of the sequence has: clip, or clip_l and clip_g, or t5."""
        return {encoder.name: len(encoder.layers) for encoder in self._text_encoders if encoder.block}

    def tokens(self, text: str) -> list[Token]:
        """Returns one token for each position of the sequence, over all blocks.

        Where two CLIP encoders stand side by side, the first one's tokens are told; both must split the text alike.
        Raises ArgumentError for a text longer than an encoder takes (also one that only makes the pooled vector).
        """
        blocks: dict[Block, list[Token]] = {}
        for encoder in self._text_encoders:
            block = encoder.block or Block(encoder.name, 0, encoder.n_positions)
            read = self._read(encoder, text)
            if encoder.kept is not None:
                kept = enumerate(encoder.kept, block.start)
                read = [dataclasses.replace(read[place], position=position) for position, place in kept]
            told = blocks.setdefault(block, read)
            if [_place(token) for token in told] != [_place(token) for token in read]:
                raise RunError(f"{self.identity.name} has two CLIP tokenizers that split {text!r} differently.")
        return [token for block in self._blocks for token in blocks[block]]

    @property
    def same_length(self) -> bool:
        """Whether only texts that fill as many positions can be drawn side by side."""
        return self._family.same_length

    def filled_positions(self, text: str) -> int:
        """Returns the number of positions up to the last one that the text, or what stands around it, fills."""
        return 1 + max(token.position for token in self.tokens(text) if token.role != "pad")

    def _read(self, encoder: TextEncoder, text: str) -> list[Token]:
        """All that an encoder reads, also what does not come into the sequence."""
        name, start = (encoder.block.encoder, encoder.block.start) if encoder.block else (encoder.name, 0)
        convert, n = self._family.converted, encoder.n_positions
        return read_tokens(
            text, encoder.tokenizer, name, start, n, convert, encoder.before, encoder.after, padding=encoder.padding,
            special=encoder.special,
        )  # fmt: skip

    def spans(self, text: str, phrase: str, occurrence: int | None = None) -> tuple[int, ...]:
        """Returns the positions, over all blocks, of the tokens that spell the phrase, found by character offsets.

        `occurrence` counts from 0 and is needed when the phrase comes several times.
        Raises ArgumentError when the phrase is not in the text, which one is meant is not said, or no token is its own.
        """
        return spelling_apart(text, self.tokens(text), *find_phrase(text, phrase, occurrence))

    def _encoder_with(self, layers: Sequence[int], name: str | None) -> TextEncoder:
        known = {encoder.name: encoder for encoder in self._text_encoders if encoder.block}
        if name is None and len(known) > 1:
            raise ArgumentError(f"{self.identity.name} has several text encoders: say which, {' or '.join(known)}.")
        if name is not None and name not in known:
            raise ArgumentError(f"{self.identity.name} has no text encoder {name}: choose {' or '.join(known)}.")
        chosen = known[name or next(iter(known))]
        if not layers:
            raise ArgumentError(f"Name a layer of the encoder {chosen.name}, from 0 to {len(chosen.layers)}.")
        wrong = [layer for layer in layers if not 0 <= layer <= len(chosen.layers)]
        if wrong:
            raise ArgumentError(
                f"The encoder {chosen.name} has no layer {wrong[0]}: count from 0, the embeddings, to {len(chosen.layers)}."
            )
        return chosen

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditioning:
        """Returns the conditioning of the texts, one row each.

        Every distinct text is read once and alone, so its vectors do not depend on what it is encoded beside.
        Raises ArgumentError for a text longer than an encoder takes: nothing is cut; RunError where an encoder reads other
        tokens than `tokens` tells.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts")
        return Conditioning.stack([self._encode_one(text) for text in texts])

    def _encode_one(self, text: str) -> Conditioning:
        if text in self._encoded:
            self._encoded.move_to_end(text)
            return self._encoded[text]
        self.tokens(text)  # refuses what is too long
        with ExitStack() as stack:
            seen = [stack.enter_context(_ids_read_by(encoder.module)) for encoder in self._text_encoders]
            encoded = self._conditioning(self._family.encode(text))
        for encoder, ids in zip(self._text_encoders, seen, strict=True):
            told = self._read(encoder, text)
            n_read = len(ids[0]) if encoder.padding in ("none", "left16") else len(told)  # behind it there is nothing
            unread = any(token.role != "pad" for token in told[n_read:])
            if unread or ids != [[token.token_id for token in told[:n_read]]]:
                raise RunError(
                    f"The encoder {encoder.name} of {self.identity.name} reads other tokens of {text!r} than its tokenizer makes of "
                    "it: write the text without what its pipeline rewrites."
                )
        self._encoded[text] = encoded
        while len(self._encoded) > max(1, _CACHED_ELEMENTS // encoded.sequence.numel()):
            self._encoded.popitem(last=False)
        return encoded

    def _conditioning(self, text: Encoded) -> Conditioning:
        return Conditioning(text.sequence, text.pooled, self._blocks, maskable=self._family.maskable, shown=text.shown)

    @torch.no_grad()
    def clean(self, kind: Literal["empty", "pads"] = "empty") -> Conditioning:
        """Returns one row to replace tokens with: the encoded empty text, or a sequence of padding alone.

        "empty" is the clean text of Kaplan et al.'s code for FLUX and SD3, with the beginning and end that it has; "pads" is
        that of Padding Tone (Toker et al. 2025), without them.
        """
        if kind == "empty":
            return self.encode([""])
        with ExitStack() as stack:
            for encoder in self._text_encoders:
                stack.enter_context(_reading_only(encoder.module, encoder.tokenizer.pad_token_id))
            return self._conditioning(self._family.encode(""))

    @property
    def _empty(self) -> Encoded:
        """The encoded empty text: what guidance turns away from in most families."""
        empty = self._encode_one("")
        return Encoded(empty.sequence, empty.pooled, empty.shown)

    @cached_property
    def _text_encoders(self) -> list[TextEncoder]:
        return self._family.encoders()

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        return tuple(dict.fromkeys(encoder.block for encoder in self._text_encoders if encoder.block))


def _place(token: Token) -> tuple[str, int, int]:
    return token.role, token.char_start, token.char_end


@contextmanager
def _ids_read_by(encoder: Any) -> Iterator[list[list[int]]]:
    """Gathers the token ids of every row that a text encoder reads while it lasts."""
    rows: list[list[int]] = []

    def note(module: Any, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        rows.extend((inputs[0] if inputs else options["input_ids"]).tolist())

    handle = encoder.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


@contextmanager
def _reading_only(encoder: Any, token_id: int) -> Iterator[None]:
    """Lets a text encoder read the same token at every position, whatever it is given."""

    def swap(module: Any, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if not inputs:
            return inputs, {**options, "input_ids": torch.full_like(options["input_ids"], token_id)}
        ids, *others = inputs
        return (torch.full_like(ids, token_id), *others), options

    handle = encoder.register_forward_pre_hook(swap, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
