"""Readers whose answers are known, in the place of a model: they copy what stood behind the longest, newest or first match."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History
from probes.context_recall.measure import Reading, measure_samples

Rule = Callable[[Sequence[int]], dict[int, float]]


class Oracle(LanguageModel):
    """Says by a rule which tokens come next."""

    def __init__(self, tokenizer: Any, rule: Rule) -> None:
        self._tokenizer, self.rule = tokenizer, rule
        self.batch_tokens = 8192
        self.identity = ModelIdentity("oracle", "tests", "0", "float32")

    def rows(self, n_rows: int, room: int = 0) -> History:
        return History([[] for _ in range(n_rows)])

    def extend(self, prefix: Any, ids: Sequence[Sequence[int]], *, logits: Any = "last", phase: Any = "prefill") -> Any:
        kept = torch.zeros(len(ids), max(map(len, ids)), len(self.tokenizer))
        for row, read in enumerate(ids):
            for place, token in enumerate(read):
                prefix.ids[row].append(token)
                for said, logit in self.rule(prefix.ids[row]).items():
                    kept[row, place, said] = logit
        return kept[:, -1:] if logits == "last" else kept


def copying(*, newest: bool = True, longest: int = 10**6) -> Rule:
    """The token behind the earlier place that agrees on the most last tokens, at most `longest` of them."""

    def rule(ids: Sequence[int]) -> dict[int, float]:
        best, found = 0, None
        for end in range(1, len(ids)):
            n = 0
            while n < min(end, longest) and ids[end - 1 - n] == ids[-1 - n]:
                n += 1
            if n > best or (n == best and n and newest):
                best, found = n, ids[end]
        return {} if found is None else {found: 10.0}

    return rule


def answers_of(oracle: Oracle, samples: Sequence[Any]) -> list[Any]:
    """The rows of `answers` of every sample, read whole."""
    rows = measure_samples(Reading(oracle, (), (), None), samples)["answers"]
    return [part for _, part in rows.groupby("number")]
