"""Heat maps: the denoiser's attention to each text token over the picture, reduced while the picture is drawn.

After DAAM (Tang et al. 2023), with differences: any text length and picture size, several pictures at once, with or without
guidance, all layers (DAAM leaves out the middle block and the smallest maps), means instead of sums over steps, and the
image positions' attention to text where attention is joint (SD3, FLUX). The maps show where the model attends, not the effect
of that attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from interp.models.image.attention_weights import AttentionCall, attention_calls
from interp.models.image.family import Encoded, Family

Size = tuple[int, int]


class HeatMaps:
    """Attention maps of the pictures that `ImageModel.generate(…, record=HeatMaps())` draws, in the order of its rows.

    A map is the mean, over steps, heads and the layers of one resolution, of the attention that the image positions of the
    branch with the text give to a text position. At every image position the maps of all text positions sum to 1 in
    cross-attention; in joint attention, the remainder is attention to the image.
    Memory is one float per picture, text position and image position of a resolution, whatever the number of steps and layers.
    """

    def __init__(self) -> None:
        """Begins empty: several calls of generate may add pictures."""
        self._batches: list[dict[Size, _RunningMean]] = []

    @property
    def resolutions(self) -> dict[Size, int]:
        """The heights and widths of the maps, and the number of layers at each."""
        return {size: mean.n_layers for size, mean in self._recorded()[0].items()}

    def at(self, size: Size) -> Float[Tensor, "row position height width"]:
        """Returns the maps of the layers of one resolution."""
        return torch.cat([batch[size].mean for batch in self._recorded()])

    def mass(self) -> Float[Tensor, "row position"]:
        """Returns the share of all attention that each text position gets: the mean over image positions and all layers.

        Sums to 1 over the positions in cross-attention, to less in joint attention.
        """
        layers = self.resolutions
        total = sum(n * self.at(size).mean(dim=(2, 3)) for size, n in layers.items())
        return torch.as_tensor(total / sum(layers.values()))

    def overlay(self, positions: Sequence[int], height: int, width: int) -> Float[Tensor, "row height width"]:
        """Returns one map for these positions together, of the given size, to overlay on the picture.

        The mean over the positions, each resolution brought to the size bicubically and cut off at 0, then the mean over
        all layers (DAAM's word map).
        """
        layers = self.resolutions
        total = torch.zeros(1)
        for size, n in layers.items():
            word = self.at(size)[:, list(positions)].mean(dim=1, keepdim=True)
            grown = interpolate(word, size=(height, width), mode="bicubic", antialias=False).clamp(min=0)
            total = total + n * grown[:, 0]
        return total / sum(layers.values())

    def _recorded(self) -> "list[dict[Size, _RunningMean]]":
        if not self._batches:
            raise ValueError("nothing is recorded yet: pass this to generate as record")
        return self._batches

    @contextmanager
    def watching(self, denoiser: Any, n_rows: int, grid: Size) -> Iterator[None]:
        """Inside the block, records how the last `n_rows` rows of the denoiser's calls attend to text; then restores the processors.

        `grid` is the height and width in image positions. With guidance the rows before are the unconditional branch. Every
        attention module keeps its own processor for its output, so the picture is the same; the weights are computed a
        second time beside it.
        """
        processors = denoiser.attn_processors
        joint = [name for name in processors if name.endswith(".attn.processor")]
        cross = [name for name in processors if name.endswith(".attn2.processor")]
        batch: dict[Size, _RunningMean] = {}
        with_watchers = dict(processors)
        for name in joint or cross:  # SD3.5's attn2 looks at the image alone
            with_watchers[name] = _Watcher(processors[name], batch, n_rows, grid, joint=bool(joint))
        denoiser.set_attn_processor(with_watchers)
        try:
            yield
        finally:
            denoiser.set_attn_processor(dict(processors))
        for maps in batch.values():
            maps.mean = maps.mean.cpu()
        self._batches.append(batch)

    @contextmanager
    def seeing(self, family: Family, text: Encoded, grid: Size, *, guided: bool) -> Iterator[None]:
        """Inside the block, records how the picture attends to the text in the calls of torch's attention.

        `grid` is the height and width in image positions. What the kernel is given is looked at, and its output is left alone.
        """
        maps, n_rows, n_positions = _RunningMean(), len(text.sequence), text.sequence.shape[1]
        layouts = family.layout(text, grid[0] * grid[1])
        calls = dict.fromkeys(range(len(family.attention_modules())), -1)

        def see(layer: int, call: AttentionCall) -> None:
            calls[layer] += 1
            rows = family.own_rows(calls[layer], len(call.query), n_rows, guided=guided)
            if not rows:
                return
            seen = torch.zeros(n_rows, n_positions, grid[0] * grid[1], device=call.query.device)
            for index, (row, layout) in enumerate(zip(rows, layouts, strict=True)):
                at_a_time = max(1, _SCORES_AT_A_TIME // (call.query.shape[1] * call.key.shape[2]))
                given = [
                    call.weights(row, part)[..., layout.text].mean(dim=0) for part in layout.image.split(at_a_time)
                ]
                seen[index, layout.places] = torch.cat(given).T
            maps.add(layer, seen.unflatten(2, grid))

        with attention_calls(family.attention_modules(), see):
            yield
        maps.mean = maps.mean.cpu()
        self._batches.append({grid: maps})


class _RunningMean:
    """The mean of the maps added so far."""

    def __init__(self) -> None:
        self.mean = torch.zeros(())
        self._n = 0
        self._layers: set[int] = set()

    @property
    def n_layers(self) -> int:
        return len(self._layers)

    def add(self, layer: int, maps: Float[Tensor, "row position height width"]) -> None:
        self._layers.add(layer)
        self._n += 1
        self.mean = maps if self._n == 1 else self.mean + (maps - self.mean) / self._n


class _Watcher:
    """An attention processor that wraps another one and adds the attention weights to a mean."""

    def __init__(
        self, processor: Any, means: dict[Size, _RunningMean], n_rows: int, grid: Size, *, joint: bool
    ) -> None:
        self._processor, self._means, self._n_rows, self._grid, self._joint = processor, means, n_rows, grid, joint

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *more: Any,
        **named: Any,
    ) -> Any:
        image = hidden_states[-self._n_rows :]
        text = None if encoder_hidden_states is None else encoder_hidden_states[-self._n_rows :]
        if self._joint:
            rotary = more[0] if more else named.get("image_rotary_emb")
            weights = joint_attention_weights(attn, image, text, rotary, self._grid[0] * self._grid[1])
        else:
            assert text is not None
            bias = None if attention_mask is None else attention_mask[-self._n_rows :]
            weights = attention_weights(attn, image, text, bias)
        size = resolution(self._grid, weights.shape[1])
        maps = weights.transpose(1, 2).unflatten(2, size)
        self._means.setdefault(size, _RunningMean()).add(id(attn), maps)
        return self._processor(attn, hidden_states, encoder_hidden_states, attention_mask, *more, **named)


def attention_weights(
    attn: Any,
    image: Float[Tensor, "row pixel channel"],
    text: Float[Tensor, "row position text_channel"],
    bias: Float[Tensor, "row 1 position"] | None,
) -> Float[Tensor, "row pixel position"]:
    """Returns a diffusers attention module's cross-attention weights, in float32, as the mean over its heads."""
    if attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    query, key = attn.to_q(image), attn.to_k(text)
    if attn.norm_q is not None:  # over all heads, as in Sana
        query, key = attn.norm_q(query), attn.norm_k(key)
    query, key = (part.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for part in (query, key))
    scores = (query.float() @ key.float().transpose(-1, -2)) * attn.scale
    if bias is not None:
        scores = scores + bias.float()[:, None]
    return scores.softmax(dim=-1).mean(dim=1)


def joint_attention_weights(
    attn: Any,
    image: Float[Tensor, "row sequence channel"],
    text: Float[Tensor, "row position channel"] | None,
    rotary: tuple[Float[Tensor, "key dim"], Float[Tensor, "key dim"]] | None,
    n_pixels: int,
) -> Float[Tensor, "row pixel position"]:
    """Returns what the image positions of a joint attention module give to each text position, as the mean over its heads.

    The softmax runs over text and image. Where `text` is None (FLUX's single stream) it stands before the image in `image`.
    `rotary` turns queries and keys, text first. Computed for some image positions at a time: all pairs of them are never held.
    """
    query = _heads(attn, attn.to_q(image[:, -n_pixels:]), attn.norm_q)
    key = _heads(attn, attn.to_k(image), attn.norm_k)
    if text is not None:
        key = torch.cat([_heads(attn, attn.add_k_proj(text), attn.norm_added_k), key], dim=1)
    if rotary is not None:
        query = _turned(query, rotary[0][-n_pixels:], rotary[1][-n_pixels:])
        key = _turned(key, *rotary)
    n_rows, n_keys, n_heads, dim = key.shape
    at_a_time = max(1, _SCORES_AT_A_TIME // (n_rows * n_keys * n_heads))
    weights = []
    for part in query.float().split(at_a_time, dim=1):
        scores = torch.einsum("rqhd,rkhd->rhqk", part, key.float()) * dim**-0.5
        weights.append(scores.softmax(dim=-1)[..., : n_keys - n_pixels].mean(dim=1))
    return torch.cat(weights, dim=1)


_SCORES_AT_A_TIME = 2**26
"""Attention scores held at once, in numbers: 256 MB."""


def _turned(
    heads: Float[Tensor, "row token head dim"], cosines: Float[Tensor, "token dim"], sines: Float[Tensor, "token dim"]
) -> Float[Tensor, "row token head dim"]:
    """Diffusers' own rotary embedding."""
    from diffusers.models import embeddings

    turn: Any = embeddings.apply_rotary_emb
    return turn(heads, (cosines, sines), sequence_dim=1)


def _heads(attn: Any, projected: Tensor, norm: Any) -> Float[Tensor, "row token head dim"]:
    split = projected.unflatten(-1, (attn.heads, -1))
    return split if norm is None else norm(split)


def resolution(grid: Size, n_pixels: int) -> Size:
    """Returns the height and width of a layer with so many image positions: the grid's, halved (upwards) some times over."""
    height, width = grid
    while height * width > n_pixels:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != n_pixels:
        raise ValueError(f"{n_pixels} image positions are no halving of {grid[0]} × {grid[1]}")
    return height, width
