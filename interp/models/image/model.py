"""Text-to-image models: encode texts, edit the encodings, draw."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.identity import ModelFacts, ModelIdentity
from interp.models.image.attention_weights import AttentionWeights
from interp.models.image.conditioning import BlockEdit, Conditioning
from interp.models.image.drawing import (
    Sampling,
    arguments,
    check_scheduler,
    encoded,
    finite_pictures,
    is_guided,
    masking,
    own_noise,
    rehearsal,
    watched,
)
from interp.models.image.family import Encoded, Family
from interp.models.image.heat_maps import HeatMaps
from interp.models.image.quiet import without_advice
from interp.models.image.text import TextSide
from interp.models.image.tracing import Swap, drawn_with_source, states_before


class ImageModel(TextSide):
    """A diffusers text-to-image pipeline to record from and edit: `encode`, edit the Conditioning, `generate`.

    `pipeline` is the unmodified pipeline. Made by `load_image`.
    """

    def __init__(self, family: Family, identity: ModelIdentity, defaults: dict[str, Any]) -> None:
        """Takes over a pipeline; `defaults` may hold steps and guidance that are not those of its class."""
        super().__init__(family, identity)
        self.pipeline = family.pipeline
        self.pipeline.set_progress_bar_config(disable=True)
        steps, guidance = family.defaults()
        self.default_steps: int = defaults.get("steps", steps)
        self.default_guidance: float = defaults.get("guidance", guidance)
        self._checked: set[tuple[Any, ...]] = set()

    @property
    def family(self) -> str:
        """The family's name, such as sdxl: docs/models.md lists them."""
        return self._family.name

    @property
    def facts(self) -> ModelFacts:
        """Identity and class of the model; it has no head geometry and no single context window."""
        return ModelFacts(self.identity, self._family.pipeline_class, None, None)

    @property
    def size(self) -> tuple[int, int]:
        """Default height and width of pictures, in pixels."""
        return self._family.size()

    @property
    def layers_taken(self) -> dict[str, int]:
        """For each encoder, the number of layers before its states enter the sequence: all, or all but the last."""
        return {one.name: len(one.layers) - one.layers_unused for one in self._text_encoders if one.block}

    @torch.no_grad()
    def lens(
        self, text: str, layers: Sequence[int], encoder: str | None = None, others: Conditioning | None = None
    ) -> Conditioning:
        """Returns one row per layer: the text as encoded after that many layers of an encoder, 0 being the embeddings.

        The encoder's final norm is applied where the model's own conditioning has it, so the layer of `layers_taken` gives
        `encode(text)`. Other encoders' vectors and the pooled vector are those of `others` (one row), or of the whole text.
        `encoder` is one of `encoder_layers` and may be left out where there is one. The diffusion lens of Toker et al. 2024,
        who apply the final norm in any case.
        Raises ArgumentError for an encoder or a layer that is not there.
        """
        chosen = self._encoder_with(layers, encoder)
        wanted = sorted(set(layers))
        after = dict(zip(wanted, states_before(self._family.encode, text, chosen, wanted), strict=True))
        rows = (self.encode([text]) if others is None else others).as_many(len(layers))
        sequence = rows.sequence.clone()
        read = None
        if chosen.zeroed:
            read = torch.tensor([[token.role != "pad"] for token in self._read(chosen, text)])
        assert chosen.block is not None
        for row, layer in enumerate(layers):
            state = chosen.final_norm(after[layer]) if chosen.normed else after[layer]
            state = chosen.placed(state if read is None else state * read.to(state))
            channels = slice(chosen.channel, chosen.channel + state.shape[-1])
            sequence[row, chosen.block.start : chosen.block.stop, channels] = state[0]
        return dataclasses.replace(rows, sequence=sequence)

    # ------------------------------------------------------------------ pictures

    def noise(
        self, seeds: Sequence[int], *, height: int | None = None, width: int | None = None
    ) -> Float32[Tensor, "row channel latent_height latent_width"]:
        """Returns the latent noise of each seed, in float32 on the CPU; it does not depend on the other seeds.

        Height and width are in pixels and default to `size`.
        Raises ArgumentError for a size the model cannot draw.
        """
        height, width = (self.size[side] if given is None else given for side, given in enumerate((height, width)))
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
        record: HeatMaps | AttentionWeights | None = None,
        edit: BlockEdit | None = None,
        negative: str | None = None,
    ) -> Float32[np.ndarray, "row height width 3"]:
        """Returns the pictures, in 0 … 1: row i is drawn from row i of the conditioning and row i of the noise.

        A single row of either serves all rows of the other. `steps` and `guidance` default to the model's own; with
        guidance the other branch has the model's own unconditional text, or the negative prompt. `batch` rows are drawn at a time.
        A sampler that draws further noise draws it from a seed that a row's own noise gives, so rows stay independent.
        `record` gathers attention maps, or weights by step, layer and head; `edit` replaces text vectors before every block of a
        joint-attention denoiser.
        Raises ArgumentError for settings that cannot be, and for a sampler whose pictures depend on more than their row;
        RunError when latents or pictures are not finite.
        """
        steps = self.default_steps if steps is None else steps
        guidance = self.default_guidance if guidance is None else guidance
        if steps < 1 or batch < 1 or guidance < 0:
            raise ArgumentError("steps and batch must be 1 or more, and guidance 0 or more.")
        if isinstance(record, AttentionWeights) and self._family.by_processors:
            raise ArgumentError(
                f"Weights by step, layer and head cannot be recorded for {self.identity.name}: record HeatMaps, or use a model of "
                "a family from Qwen-Image on."
            )
        if edit is not None:
            self._check_edit(conditioning, edit, record)
        how = Sampling(steps, guidance, self._other_branch(negative, guidance))
        self._check_scheduler(how)
        n_rows = max(len(conditioning), len(noise))
        conditioning = conditioning.as_many(n_rows)
        if len(noise) not in (1, n_rows):
            raise ValueError(f"{len(noise)} rows of noise for {n_rows}: give one, or as many")
        noise = noise.expand(n_rows, -1, -1, -1)
        source = None if edit is None else edit.source.as_many(n_rows)
        pictures = []
        for rows in self._batches(conditioning, batch):
            part, start = conditioning.select(rows), noise[rows.start : rows.stop]
            if edit is None or source is None:
                drawn = self._draw(part, start, how, record)
            else:
                beside = dataclasses.replace(edit, source=source.select(rows))
                drawn = self._draw_with_source(part, start, how, beside)
            pictures.append(drawn)
        return np.concatenate(pictures)

    def _batches(self, conditioning: Conditioning, batch: int) -> Iterator[range]:
        """Rows that are drawn together: at most so many, and of one length where others cannot be beside them."""
        lengths, first = [len(places) for places in self._family.places(encoded(conditioning))], 0
        for row in range(1, len(lengths) + 1):
            full = row == len(lengths) or row - first == batch
            if full or (self._family.same_length and lengths[row] != lengths[first]):
                yield range(first, row)
                first = row

    def _draw(
        self, conditioning: Conditioning, noise: Tensor, how: Sampling, record: HeatMaps | AttentionWeights | None
    ) -> Float32[np.ndarray, "row height width 3"]:
        with ExitStack() as scoped:
            if conditioning.mask is not None and conditioning.shown is None:
                scoped.enter_context(masking(self._family, conditioning.mask))
            if record is not None:
                scoped.enter_context(self._recording(record, conditioning, noise, how))
            call = arguments(self._family, conditioning, noise, how)
            scoped.enter_context(own_noise(self.pipeline.scheduler, call["generator"]))
            scoped.enter_context(without_advice())
            drawn = self.pipeline(**call, **watched(self._family))
        return finite_pictures(drawn.images)

    def _recording(
        self, record: HeatMaps | AttentionWeights, conditioning: Conditioning, noise: Tensor, how: Sampling
    ) -> AbstractContextManager[None]:
        grid, guided = self._grid(noise), is_guided(self._family, how)
        if isinstance(record, AttentionWeights):
            return record.seeing(self._family, encoded(conditioning), grid[0] * grid[1], guided=guided)
        if self._family.by_processors:
            return record.watching(self._family.denoiser, len(conditioning), grid)
        return record.seeing(self._family, encoded(conditioning), grid, guided=guided)

    def _grid(self, noise: Tensor) -> tuple[int, int]:
        """Height and width of a picture in positions of the denoiser."""
        return noise.shape[-2] // self._family.patch(), noise.shape[-1] // self._family.patch()

    def _other_branch(self, negative: str | None, guidance: float) -> Encoded | None:
        """What guidance turns away from. Raises ArgumentError for a negative prompt that nothing would read."""
        own = self._family.unconditional(self._empty)
        if negative is None:
            return own
        if own is None or guidance <= self._family.unguided:
            above = f"has one above a guidance of {self._family.unguided:g} only"
            why = "has no second branch of guidance" if own is None else above
            raise ArgumentError(f"{self.identity.name} {why}, which a negative prompt is for: leave it out.")
        self.tokens(negative)  # refuses what is too long
        return self._family.negative(negative)

    def _check_scheduler(self, how: Sampling) -> None:
        """Refuses a sampler whose pictures depend on more than their own row; looked at once, with the denoiser idle."""
        scheduler = self.pipeline.scheduler
        key = (type(scheduler).__name__, repr(dict(scheduler.config)), how.steps, is_guided(self._family, how))
        if key in self._checked:
            return
        side = 4 * self._family.size_multiple()
        noise, text = self.noise([0, 1], height=side, width=side), self.clean()
        pipeline = rehearsal(self._family)

        def latents_of(rows: Sequence[int]) -> Tensor:
            part = noise[list(rows)]
            call = arguments(self._family, text.as_many(len(rows)), part, how)
            with own_noise(pipeline.scheduler, call["generator"]):
                return pipeline(**{**call, "output_type": "latent"}).images

        check_scheduler(self._family, self.identity.name, how.steps, latents_of)
        self._checked.add(key)

    def _draw_with_source(
        self, conditioning: Conditioning, noise: Tensor, how: Sampling, edit: BlockEdit
    ) -> Float32[np.ndarray, "row height width 3"]:
        """Draws the rows and, beside them in one batch and from the same noise, the rows their vectors are taken from."""
        n = len(conditioning)
        both = Conditioning.stack([conditioning, edit.source])
        call = arguments(self._family, both, torch.cat([noise, noise]), how)
        height, width = self._grid(noise)
        swap = Swap(self._family, edit, encoded(both), height * width, guided=is_guided(self._family, how))
        with own_noise(self.pipeline.scheduler, call["generator"]), without_advice():
            drawn = drawn_with_source(self._family, {**call, **watched(self._family)}, edit, swap)
        return finite_pictures(drawn.images[:n])

    @property
    def n_blocks(self) -> int:
        """Blocks of the denoiser that text vectors pass through; 0 where it reads the text by cross-attention."""
        return len(self._family.blocks())

    def _check_edit(
        self, conditioning: Conditioning, edit: BlockEdit, record: HeatMaps | AttentionWeights | None
    ) -> None:
        if record is not None:
            raise ArgumentError(
                "Heat maps cannot be recorded for a picture whose blocks are edited: leave out one of the two."
            )
        if not self.n_blocks:
            raise ArgumentError(
                f"{self.identity.name} gives every block of its denoiser the same text vectors: edit the conditioning instead."
            )
        chosen = edit.source.at(edit.positions)
        own, other = conditioning.seen, edit.source.seen
        if self._family.closes_up and own is not None and other is not None:
            apart = (own != other) if self._family.same_length else (own != other)[:, chosen]
            if apart.any():
                raise ArgumentError(
                    f"{self.identity.name} takes hidden positions out of its sequence: edit positions that text and source both show, or "
                    "both hide."
                )
        blocks = range(self.n_blocks) if edit.blocks is None else edit.blocks
        wrong = [block for block in blocks if not 0 <= block < self.n_blocks]
        if wrong or not blocks:
            what = f"There is no block {wrong[0]}" if wrong else "No block is named"
            raise ArgumentError(f"{what}: blocks go from 0 to {self.n_blocks - 1}.")
