"""What is kept of one question read whole: where retrieval heads look, margins by layer, and what the question consists of."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language.model import LanguageModel
from probes.context_recall.draft import Question, Sample
from probes.context_recall.plan import Head
from probes.context_recall.scores import margin_of

FACTS: Mapping[str, Any] = {"hops": 1, "direction": "", "threads": 1, "gap": 0, "distance_words": 0, "kind": ""}
"""What a question says of itself, and what holds where it does not."""


def pair_masses(
    sample: Sample, question: Question, weights: Float[Tensor, "layer head key"], retrieval: Sequence[Head]
) -> dict[str, float]:
    """Returns the mass of retrieval heads on the right pair and on that other one which has the most, and whether it is found."""
    if not question.pairs:
        return {"pair_mass": np.nan, "other_mass": np.nan, "is_found": np.nan}
    masses = _masses(sample, weights)
    of_role = torch.stack([masses[layer, head] for layer, head in retrieval]).mean(dim=0)
    others = [number for number in range(len(sample.pairs)) if number not in question.pairs]
    own, rest = float(of_role[list(question.pairs)].max()), float(of_role[others].max()) if others else 0.0
    return {"pair_mass": own, "other_mass": rest, "is_found": float(own > rest)}


def head_rows(
    sample: Sample, question: Question, weights: Float[Tensor, "layer head key"], layers: Sequence[int]
) -> pd.DataFrame:
    """Returns one row for each head of the given layers: its mass on the right pair, on others, and on the one that was replaced."""
    masses = _masses(sample, weights)[list(layers)]
    own = list(question.pairs)
    others = [number for number in range(len(sample.pairs)) if number not in own]
    values = [sample.ids[slice(*pair.value)] for pair in sample.pairs]
    old = None if question.old is None else values.index(question.old)
    n_heads = masses.shape[1]
    return pd.DataFrame(
        {
            "layer": np.repeat(list(layers), n_heads),
            "head": np.tile(range(n_heads), len(layers)),
            "kind": question.facts.get("kind", ""),
            "gold_mass": _flat(masses[..., own].sum(dim=-1)),
            "other_mass": _flat(masses[..., others].mean(dim=-1)) if others else 0.0,
            "old_mass": np.nan if old is None else _flat(masses[..., old]),
        }
    )


def _masses(sample: Sample, weights: Float[Tensor, "layer head key"]) -> Float[Tensor, "layer head pair"]:
    spans = [slice(pair.key[0], pair.value[1]) for pair in sample.pairs]
    return torch.stack([weights[..., span].sum(dim=-1) for span in spans], dim=-1)


def _flat(masses: Float[Tensor, "layer head"]) -> np.ndarray:
    return masses.flatten().clamp(0, 1).float().numpy()


# ---------------------------------------------------------------------- layers


def layer_rows(question: Question, logits: Float[Tensor, "layer value"]) -> pd.DataFrame:
    """Returns the margin of first tokens in the residual stream after every layer; right values come first."""
    n_right = len(question.right)
    margins = margin_of(logits, n_right)
    facts = {**FACTS, **question.facts}
    return pd.DataFrame(
        {
            "layer": range(len(margins)), "hops": facts["hops"], "direction": facts["direction"],
            "margin_logits": margins.numpy(), "is_right": (margins > 0).numpy(),
            "chance": n_right / (n_right + len(question.wrong)),
        }
    )  # fmt: skip


def decided(layers: pd.DataFrame | None) -> dict[str, Any]:
    """The first layer from which on the right value stays first, and whether it was first in the later half and is not at the end."""
    if layers is None:
        return {"decided_layer": -1, "is_lost_late": np.nan}
    right = layers["is_right"].to_numpy()
    wrong = np.flatnonzero(~right)
    decided = int(wrong[-1]) + 1 if len(wrong) else 0
    return {
        "decided_layer": decided if right[-1] else -1,
        "is_lost_late": float(right[len(right) // 2 :].any() and not right[-1]),
    }


def facts_of(model: LanguageModel, sample: Sample, question: Question) -> dict[str, Any]:
    """Returns what a question's row says of it."""
    n = len(sample.ids)
    starts = [sample.pairs[number].key[0] for number in question.pairs]
    tokenizer: Any = model.tokenizer
    return {
        **FACTS, **question.facts,
        "n_pairs": len(sample.pairs),
        "key_distance_tokens": n + len(question.ids) - starts[0] if starts else -1,
        "depth_fraction": starts[0] / n if starts else np.nan,
        "context_tokens": n,
        "context_chars": len(tokenizer.decode(list(sample.ids[sample.lead :]))),
        "question_overlap": question.overlap,
        "bos_count": sample.lead,
        "template": tokenizer.decode(list(question.ids)),
        "answer": tokenizer.decode(list(question.right[0])),
    }  # fmt: skip
