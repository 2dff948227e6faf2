"""Small models that differ in one thing: what a layer keeps of the tokens it has read.

A layer is a short convolution, a mixer and a feed-forward part, each added to the stream. A mixer gives every token the sum of the
values read so far, weighted, and its state is what it has to keep for the next token:

| kind | weight of a token read before | state of a layer |
|---|---|---|
| attention | softmax | every key and value |
| window | softmax over the last tokens | as many keys and values |
| linear | 1 + x + x²/2 with x = query · key, normalised: exp by its Taylor series (BASED, 2024) | sums of feature × value and of features |
| state space | query · key, times a gate and the decays since, set by the tokens (after Mamba-2, 2024) | a matrix, key × value |
| both | linear in the first layer, a window in the second (after BASED) | of both |

Simplified: one head, one decay for a layer, no output gates, no positions but the convolution's, and every kind has the convolution,
without which one layer cannot bind a value to the key before it. The feed-forward part takes what a mixer leaves of its budget.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad, scaled_dot_product_attention, silu, softplus

Kind = Literal["attention", "window", "linear", "state space", "both"]
WIDTH, LAYERS, PARAMETERS = 32, 2, 20_000
KERNEL = 3
"""Tokens that the convolution sees."""
VALUE_WIDTH = 16
"""Of linear attention and the state space."""
WINDOW_WIDTH = 8
"""Of keys and values in a window."""
WINDOW_OF_BOTH = 16
BYTES = 4
"""Of a number of the state, float32."""
SLOW, OPEN = -5.0, 0.0
"""Where decays and gates begin: half of a token is left after about a hundred others, and half of it gets in."""


class Mixer(nn.Module):
    """One head: queries, keys and values of these widths, and what comes back to the stream."""

    extra: ClassVar[int] = 0
    """Numbers that a token sets beside its query, key and value."""

    def __init__(self, keys: int, values: int) -> None:
        super().__init__()
        self.widths = (keys, keys, values, self.extra)
        self.read = nn.Linear(WIDTH, sum(self.widths), bias=False)
        self.write = nn.Linear(values, WIDTH, bias=False)

    def forward(self, stream: Float[Tensor, "text token width"]) -> Float[Tensor, "text token width"]:
        """Returns what is added to the stream."""
        return self.write(self.mixed(*self.read(stream).split(self.widths, dim=-1)))

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, extra: Tensor) -> Float[Tensor, "text token value"]:
        """Returns the weighted sum of values for every token."""
        raise NotImplementedError

    def state_numbers(self, tokens: int) -> int:
        """Returns how many numbers are kept after so many tokens."""
        raise NotImplementedError


class Window(Mixer):
    """Softmax attention to the last tokens, or to all."""

    def __init__(self, width: int, tokens: int | None = None) -> None:
        super().__init__(width, width)
        self.tokens = tokens

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, extra: Tensor) -> Float[Tensor, "text token value"]:
        """See Mixer."""
        ago = _ago(query.shape[1])
        seen = ago >= 0 if self.tokens is None else (ago >= 0) & (ago < self.tokens)
        return scaled_dot_product_attention(query, key, value, attn_mask=seen)

    def state_numbers(self, tokens: int) -> int:
        """See Mixer."""
        return 2 * self.widths[-2] * min(tokens, self.tokens or tokens)


class Taylor(Mixer):
    """Linear attention: the weight 1 + x + x²/2 is the product of 1 + d + d² features of query and of key."""

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, extra: Tensor) -> Float[Tensor, "text token value"]:
        """See Mixer."""
        score = query @ key.mT / query.shape[-1] ** 0.5
        weight = (1 + score + score**2 / 2) * (_ago(query.shape[1]) >= 0)
        return weight @ value / weight.sum(dim=-1, keepdim=True)

    def state_numbers(self, tokens: int) -> int:
        """See Mixer."""
        keys, values = self.widths[1:3]
        return (1 + keys + keys**2) * (values + 1)


class StateSpace(Mixer):
    """A matrix that every token lets decay and adds its key times its value to; both by how much it says."""

    extra: ClassVar[int] = 2

    def __init__(self, keys: int, values: int) -> None:
        super().__init__(keys, values)
        self.start = nn.Parameter(torch.tensor([SLOW, OPEN]))

    def mixed(self, query: Tensor, key: Tensor, value: Tensor, extra: Tensor) -> Float[Tensor, "text token value"]:
        """See Mixer."""
        decay, gate = (extra + self.start).unbind(dim=-1)
        passed = softplus(decay).cumsum(dim=-1)
        left = torch.exp((passed[:, None, :] - passed[:, :, None]).clamp(max=0)) * (_ago(query.shape[1]) >= 0)
        return layer_norm((query @ key.mT * left * gate.sigmoid()[:, None, :]) @ value, value.shape[-1:])

    def state_numbers(self, tokens: int) -> int:
        """See Mixer."""
        return self.widths[1] * self.widths[2]


def _ago(n: int) -> Int[Tensor, "query key"]:
    """How many tokens before the query a key stands."""
    places = torch.arange(n)
    return places[:, None] - places


@dataclass(frozen=True)
class Shape:
    """A kind of model and the number that sets the size of its state: the width of keys, or the tokens of a window."""

    kind: Kind
    size: int

    def mixers(self) -> list[Mixer]:
        """Returns a new mixer for every layer."""
        if self.kind == "both":
            return [Taylor(self.size, VALUE_WIDTH), Window(WINDOW_WIDTH, WINDOW_OF_BOTH)]
        if self.kind == "attention":
            return [Window(self.size) for _ in range(LAYERS)]
        if self.kind == "window":
            return [Window(WINDOW_WIDTH, self.size) for _ in range(LAYERS)]
        mixer = Taylor if self.kind == "linear" else StateSpace
        return [mixer(self.size, VALUE_WIDTH) for _ in range(LAYERS)]

    def state_bytes(self, tokens: int) -> int:
        """Returns the bytes that all layers keep after so many tokens, the convolutions' last inputs included."""
        return BYTES * sum(mixer.state_numbers(tokens) + (KERNEL - 1) * WIDTH for mixer in self.mixers())


class Convolution(nn.Module):
    """Every channel's last tokens, weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv1d(WIDTH, WIDTH, KERNEL, groups=WIDTH)

    def forward(self, stream: Float[Tensor, "text token width"]) -> Float[Tensor, "text token width"]:
        """Returns what is added to the stream."""
        return silu(self.weigh(pad(stream.mT, (KERNEL - 1, 0)))).mT


class Reader(nn.Module):
    """A model of one shape, with as many parameters as any other, to within one unit of the feed-forward parts."""

    def __init__(self, shape: Shape, vocabulary: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, WIDTH)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.mixers = nn.ModuleList(shape.mixers())
        self.convolutions = nn.ModuleList(Convolution() for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3 * LAYERS + 1))
        left = PARAMETERS - sum(part.numel() for part in self.parameters()) - LAYERS * WIDTH
        wide = left // (LAYERS * (2 * WIDTH + 1))
        self.feeds = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, wide), nn.GELU(), nn.Linear(wide, WIDTH)) for _ in range(LAYERS)
        )

    def forward(self, ids: Int[Tensor, "text token"]) -> Float[Tensor, "text token vocabulary"]:
        """Returns the logits of the next token after every token."""
        stream = self.embed(ids)
        layers = zip(self.convolutions, self.mixers, self.feeds, strict=True)
        for norm, part in zip(self.norms, (part for layer in layers for part in layer), strict=False):
            stream = stream + part(norm(stream))
        return self.norms[-1](stream) @ self.embed.weight.T
