"""Active features of a sparse autoencoder, computed in chunks of features, so that all activations are never held at once."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_FEATURES = 16384
"""Features that are encoded at one time."""
_BY_COLUMN = ("standard", "jumprelu", "topk")


class Events(NamedTuple):
    """Active features: the row each is active in, its id and its activation."""

    row: Int[Tensor, " event"]
    feature: Int[Tensor, " event"]
    activation: Float[Tensor, " event"]


def active_features(sae: Any, residuals: Float[Tensor, "row residual"], chunk_features: int) -> Iterator[Events]:
    """Yields the features with an activation above 0, exactly those of SAELens' encode.

    Never more than `chunk_features` activations per row are held for ReLU, JumpReLU and TopK autoencoders; others are encoded
    whole.
    """
    if sae.cfg.architecture() not in _BY_COLUMN:
        with torch.inference_mode():
            events = _events(sae.encode(residuals), 0)
        yield events
        return
    with torch.inference_mode():
        inputs = sae.process_sae_in(residuals)
    starts = range(0, int(sae.cfg.d_sae), chunk_features)
    if sae.cfg.architecture() == "topk":
        yield _highest(sae, inputs, starts)
        return
    for first in starts:
        with torch.inference_mode():  # left before each yield: it would hold in the caller's loop too
            columns = slice(first, first + chunk_features)
            events = _events(_activated(sae, _pre_activations(sae, inputs, columns), columns), first)
        yield events


def _pre_activations(sae: Any, inputs: Float[Tensor, "row residual"], columns: slice) -> Float[Tensor, "row chunk"]:
    pre = torch.addmm(sae.b_enc[columns], inputs, sae.W_enc[:, columns])
    if sae.cfg.architecture() == "topk" and sae.cfg.rescale_acts_by_decoder_norm:
        pre = pre * sae.W_dec[columns].norm(dim=-1)
    return pre


def _activated(sae: Any, pre: Float[Tensor, "row chunk"], columns: slice) -> Float[Tensor, "row chunk"]:
    if sae.cfg.architecture() == "standard":
        return sae.activation_fn(pre)
    return sae.activation_fn(pre) * (pre > sae.threshold[columns])


def _events(activations: Float[Tensor, "row chunk"], first: int) -> Events:
    rows, columns = (activations > 0).nonzero(as_tuple=True)
    return Events(rows, columns + first, activations[rows, columns])


@torch.inference_mode()
def _highest(sae: Any, inputs: Float[Tensor, "row residual"], starts: range) -> Events:
    """The k highest pre-activations of each row over all chunks, those above 0."""
    k = int(sae.cfg.k)
    best, ids = (
        inputs.new_empty((len(inputs), 0)),
        torch.empty((len(inputs), 0), dtype=torch.long, device=inputs.device),
    )
    for first in starts:
        pre = _pre_activations(sae, inputs, slice(first, first + starts.step))
        found = pre.topk(min(k, pre.shape[1]), dim=1)
        values, columns = torch.cat([best, found.values], dim=1), torch.cat([ids, found.indices + first], dim=1)
        kept = values.topk(min(k, values.shape[1]), dim=1)
        best, ids = kept.values, columns.gather(1, kept.indices)
    rows, places = (best > 0).nonzero(as_tuple=True)
    return Events(rows, ids[rows, places], best[rows, places])
