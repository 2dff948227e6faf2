"""The check at load, the ways with heads: recorded rows and outputs, edits, contributions to logits."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from interp.errors import UserError
from interp.models.check.reference import TOLERANCE, Compared, Plain, compare, plainly, spreads
from interp.models.language.architecture import output_projection, output_projection_weight
from interp.models.language.attention import mix_values
from interp.models.language.logit_directions import LogitDirections, Scales
from interp.models.language.logit_path import residuals_without_heads
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History, Prefix
from interp.models.language.recording import AttentionRows, HeadOutputs, Weights
from interp.models.language.replay import few_tokens


@dataclass(frozen=True)
class Looked:
    """One pass with everything open: the first text, and the same once more with a head of every layer silenced."""

    logits: Float[Tensor, "one_or_two token vocabulary"]
    weights: Float[Tensor, "layer one_or_two head query key"]
    outputs: Float[Tensor, "layer one_or_two head query dim"]
    mixed: Float[Tensor, "layer one_or_two head query dim"]
    """What the recorded weights make of the recorded values, and a gate or a norm of that."""
    gate: Float[Tensor, "layer one_or_two head query dim"]
    """What the mixed values are multiplied by before the output projection."""
    scales: Scales | None


def look(
    model: LanguageModel,
    texts: Int[Tensor, "two token"],
    directions: LogitDirections | None,
    *,
    edited: bool,
    whole: bool = False,
) -> Looked:
    """Reads the first text with recordings open, and (`edited`) a second row whose heads are silenced; `whole`: keeping nothing."""
    n = texts.shape[1]
    ids = texts[:1].tolist()
    scales = nullcontext() if directions is None else directions.watching_scales()
    grid = torch.zeros((2, model.geometry.n_layers, model.geometry.n_heads), dtype=torch.bool)
    for layer, head in _chosen(model):
        grid[1, layer, head] = True
    with (
        model.record(torch.arange(n)[None], Weights(n), HeadOutputs(), _mixed) as recording,
        model.edit_heads(grid) if edited else nullcontext(),
        scales as watched,
    ):
        ids = ids * 2 if edited else ids
        rows = History([[] for _ in ids]) if whole else Prefix.empty(model.layout, len(ids), n)
        logits = model.extend(rows, ids, logits="all")
    return Looked(
        logits, recording["weights"], recording["head_output"], recording["mixed"], recording["gate"], watched
    )


def _mixed(rows: AttentionRows) -> dict[str, Tensor]:
    mixed = mix_values(rows.weights, rows.values.float())
    return {"mixed": mixed * rows.gate, "before": mixed, "gate": rows.gate}


def _chosen(model: LanguageModel) -> list[tuple[int, int]]:
    """The head of each layer that is silenced."""
    geometry = model.geometry
    return [(layer, layer % geometry.n_heads) for layer in geometry.layers]


def heads(model: LanguageModel, looked: Looked, plain: Plain) -> Compared:
    """Recorded rows against the weights of eager attention; without these, what the rows make of the values."""
    if plain.weights is None:
        return mixed(model, looked, plain)
    recorded = looked.weights[list(model.geometry.layers)]
    pairs = [(found[:1], wanted[:1].float().cpu()) for found, wanted in zip(recorded, plain.weights, strict=True)]
    if any(found.shape != wanted.shape for found, wanted in pairs):
        raise UserError("eager attention has weights of another shape than those recorded")
    spread = spreads(torch.stack([wanted for _, wanted in pairs]))
    is_short = any(bool((found.sum(dim=-1) < 1 - TOLERANCE).any()) for found, _ in pairs)
    if is_short:
        pairs = [(found, _to_sum_of(found, wanted)) for found, wanted in pairs]
    compared = compare([(found / spread, wanted / spread) for found, wanted in pairs], plain, by_layer=True)
    # Up to their sums rows would be right that are too small as a whole: what they make of the values shows these.
    return mixed(model, looked, plain) if is_short and compared.refused is None else compared


def _to_sum_of(found: Tensor, wanted: Tensor) -> Tensor:
    """Rows that sum to what a sink leaves of those found, which may be nothing: eager attention may give them with it or without."""
    return wanted * (found.sum(dim=-1, keepdim=True) / wanted.sum(dim=-1, keepdim=True).clamp(min=1e-12))


def head_outputs(model: LanguageModel, looked: Looked, plain: Plain) -> Compared:
    """Recorded outputs against what enters the output projection."""
    return compare(_by_layer(model, looked.outputs[:, :1], plain), plain, by_layer=True)


def mixed(model: LanguageModel, looked: Looked, plain: Plain) -> Compared:
    """The recorded weights' mean of the recorded values against what enters the output projection."""
    return compare(_by_layer(model, looked.mixed[:, :1], plain), plain, by_layer=True)


def gates(model: LanguageModel, texts: Tensor, looked: Looked, plain: Plain, *, whole: bool = False) -> Compared:
    """Whether what stands between the heads and the output projection multiplies what they make, number by number.

    In each layer by itself the heads are made to attend evenly, which leaves a gate what it was and a norm but for its scale.
    """
    layers, n = model.geometry.layers, texts.shape[1]
    grid = torch.zeros((len(layers), model.n_layers, model.geometry.n_heads), dtype=torch.bool)
    for row, layer in enumerate(layers):
        grid[row, layer] = True
    ids = texts[:1].tolist() * len(layers)
    rows = History([[] for _ in ids]) if whole else Prefix.empty(model.layout, len(ids), n)
    with (
        model.record(torch.arange(n)[None], HeadOutputs(), _mixed) as recording,
        model.edit_heads(grid, "uniform"),
    ):
        model.extend(rows, ids, logits="none")
    pairs = []
    for row, layer in enumerate(layers):
        wanted = recording["head_output"][layer, row].transpose(0, 1).flatten(1)
        found = (looked.gate[layer, 0] * recording["before"][layer, row]).transpose(0, 1).flatten(1)
        scale = (found * wanted).sum(-1, keepdim=True) / found.square().sum(-1, keepdim=True).clamp(min=1e-12)
        spread = spreads(wanted)
        pairs.append((scale * found / spread, wanted / spread))
    return compare(pairs, plain, by_layer=True)


def _by_layer(
    model: LanguageModel, found: Float[Tensor, "layer row head query dim"], plain: Plain
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of what was recorded and what entered each projection, each layer on its own scale."""
    layers, wanted = model.geometry.layers, plain.outputs(model)
    if len(wanted) != len(layers):
        raise UserError(f"{len(layers)} layers call their output projections {len(wanted)} times")
    pairs = []
    for layer, entered in zip(layers, wanted, strict=True):
        by_head = entered[:1].unflatten(-1, (found.shape[2], -1)).transpose(1, 2).float().cpu()
        width = by_head.shape[-1]
        recorded, beyond = found[layer, ..., :width], found[layer, ..., width:]
        if by_head.shape != recorded.shape or bool(beyond.any()):
            raise UserError("a head's output has another size than its share of the output projection")
        spread = spreads(by_head)
        pairs.append((recorded / spread, by_head / spread))
    return pairs


def edits(model: LanguageModel, texts: Tensor, looked: Looked | None, plain: Plain, *, whole: bool = False) -> Compared:
    """A head of every layer silenced by an edit, and in the plain model by zeros in its part of the output projection."""
    if looked is not None:
        found = looked.logits[1:]
    else:
        with model.edit_heads(_chosen(model)):
            rows = History([[]]) if whole else model.prefix()
            found = model.extend(rows, texts[:1].tolist(), logits="all")
    with torch.no_grad(), plainly(model), _silenced(model):
        wanted = model.hf(input_ids=texts[:1].to(model.device), use_cache=False).logits.float()
    return compare([(found, wanted)], plain)


@contextmanager
def _silenced(model: LanguageModel) -> Iterator[None]:
    """Takes the chosen heads out of the weights of their output projections inside the `with`.

    Where a projection's weight is not all that it is (adapters, quantised weights, weights on a disk) or serves several layers,
    out of its input.
    """
    n_heads = model.geometry.n_heads
    taken: list[tuple[Tensor, Tensor]] = []
    handles = []
    try:
        for layer, head in _chosen(model):
            projection = output_projection(model.attention_of(layer))
            weight = getattr(projection, "weight", None)
            alone = (
                sum(getattr(output_projection(other), "weight", None) is weight for other in model.attention_modules)
                == 1
            )
            if type(projection) in (nn.Linear, Conv1D) and isinstance(weight, Tensor) and alone and not weight.is_meta:
                share = output_projection_weight(model.attention_of(layer)).unflatten(0, (n_heads, -1))[head]
                taken.append((share, share.clone()))
                share.zero_()
            else:
                handles.append(projection.register_forward_pre_hook(_zeroing(head, n_heads)))
        yield
    finally:
        for share, kept in taken:
            share.copy_(kept)
        for handle in handles:
            handle.remove()


def _zeroing(head: int, n_heads: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0].unflatten(-1, (n_heads, -1)).clone()
        hidden[..., head, :] = 0
        return (hidden.flatten(-2), *inputs[1:])

    return hook


@dataclass(frozen=True)
class Silent:
    """The final residual of the first tokens as it is, and with the heads of one layer silent and all else frozen."""

    layers: Sequence[int]
    whole: Float[Tensor, "token residual"]
    without: list[Float[Tensor, "token residual"]]
    directions: LogitDirections


def silent(model: LanguageModel) -> Silent:
    """Returns what contributions are compared with, of the first and the last layer.

    Raises UserError where the logits are no sum of what the heads wrote, or a norm is of an unknown kind.
    """
    layers = sorted({model.geometry.layers[0], model.geometry.layers[-1]})
    whole, without = residuals_without_heads(model, layers)
    directions = LogitDirections(model)
    _ = directions.final_norm, directions.attention_norms  # refuses norms of an unknown kind
    return Silent(layers, whole, without, directions)


def contributions(model: LanguageModel, silent: Silent, looked: Looked, plain: Plain) -> Compared:
    """Heads' contributions, added up over a layer, against the change when the layer's heads fall silent and all else is frozen."""
    directions, scales = silent.directions, looked.scales
    assert scales is not None
    n = len(silent.whole)
    targets = few_tokens(model, n).roll(-1, dims=1)
    toward = directions.frozen(targets)
    norm = directions.final_norm
    pairs, rounding = [], 0.0
    for layer, without in zip(silent.layers, silent.without, strict=True):
        share = directions.to_head(layer, toward, through_norm=True).cpu()
        found = (looked.outputs[layer, :1, :, :n, : share.shape[-1]] * share).double().sum(dim=(1, -1))[0]
        if layer in scales.after_attention:
            found = found / scales.after_attention[layer][0, :n].cpu()
        found = found / scales.final[0][0, :n].cpu()
        before, after = norm.scale(silent.whole)[:, None], norm.scale(without)[:, None]
        with torch.no_grad():
            normed = [norm.module(residual).double() - norm.bias.double() for residual in (silent.whole, without)]
        change = normed[0] - normed[1] * after / before
        wanted = (change * directions.unembedding(targets)[0].double()).sum(dim=-1).cpu() * directions.output_scale
        spread = spreads(wanted)
        pairs.append((found[:, None] / spread, wanted[:, None] / spread))
        rounded = (silent.whole.double() * toward[0].double()).square().sum(dim=-1).sqrt() / before[:, 0]
        rounding = max(rounding, float(rounded.max()) * torch.finfo(model.hf.dtype).eps / spread)
    return compare(pairs, plain, rounding=8 * rounding)
