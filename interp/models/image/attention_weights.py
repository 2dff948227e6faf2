"""Attention weights of a denoiser by layer, step and head, from the queries and keys that its modules hand to torch's attention.

Nothing of a family's projections, norms and rotary embeddings needs to be known: what the fused kernel is given is looked at, and
what it returns is left alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from interp.errors import ArgumentError, RunError
from interp.models.image.family import Encoded, Family, Layout


class AttentionCall(NamedTuple):
    """What one call of torch's attention is given; `bias` is added to the scores, or None."""

    query: Float[Tensor, "row head query dim"]
    key: Float[Tensor, "row head key dim"]
    bias: Tensor | None
    scale: float

    def weights(self, row: int, queries: Tensor) -> Float[Tensor, "head query key"]:
        """Returns what these queries of a row give to every key, in float32."""
        query, key = self.query[row][:, queries].float(), self.key[row].float()
        groups = query.shape[0] // key.shape[0]
        scores = query @ key.repeat_interleave(groups, dim=0).transpose(-1, -2) * self.scale
        if self.bias is not None:
            shape = (len(self.query), query.shape[0], self.query.shape[2], key.shape[1])
            scores = scores + self.bias.expand(shape)[row][:, queries]
        return scores.softmax(dim=-1)


@contextmanager
def attention_calls(modules: Sequence[Any], see: Callable[[int, AttentionCall], None]) -> Iterator[None]:
    """Calls `see` with a module's index and its attention, at every call of one of the modules inside the block.

    Raises RunError where a module computes its attention by other means than torch's.
    """
    with ExitStack() as stack:
        for index, module in enumerate(modules):
            watch = _Watch(index, see)
            for handle in (
                module.register_forward_pre_hook(watch.begin),
                module.register_forward_hook(watch.end, always_call=True),
            ):
                stack.callback(handle.remove)
        yield


class _Watch(TorchFunctionMode):
    """Looks at torch's attention during one module's calls."""

    def __init__(self, index: int, see: Callable[[int, AttentionCall], None]) -> None:
        super().__init__()
        self._index, self._see, self._n_seen = index, see, 0

    def begin(self, module: Any, inputs: Any) -> None:
        self._n_seen = 0
        self.__enter__()

    def end(self, module: Any, inputs: Any, output: Any) -> None:
        self.__exit__(None, None, None)
        if not self._n_seen and output is not None:  # nothing is there after an error
            raise RunError(
                f"{type(module).__name__} does not attend by torch's scaled_dot_product_attention, so there is nothing to record: "
                "leave the attention backend of the pipeline at its default."
            )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            self._n_seen += 1
            self._see(self._index, _call(*args, **options))
        return func(*args, **options)


def _call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """What torch's own parameters, in their order, say of a call."""
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    bias = attn_mask
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        bias = torch.zeros(attn_mask.shape, device=attn_mask.device).masked_fill(~attn_mask, -torch.inf)
    return AttentionCall(query, key, bias, query.shape[-1] ** -0.5 if scale is None else scale)


Quarters = dict[str, Float[Tensor, "head query key"]]


class Place(NamedTuple):
    """A picture's row among those drawn, a step and a layer, each counted from 0."""

    row: int
    step: int
    layer: int


class AttentionWeights:
    """The weights of chosen steps and layers of the pictures that `ImageModel.generate(…, record=AttentionWeights(…))` draws.

    `at(row, step, layer)` has the four quarters of a joint attention, by names such as "image to text", each for every head;
    text positions are those of the conditioning, picture positions go row by row. Nothing is averaged, so one layer of one step
    takes a float for every head and pair of positions: 1.6 GB for a square of 64 × 64 positions and 24 heads.
    """

    def __init__(self, *, steps: Sequence[int], layers: Sequence[int]) -> None:
        """Begins empty: several calls of generate may add pictures. Raises ArgumentError when there is nothing to record."""
        if not steps or not layers or min(*steps, *layers, 0) < 0:
            raise ArgumentError(
                "Name steps and layers to record, counted from 0: AttentionWeights(steps=[0], layers=[0])."
            )
        self._steps, self._layers = frozenset(steps), tuple(dict.fromkeys(layers))
        self._seen: dict[Place, Quarters] = {}
        self._n_rows = 0

    @property
    def places(self) -> list[Place]:
        """What is recorded so far."""
        return sorted(self._seen)

    def at(self, row: int, step: int, layer: int) -> Quarters:
        """Returns the weights by quarter. Raises ArgumentError for what was not recorded."""
        place = Place(row, step, layer)
        if place not in self._seen:
            raise ArgumentError(
                f"Nothing was recorded for row {row}, step {step} and layer {layer}: see places for what is."
            )
        return self._seen[place]

    @contextmanager
    def seeing(self, family: Family, text: Encoded, n_pixels: int, *, guided: bool) -> Iterator[None]:
        """Inside the block, records the calls of torch's attention in the chosen layers.

        Raises ArgumentError for a layer that is not there.
        """
        modules = family.attention_modules()
        wrong = [layer for layer in self._layers if layer >= len(modules)]
        if wrong:
            raise ArgumentError(f"There is no layer {wrong[0]} to record: layers go from 0 to {len(modules) - 1}.")
        layouts, first = family.layout(text, n_pixels), self._n_rows
        calls, steps = dict.fromkeys(self._layers, -1), dict.fromkeys(self._layers, -1)

        def see(index: int, call: AttentionCall) -> None:
            layer = self._layers[index]
            calls[layer] += 1
            rows = family.own_rows(calls[layer], len(call.query), len(layouts), guided=guided)
            steps[layer] += bool(rows)
            if steps[layer] in self._steps:
                for offset, (row, layout) in enumerate(zip(rows, layouts, strict=False)):
                    self._seen[Place(first + offset, steps[layer], layer)] = _quarters(call, row, layout)

        with attention_calls([modules[layer] for layer in self._layers], see):
            yield
        self._n_rows += len(layouts)


def _quarters(call: AttentionCall, row: int, layout: Layout) -> Quarters:
    """The weights of one row, by what gives and what gets attention; where queries are the picture's alone, from it only."""
    sides = {"text": layout.text, "image": layout.image}
    if call.query.shape[2] == len(layout.image):  # cross-attention
        return {"image to text": call.weights(row, layout.image)[..., layout.text].cpu()}
    given = {side: call.weights(row, at) for side, at in sides.items()}
    return {f"{one} to {other}": given[one][..., at].cpu() for one in sides for other, at in sides.items()}
