"""Cutting the answer's attention: each row of a batch may not look at tokens of its own, from the last token of the question on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import UserError
from interp.models.language.attention import AttentionCall, Barred
from interp.models.language.hooks import EditPhase, Phase
from probes.context_recall.draft import Question, Sample


class RowCuts:
    """All heads of row i may not look from `first_query` on at the positions cut[i]. See interp.models.language.hooks.Edit."""

    phase: EditPhase = "both"

    def __init__(self, cut: Sequence[Sequence[int]], first_query: int) -> None:
        self.first_query = first_query
        self.mask = torch.zeros((len(cut), first_query + 1), dtype=torch.bool)
        for row, positions in enumerate(cut):
            self.mask[row, list(positions)] = True

    def check(self, n_rows: int) -> None:
        """Raises UserError where the batch has other rows."""
        if n_rows != len(self.mask):
            raise UserError(f"Attention is cut in {len(self.mask)} rows and the batch has {n_rows}: fork as many.")

    def applies(self, layer: int, phase: Phase | None) -> bool:
        """Whether anything is cut."""
        return bool(self.mask.any())

    def evened(self, call: AttentionCall) -> None:
        """Returns None."""

    def barred(self, call: AttentionCall) -> Barred | None:
        """Returns the pairs of query and key that are cut, in all heads."""
        device = call.query.device
        answering = call.starts.to(device)[:, None] + call.columns() >= self.first_query
        keys = call.first_key + torch.arange(call.n_keys, device=device)
        cut = self.mask.to(device)[call.rows.to(device)][:, keys.clamp(max=self.first_query)]
        cut = cut & (keys < self.first_query)
        pairs = answering[:, :, None] & cut[:, None]
        return Barred(torch.ones(call.query.shape[1], dtype=torch.bool, device=device), pairs) if pairs.any() else None

    def replaced(self, call: AttentionCall, output: Tensor) -> Tensor:
        """Returns the outputs as they are."""
        return output


def n_selected_keys(config: Any) -> int | None:
    """Returns how many keys a query attends to at most where a model's indexer selects them; None where it attends to all it sees."""
    text = config.get_text_config(decoder=True)
    if "indexed_attention" not in (getattr(text, "layer_types", None) or ()):
        return None
    return int(getattr(text, "index_topk", 0))


def places_of(sample: Sample, question: Question, condition: str, key: Sequence[int]) -> list[int]:
    """Returns the positions that a condition takes away from the answer; none where it cuts nothing.

    "cut to elsewhere" takes as many tokens of the context as the right pair has, outside all pairs, drawn from the key.
    """
    spans = [range(pair.key[0], pair.value[1]) for pair in sample.pairs]
    own = {place for number in question.pairs for place in spans[number]}
    others = {place for number, span in enumerate(spans) if number not in question.pairs for place in span} - own
    if condition == "cut to elsewhere":
        free = [place for place in range(1, len(sample.ids)) if place not in own | others]
        chosen = np.random.default_rng(list(key)).permutation(free)[: len(own)]
        return [int(place) for place in chosen]
    return sorted({"cut to pair": own, "cut to others": others, "cut to sink": {0}}.get(condition, ()))
