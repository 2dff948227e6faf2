"""Text-to-image models: encode texts, edit what the encoders say, draw; every call to nnsight of the toolkit is here."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from interp.errors import ArgumentError, RunError
from interp.models.conditioning import Block, Conditioning
from interp.models.heat_maps import HeatMaps
from interp.models.identity import ModelFacts, ModelIdentity
from interp.models.image_families import Family, TextEncoder
from interp.models.token_spans import Token, find_phrase, read_tokens, spelling

_CACHED_ELEMENTS = 2**28
"""Encoded texts that are kept, in numbers: a gigabyte of float32."""


class ImageModel:
    """A diffusers text-to-image pipeline to look into: `encode`, edit the Conditioning, `generate`.

    `pipeline` is the unmodified pipeline. Made by `load_image`.
    """

    def __init__(self, family: Family, identity: ModelIdentity, defaults: dict[str, Any]) -> None:
        """Takes over a pipeline; `defaults` may hold steps and guidance that are not those of its class."""
        self._family = family
        self.pipeline = family.pipeline
        self.identity = identity
        self.pipeline.set_progress_bar_config(disable=True)
        steps, guidance = family.defaults()
        self.default_steps: int = defaults.get("steps", steps)
        self.default_guidance: float = defaults.get("guidance", guidance)
        self._encoded: OrderedDict[str, Conditioning] = OrderedDict()

    @property
    def family(self) -> str:
        """One of sd, sdxl, sd3 and flux."""
        return self._family.name

    @property
    def facts(self) -> ModelFacts:
        """What the model is; it has no attention heads to count and no context window of one length."""
        return ModelFacts(self.identity, self._family.pipeline_class, None, None)

    @property
    def encoders(self) -> tuple[str, ...]:
        """The names of the blocks of the sequence: clip, t5. CLIP encoders that share positions are one block."""
        return tuple(block.encoder for block in self._blocks)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that are drawn when none is asked for, in pixels."""
        return self._family.size()

    @cached_property
    def _text_encoders(self) -> list[TextEncoder]:
        return self._family.encoders()

    @cached_property
    def _blocks(self) -> tuple[Block, ...]:
        return tuple(dict.fromkeys(encoder.block for encoder in self._text_encoders if encoder.block))

    # ------------------------------------------------------------------ texts

    def tokens(self, text: str) -> list[Token]:
        """Returns one token for each position of the sequence, over all blocks.

        Where two CLIP encoders stand side by side, the first one's tokens are told; both must split the text alike.
        Raises ArgumentError for a text longer than an encoder takes (also one that only makes the pooled vector).
        """
        blocks: dict[Block, list[Token]] = {}
        for encoder in self._text_encoders:
            block = encoder.block or Block(encoder.name, 0, encoder.n_positions)
            read = read_tokens(text, encoder.tokenizer, block.encoder, block.start, encoder.n_positions)
            told = blocks.setdefault(block, read)
            if [_place(token) for token in told] != [_place(token) for token in read]:
                raise RunError(f"{self.identity.name} has two CLIP tokenizers that split {text!r} differently.")
        return [token for block in self._blocks for token in blocks[block]]

    def spans(self, text: str, phrase: str, occurrence: int | None = None) -> tuple[int, ...]:
        """Returns the positions, over all blocks, of the tokens that spell the phrase, found by character offsets.

        `occurrence` counts from 0 and is needed when the phrase comes several times.
        Raises ArgumentError when the phrase is not in the text, or which one is meant is not said.
        """
        return spelling(self.tokens(text), *find_phrase(text, phrase, occurrence))

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditioning:
        """Returns the conditioning of the texts, one row each.

        Every distinct text is read once and alone, so its vectors do not depend on what it is encoded beside.
        Raises ArgumentError for a text longer than an encoder takes: nothing is cut.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts")
        return Conditioning.stack([self._encode_one(text) for text in texts])

    def _encode_one(self, text: str) -> Conditioning:
        if text in self._encoded:
            self._encoded.move_to_end(text)
            return self._encoded[text]
        self.tokens(text)  # refuses what is too long
        encoded = self._conditioning(*self._family.encode(text))
        self._encoded[text] = encoded
        while len(self._encoded) > max(1, _CACHED_ELEMENTS // encoded.sequence.numel()):
            self._encoded.popitem(last=False)
        return encoded

    def _conditioning(
        self, sequence: Float[Tensor, "row position channel"], pooled: Float[Tensor, "row pooled_channel"] | None
    ) -> Conditioning:
        import inspect

        takes_mask = "encoder_attention_mask" in inspect.signature(self._family.denoiser.forward).parameters
        return Conditioning(sequence, pooled, self._blocks, maskable=takes_mask)

    @torch.no_grad()
    def clean(self, kind: Literal["empty", "pads"] = "empty") -> Conditioning:
        """Returns one row to put in the place of tokens: the encoded empty text, or a sequence of nothing but pads.

        "empty" is the clean text of Kaplan et al.'s code for FLUX and SD3, with the beginning and end that it has; "pads" is
        that of Padding Tone (Toker et al. 2025), without them.
        """
        if kind == "empty":
            return self.encode([""])
        if kind != "pads":
            raise ArgumentError(f"There is no clean text of the kind {kind}: choose empty or pads.")
        with ExitStack() as stack:
            for encoder in self._text_encoders:
                stack.enter_context(_reading_only(encoder.module, encoder.tokenizer.pad_token_id))
            return self._conditioning(*self._family.encode(""))

    # ------------------------------------------------------------------ pictures

    def noise(
        self, seeds: Sequence[int], *, height: int | None = None, width: int | None = None
    ) -> Float32[Tensor, "row channel latent_height latent_width"]:
        """Returns the latent noise of each seed, in float32 on the CPU: the same whatever stands beside it.

        Height and width are in pixels and default to `size`.
        Raises ArgumentError for a size the model cannot draw.
        """
        height, width = height or self.size[0], width or self.size[1]
        multiple, scale = self._family.size_multiple(), self.pipeline.vae_scale_factor
        if height <= 0 or width <= 0 or height % multiple or width % multiple:
            raise ArgumentError(
                f"{self.identity.name} cannot draw {height} × {width} pixels: height and width must be multiples of {multiple}."
            )
        shape = (1, self._family.latent_channels(), height // scale, width // scale)
        return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    @torch.no_grad()
    def generate(
        self,
        conditioning: Conditioning,
        noise: Float32[Tensor, "seed channel latent_height latent_width"],
        *,
        steps: int | None = None,
        guidance: float | None = None,
        batch: int = 16,
        record: HeatMaps | None = None,
    ) -> Float32[np.ndarray, "row height width 3"]:
        """Returns the pictures, in 0 … 1: row i is drawn from row i of the conditioning and row i of the noise.

        A single row of either serves all rows of the other. `steps` and `guidance` default to the model's own; with
        guidance the other branch has the model's own unconditional text. `batch` rows are drawn at a time.
        A sampler that draws further noise draws it from a seed that a row's own noise gives, so rows stay independent.
        `record` gathers cross-attention maps.
        Raises ArgumentError for settings that cannot be; RunError when latents or pictures are not finite.
        """
        steps = self.default_steps if steps is None else steps
        guidance = self.default_guidance if guidance is None else guidance
        if steps < 1 or batch < 1 or guidance < 0:
            raise ArgumentError("steps and batch must be 1 or more, and guidance 0 or more.")
        n_rows = max(len(conditioning), len(noise))
        if not {len(conditioning), len(noise)} <= {1, n_rows}:
            raise ValueError(
                f"{len(conditioning)} rows of conditioning and {len(noise)} of noise: give one, or as many of each"
            )
        if len(conditioning) < n_rows:
            conditioning = conditioning.select([0] * n_rows)
        noise = noise.expand(n_rows, -1, -1, -1)
        pictures = []
        for first in range(0, n_rows, batch):
            rows = range(first, min(first + batch, n_rows))
            pictures.append(
                self._draw(conditioning.select(rows), noise[rows.start : rows.stop], steps, guidance, record)
            )
        return np.concatenate(pictures)

    def _draw(
        self, conditioning: Conditioning, noise: Tensor, steps: int, guidance: float, record: HeatMaps | None
    ) -> Float32[np.ndarray, "row height width 3"]:
        scale, denoiser = self.pipeline.vae_scale_factor, self._family.denoiser
        with ExitStack() as scoped:
            if conditioning.mask is not None:
                scoped.enter_context(_masking(self.pipeline, denoiser, conditioning.mask))
            if record is not None:
                scoped.enter_context(record.watching(denoiser, len(conditioning), (noise.shape[-2], noise.shape[-1])))
            drawn = self.pipeline(
                **self._texts(conditioning),
                latents=self._family.latents(noise.to(self._family.device, denoiser.dtype)),
                height=noise.shape[-2] * scale,
                width=noise.shape[-1] * scale,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[_generator(row) for row in noise],
                callback_on_step_end=self._refuse_non_finite,
                output_type="np",
            ).images
        if not np.isfinite(drawn).all():
            raise RunError(f"{self.identity.name} drew pictures that are not finite: try --dtype float32 or bfloat16.")
        return drawn.astype(np.float32)

    def _texts(self, conditioning: Conditioning) -> dict[str, Tensor]:
        """The pipeline's arguments for the text, and for the unconditional branch where the family has one."""
        texts = {"prompt_embeds": conditioning.sequence}
        if conditioning.pooled is not None:
            texts["pooled_prompt_embeds"] = conditioning.pooled
        empty = self._encode_one("")
        other = self._family.unconditional((empty.sequence, empty.pooled))
        if other is not None:
            sequence, pooled = other
            texts["negative_prompt_embeds"] = sequence.expand(len(conditioning), -1, -1)
            if pooled is not None:
                texts["negative_pooled_prompt_embeds"] = pooled.expand(len(conditioning), -1)
        return texts

    def _refuse_non_finite(self, pipeline: Any, step: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        finite = torch.isfinite(state["latents"]).flatten(1).all(dim=1)
        if not finite.all():
            raise RunError(
                f"{self.identity.name} has latents that are not finite after step {step + 1} ({int((~finite).sum())} of "
                f"{len(finite)} pictures): try --dtype float32 or bfloat16, or less guidance."
            )
        return {}


def _place(token: Token) -> tuple[str, int, int]:
    return token.role, token.char_start, token.char_end


def _generator(noise: Tensor) -> torch.Generator:
    """A generator for the noise a sampler may draw on its way, the same for a row in any batch."""
    digest = hashlib.sha256(noise.float().cpu().contiguous().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


@contextmanager
def _reading_only(encoder: Any, token_id: int) -> Iterator[None]:
    """Lets a text encoder read the same token at every position, whatever it is given."""

    def swap(module: Any, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids, *others = inputs
        return (torch.full_like(ids, token_id), *others), options

    handle = encoder.register_forward_pre_hook(swap, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _masking(pipeline: Any, denoiser: Any, mask: Bool[Tensor, "row position"]) -> Iterator[None]:
    """Hides positions of the text from the denoiser; the unconditional half of a guided batch sees all of its own."""

    def add(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        guided = pipeline.do_classifier_free_guidance
        whole = torch.cat([torch.ones_like(mask), mask]) if guided else mask
        return inputs, {**options, "encoder_attention_mask": whole}

    handle = denoiser.register_forward_pre_hook(add, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
