"""What a family of text-to-image pipelines says of itself: how a text is encoded, and the arguments of a call.

Everything goes through the pipelines' own `encode_prompt` and `__call__` of unmodified diffusers.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from interp.errors import ArgumentError
from interp.models.image.text_encoder import TextEncoder


class Encoded(NamedTuple):
    """One text as its encoders leave it; `shown` is True where the denoiser may look, where the pipeline hides padding from it."""

    sequence: Float[Tensor, "1 position channel"]
    pooled: Float[Tensor, "1 pooled_channel"] | None = None
    shown: Bool[Tensor, "1 position"] | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Encoded":
        """Returns the parts that there are, each changed."""
        pooled = None if self.pooled is None else change(self.pooled)
        return Encoded(change(self.sequence), pooled, None if self.shown is None else change(self.shown))

    def filled(self, n_positions: int) -> "Encoded":
        """Returns the sequence with hidden zeros behind it, up to so many positions."""
        more = n_positions - self.sequence.shape[1]
        shown = self.sequence.new_ones(self.sequence.shape[:2], dtype=torch.bool) if self.shown is None else self.shown
        return Encoded(pad(self.sequence, (0, 0, 0, more)), self.pooled, pad(shown, (0, more)))

    def trimmed(self) -> "Encoded":
        """Returns the positions up to the last one that any row shows."""
        if self.shown is None:
            return self
        n = int(self.shown.any(dim=0).nonzero().max()) + 1
        return Encoded(self.sequence[:, :n], self.pooled, self.shown[:, :n])


class Layout(NamedTuple):
    """Where one row's picture and text stand in the queries and keys of an attention; `places` are the text's own positions."""

    image: Int[Tensor, "pixel"]
    text: Int[Tensor, "key"]
    places: Int[Tensor, "key"]


def around_text(rendered: Callable[[str], str]) -> tuple[str, str]:
    """Returns what a chat template writes before and behind a text, given the text as it renders it."""
    before, _, after = rendered(_MARK).partition(_MARK)
    return before, after


_MARK = "THE-TEXT-STANDS-HERE"


class Family:
    """Base of the families: `pipeline` is a loaded diffusers pipeline."""

    name: ClassVar[str]
    pipeline_class: ClassVar[str]
    denoiser_name: ClassVar[str] = "transformer"
    joint: ClassVar[bool] = True
    """Whether text vectors change from block to block of the denoiser, beside the image."""

    flow: ClassVar[bool] = True
    """Whether the denoiser was trained to say a velocity, so that samplers of flows fit it; the others say noise."""

    unguided: ClassVar[float] = 1.0
    """The largest guidance at which the pipeline runs no second branch."""

    turns: ClassVar[bool] = False
    """Whether the branches of guidance are two calls of the denoiser, the text's first; else they are rows of one."""

    closes_up: ClassVar[bool] = False
    """Whether hidden positions are taken out of the sequence, so that what stands behind them moves up."""

    same_length: ClassVar[bool] = False
    """Whether only texts of one length can be drawn together."""

    by_processors: ClassVar[bool] = True
    """Whether heat maps are computed from diffusers' Attention modules; else from the calls of torch's attention in them."""

    may_lack: ClassVar[frozenset[str]] = frozenset()
    """Text encoders and tokenizers without which a pipeline may be saved."""

    def __init__(self, pipeline: Any) -> None:
        """Reads nothing yet."""
        self.pipeline = pipeline

    @property
    def denoiser(self) -> Any:
        """The module that is called at every step."""
        return getattr(self.pipeline, self.denoiser_name)

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return self.denoiser.device

    def encoders(self) -> list[TextEncoder]:
        """Returns the text encoders, in the order of the sequence."""
        raise NotImplementedError

    def encode(self, text: str) -> Encoded:
        """Returns one text's sequence and pooled vector, from the pipeline's own encode_prompt."""
        raise NotImplementedError

    def converted(self, text: str, tokenizer: Any) -> str:
        """Returns the text as the pipeline passes it to a tokenizer, with textual-inversion placeholders expanded."""
        convert = getattr(self.pipeline, "maybe_convert_prompt", None)  # pipelines that can load an inversion have it
        return text if convert is None else convert(text, tokenizer)

    @property
    def maskable(self) -> bool:
        """Whether positions of the text can be hidden from the denoiser: it takes a mask, or leaves out what is hidden."""
        known = inspect.signature(self.denoiser.forward).parameters
        return self.closes_up or not known.keys().isdisjoint(("encoder_attention_mask", "encoder_hidden_states_mask"))

    def call_options(self) -> dict[str, Any]:
        """Returns further arguments of the pipeline's call, without which it would draw something else."""
        return {}

    def text_options(self, branch: str, text: Encoded) -> dict[str, Any]:
        """Returns the arguments of the pipeline's call for the texts of a branch, "prompt" or "negative_prompt"."""
        pooled = "pooled_prompt_embeds" if branch == "prompt" else "negative_pooled_prompt_embeds"
        shown = None if text.shown is None else text.shown.long()
        given = {f"{branch}_embeds": text.sequence, pooled: text.pooled, f"{branch}_attention_mask": shown}
        return {name: part for name, part in given.items() if part is not None}

    def guidance_options(self, guidance: float) -> dict[str, Any]:
        """Returns the argument of the pipeline's call for guidance."""
        return {"guidance_scale": guidance}

    # ------------------------------------------------------------------ inside the denoiser

    def places(self, text: Encoded) -> list[Tensor]:
        """Returns, for every row, the positions whose vectors the denoiser has, in its order."""
        if self.closes_up and text.shown is not None:
            return [row.nonzero()[:, 0] for row in text.shown]
        return [torch.arange(text.sequence.shape[1])] * len(text.sequence)

    def layout(self, text: Encoded, n_pixels: int) -> list[Layout]:
        """Returns where text and picture stand in the queries and keys of every row: the text first."""
        places = self.places(text)
        n_text = max(len(row) for row in places)
        return [Layout(torch.arange(n_text, n_text + n_pixels), torch.arange(len(row)), row) for row in places]

    def own_rows(self, call: int, n_called: int, n_rows: int, *, guided: bool) -> range:
        """Returns which of the rows of a call of the denoiser are the branch with the texts; `call` counts from 0."""
        if self.turns:
            return range(0 if guided and call % 2 else n_rows)
        return range(n_called - n_rows, n_called)

    def attention_modules(self) -> list[Any]:
        """Returns the modules in which the picture attends to the text, in order."""
        return [block.attn for block in self.blocks()]

    def blocks(self) -> list[Any]:
        """Returns the blocks that text vectors pass through beside the picture; none where it is read by cross-attention."""
        if not self.joint:
            return []
        return [*self.denoiser.transformer_blocks, *getattr(self.denoiser, "single_transformer_blocks", ())]

    def edited(self, inputs: Any, options: dict[str, Any], change: Callable[..., Tensor]) -> tuple[Any, Any]:
        """Returns the arguments of a block with its text vectors changed, and with them what is shown, as `layout` says."""
        streams = ("encoder_hidden_states", "hidden_states")  # in a single stream the text stands before the picture
        text = next(name for name in streams if options.get(name) is not None)
        masks = [one for one in ("encoder_hidden_states_mask", "attention_mask") if options.get(one) is not None]
        return inputs, {**options, **{name: change(options[name]) for name in (text, *masks)}}

    # ------------------------------------------------------------------ pictures

    def unconditional(self, empty: Encoded) -> Encoded | None:
        """Returns the unconditional branch of guidance, given the encoded empty text; None if there is no such branch."""
        return empty

    def negative(self, text: str) -> Encoded:
        """Returns a negative prompt as the pipeline encodes it."""
        return self.encode(text)

    def size(self) -> tuple[int, int]:
        """Returns the default height and width, in pixels. Raises ArgumentError where the denoiser names none."""
        sample, scale = self.sample_size(), self.pipeline.vae_scale_factor
        if sample is None:
            raise ArgumentError(
                f"The denoiser of this {self.pipeline_class} names no sample_size: say which size with --height and --width."
            )
        height, width = (sample, sample) if isinstance(sample, int) else sample
        return height * scale, width * scale

    def sample_size(self) -> int | Sequence[int] | None:
        """Returns the side of the latents that the denoiser was trained on, or their height and width; None if it does not say."""
        return self.denoiser.config.sample_size

    def size_multiple(self) -> int:
        """Returns the number of pixels that height and width must be multiples of."""
        return self.patch() * self.pipeline.vae_scale_factor

    def patch(self) -> int:
        """Returns the side, in latents, of the square that one image position of the denoiser covers."""
        return 1

    def latent_channels(self) -> int:
        """Returns the channels of a latent image."""
        return self.denoiser.config.in_channels

    @property
    def latents_dtype(self) -> torch.dtype:
        """The type of numbers that the pipeline's `latents` argument has."""
        return self.denoiser.dtype

    def latents(self, noise: Float[Tensor, "row channel height width"]) -> Tensor:
        """Returns the noise in the form the pipeline's `latents` argument has."""
        return noise

    def defaults(self) -> tuple[int, float]:
        """Returns steps and guidance: those of the pipeline's own call."""
        (guidance,) = self.guidance_options(0.0)
        return self.call_default("num_inference_steps"), float(self.call_default(guidance))

    def call_default(self, name: str) -> Any:
        """Returns what an argument of the pipeline's call is when it is left out."""
        return inspect.signature(self.pipeline.__call__).parameters[name].default
