"""Letting a model answer: greedy decoding of many samples, shared or plain.

Shared: the samples of one haystack are read in the order of their needles' places, the last first, so that each reads
only what differs from the one before; answers are written in batches of whole prompts. Plain (`--no-sharing`): the
obvious way, one prefill per sample and transformers' eager attention at each step; it is the oracle of the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from interp.models.language import LanguageModel
from interp.models.memory import halving_on_out_of_memory
from interp.models.prefix import Prefix
from probes.retrieval_heads.stimuli import Sample


@dataclass(frozen=True)
class AnsweredBatch:
    """Samples with the tokens their model wrote; `rows` has read each prompt but its last token."""

    samples: list[Sample]
    rows: Prefix
    emitted: list[list[int]]
    tokens_read: list[int]


Result = TypeVar("Result")


def answer_all(
    model: LanguageModel,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    finish: Callable[[AnsweredBatch], Result],
) -> list[Result]:
    """Returns `finish(batch)` for every batch of answered samples.

    What two samples of one needle begin with is read once. Out of memory halves the batch.
    Raises RunError when a single prompt does not fit.
    """
    trunk = model.prefix(room=max(len(sample.ids) for sample in samples) + max_new_tokens)

    def answer(batch: list[Sample]) -> Result:
        rows, tokens_read = _read(model, trunk, batch, max_new_tokens)
        pending = [[sample.ids[-1]] for sample in batch]
        emitted = model.generate(rows, pending, max_new_tokens=max_new_tokens, stop_ids=stop_ids)
        rows.crop([len(sample.ids) - 1 for sample in batch])
        return finish(AnsweredBatch(batch, rows, emitted, tokens_read))

    results = []
    for batch in batches(reading_order(samples), model.batch_tokens):
        results += halving_on_out_of_memory(answer, batch)
    return results


def reading_order(samples: Sequence[Sample]) -> list[Sample]:
    """Returns samples so that each shares as much as possible with the one before: per needle, the latest place first."""
    needles = list(dict.fromkeys(sample.needle.id for sample in samples))

    def place(sample: Sample) -> int:
        return sample.needle_start if sample.has_needle else len(sample.ids)

    return sorted(samples, key=lambda sample: (needles.index(sample.needle.id), -place(sample), -len(sample.ids)))


def batches(samples: Sequence[Sample], batch_tokens: int) -> Iterator[list[Sample]]:
    """Yields runs of samples whose prompts together have at most batch_tokens tokens (always at least one)."""
    batch: list[Sample] = []
    for sample in samples:
        longest = max(len(other.ids) for other in [*batch, sample])
        if batch and longest * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _read(model: LanguageModel, trunk: Prefix, batch: list[Sample], room: int) -> tuple[Prefix, list[int]]:
    """Reads every prompt but its last token; one prompt stays in the trunk, several become rows of their own."""
    if len(batch) == 1:
        return trunk, [model.reread(trunk, batch[0].ids[:-1])]
    rows = Prefix.empty(model.n_layers, len(batch), max(len(sample.ids) for sample in batch) + room)
    tokens_read = []
    for row, sample in enumerate(batch):
        tokens_read.append(model.reread(trunk, sample.ids[:-1]))
        rows.put(row, trunk)
    return rows, tokens_read
