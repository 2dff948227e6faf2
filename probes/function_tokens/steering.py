"""Steering: a feature added at a function or a content token, at the last position or before it, against a random direction."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language import LanguageModel
from interp.models.residuals import changed_residuals, read_residuals
from probes.function_tokens.inputs import Corpus, Inputs, Loaded
from probes.function_tokens.reactivation import EARLIEST, prompt_windows

PROMOTED = 10
"""Next tokens that a feature promotes most, by its direction's product with the unembedding."""
EARLIER = range(2, 13)
"""How far before the last token the earlier one may stand."""
PROMPT_STREAM, CELL_STREAM = 9, 10
"""Names of the random streams that choose prompts, and places in them."""


@dataclass(frozen=True)
class Cell:
    """Where a vector is added: at `position` of the prompt that ends at `last`."""

    where: str
    token_class: str
    position: int
    last: int


@torch.inference_mode()
def measure_steering(inputs: Inputs, loaded: Loaded, prompts: range) -> pd.DataFrame:
    """Returns one row per prompt, cell of the 2×2 design and direction (feature or random): what the next token's distribution does.

    `kl_nats`: KL(steered ‖ as it is) at the last token. `promoted_gain_nats`: rise of the log probability of the ten tokens
    that the feature promotes, together.
    """
    model, layer = inputs.model, loaded.dictionary.layer
    order = prompt_windows(inputs.corpus, inputs.settings.seed, PROMPT_STREAM)
    rows = []
    for prompt in range(prompts.start, min(prompts.stop, len(order))):
        generator = np.random.default_rng([inputs.settings.seed, CELL_STREAM, prompt])
        ids = inputs.corpus.windows[slice(int(order[prompt]), int(order[prompt]) + 1)].ids[0]
        cells = cells_of(inputs.corpus, ids, generator)
        if not cells:
            continue
        stream = read_residuals(model, ids[None], [layer])[layer][0]
        counted = stream[max(inputs.settings.skip_first, inputs.corpus.windows.n_before) :]
        activations = loaded.dictionary.encode(counted)
        active = (activations > 0).any(dim=0).nonzero().squeeze(-1).cpu().numpy()
        feature = int(generator.choice(active))
        strength = inputs.settings.steering_strength * float(activations[:, feature].max())
        direction = loaded.dictionary.direction(feature, counted[activations[:, feature].argmax()])
        vector = strength * direction
        noise = torch.from_numpy(generator.standard_normal(len(vector))).to(vector)
        random = noise * vector.norm() / noise.norm()
        promoted = promoted_tokens(model, direction)
        for cell in cells:
            outcome = steered(
                model, layer, ids[: cell.last + 1], cell.position, torch.stack([vector, random]), promoted
            )
            for name, values in zip(("feature", "random"), outcome.tolist(), strict=True):
                rows.append(
                    {
                        "prompt": prompt,
                        "feature_id": feature,
                        "where": cell.where,
                        "token_class": cell.token_class,
                        "direction": name,
                        "distance": cell.last - cell.position,
                        "vector_norm": float(vector.norm()),
                        "kl_nats": values[0],
                        "promoted_gain_nats": values[1],
                    }
                )
    return pd.DataFrame(rows)


def promoted_tokens(model: LanguageModel, direction: Float[Tensor, " residual"]) -> Tensor:
    """Returns the ids whose logits a direction raises most, straight through the unembedding."""
    head = model.hf.get_output_embeddings().weight  # type: ignore[union-attr]
    return (head.float() @ direction.to(head.device).float()).topk(PROMOTED).indices  # type: ignore[operator]


@torch.inference_mode()
def steered(
    model: LanguageModel,
    layer: int,
    ids: Tensor,
    position: int,
    vectors: Float[Tensor, "vector residual"],
    promoted: Tensor,
) -> Float[Tensor, "vector 2"]:
    """Returns, per vector added after the layer at the position, KL(steered ‖ as it is) and the gain of the promoted tokens."""
    rows = ids.repeat(len(vectors) + 1, 1)
    zero = torch.zeros_like(vectors[:1])
    added = torch.cat([zero, vectors])

    def add(stream: Tensor) -> Tensor:
        stream = stream.clone()
        stream[:, position] += added.to(stream)
        return stream

    prefix = model.rows(len(rows), rows.shape[1])
    with changed_residuals(model, layer, add):
        logits = model.extend(prefix, rows.tolist(), logits="last")[:, -1]
    log_p = torch.log_softmax(logits.double(), dim=-1)
    divergence = (log_p[1:].exp() * (log_p[1:] - log_p[:1])).sum(dim=-1)
    mass = torch.logsumexp(log_p[:, promoted], dim=-1)
    return torch.stack([divergence, mass[1:] - mass[0]], dim=1).float().cpu()


def cells_of(corpus: Corpus, ids: Tensor, generator: np.random.Generator) -> list[Cell]:
    """Returns the four cells of one prompt: last tokens of both classes, and earlier tokens of both classes before one last token.

    None where the prompt has no such tokens.
    """
    function = np.isin(ids.numpy(), corpus.function_ids())
    positions = np.arange(EARLIEST, len(ids))
    by_class = {"function": positions[function[positions]], "content": positions[~function[positions]]}
    if not all(len(found) for found in by_class.values()):
        return []
    cells = [Cell("last", name, int(p), int(p)) for name, found in by_class.items() for p in [generator.choice(found)]]
    last = int(generator.choice(positions))
    for name, found in by_class.items():
        near = found[np.isin(last - found, np.array(EARLIER))]
        if not len(near):
            return []
        cells.append(Cell("earlier", name, int(generator.choice(near)), last))
    return cells
