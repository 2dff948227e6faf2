"""Answers: greedy decoding of many samples, shared or plain.

Shared: the samples of one haystack are read in the order of their needles' places, the last first, so that each reads
only what differs from the one before; answers are written in batches of whole prompts. Plain (`--no-sharing`): the
obvious way, one prefill per sample and transformers' eager attention at each step; it is the oracle of the other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.models.language.kept_logits import check_numbers
from interp.models.language.model import LanguageModel
from interp.models.language.out_of_memory import halving_on_out_of_memory
from interp.models.language.prefix import Prefix
from interp.models.language.thinking import Thought, think
from interp.models.tokens.encoding import stop_ids
from probes.retrieval_heads.stimuli import Frame, Sample

Result = TypeVar("Result")


def answer_stop_ids(model: LanguageModel, frame: Frame) -> list[int]:
    """Returns the tokens that end an answer.

    Chat answers end with the model's end token; plain ones with a line break too, after which models ramble on.
    """
    return stop_ids(model.tokenizer, model.hf.generation_config, at_newline=frame.prompt_format != "chat")


# ---------------------------------------------------------------------- shared


@dataclass(frozen=True)
class AnsweredBatch:
    """Samples with the tokens their model wrote; `rows` has read each prompt but its last token."""

    samples: list[Sample]
    rows: Prefix
    emitted: list[list[int]]
    tokens_read: list[int]
    thoughts: list[Thought]
    """What came before each answer; the samples' prompts end in it."""


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
    room = max_new_tokens + max(thought_room(sample.frame) for sample in samples)
    trunk = model.prefix(room=max(len(sample.ids) for sample in samples) + room)

    def answer(batch: list[Sample]) -> Result:
        rows, tokens_read = _read(model, trunk, batch, room)
        thoughts, pending = think_first(model, rows, batch, stop_ids)
        emitted = model.generate(rows, pending, max_new_tokens=max_new_tokens, stop_ids=stop_ids)
        asked = [after(sample, thought) for sample, thought in zip(batch, thoughts, strict=True)]
        rows.crop([len(sample.ids) - 1 for sample in asked])
        return finish(AnsweredBatch(asked, rows, emitted, tokens_read, thoughts))

    results = []
    for batch in batches(reading_order(samples), model.batch_tokens):
        results += halving_on_out_of_memory(answer, batch)
    return results


def thought_room(frame: Frame) -> int:
    """Returns the most tokens that a thought adds to a prompt."""
    return frame.thinking.most_tokens if frame.thinking else 0


def think_first(
    model: LanguageModel, rows: Prefix, batch: Sequence[Sample], stop_ids: Sequence[int]
) -> tuple[list[Thought], list[list[int]]]:
    """Returns each sample's thought, and the tokens to read before its answer; see interp.models.language.thinking.think."""
    thinking = batch[0].frame.thinking
    if thinking is None:
        return [Thought([], True)] * len(batch), [[sample.ids[-1]] for sample in batch]
    return think(model, rows, [sample.ids for sample in batch], thinking, stop_ids)


def after(sample: Sample, thought: Thought) -> Sample:
    """Returns a sample whose prompt ends in the thought."""
    return replace(sample, ids=(*sample.ids, *thought.token_ids)) if thought.token_ids else sample


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
    rows = Prefix.empty(model.layout, len(batch), max(len(sample.ids) for sample in batch) + room)
    tokens_read = []
    for row, sample in enumerate(batch):
        tokens_read.append(model.reread(trunk, sample.ids[:-1]))
        rows.put(row, trunk)
    return rows, tokens_read


# ---------------------------------------------------------------------- plain


class PlainAnswer(NamedTuple):
    """What the model wrote and the two most attended positions of every head at every step."""

    emitted: list[int]
    attended: Int[Tensor, "layer head step two"]
    logits: Float[Tensor, "layer head step two"]
    """Logarithms of the two attention weights: equal to scores before the softmax up to a constant per row."""


@torch.inference_mode()
def answer_plainly(
    model: LanguageModel, prompt: Sequence[int], *, max_new_tokens: int, stop_ids: Sequence[int]
) -> PlainAnswer:
    """Returns the greedy answer to one prompt, token by token, with transformers' own cache and eager attention.

    As in the reference script: the prompt but its last token is read by the fast kernel, every later token alone.
    """
    cache = DynamicCache(config=model.hf.config)
    model.hf(torch.tensor([prompt[:-1]], device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    emitted: list[int] = []
    steps = []
    token = prompt[-1]
    with model.eager():
        while len(emitted) < max_new_tokens and not (emitted and token in stop_ids):
            output = model.hf(
                torch.tensor([[token]], device=model.device),
                past_key_values=cache,
                use_cache=True,
                output_attentions=True,
            )
            check_numbers(model, output.logits[0, -1:])
            steps.append(_top_two(output.attentions, n_keys=len(prompt) + len(emitted)))
            token = int(output.logits[0, -1].argmax())
            emitted.append(token)
    attended, weights = (torch.stack(parts, dim=2) for parts in zip(*steps, strict=True))
    return PlainAnswer(emitted, attended, weights.log())


def _top_two(attentions: Any, n_keys: int) -> tuple[Int[Tensor, "layer head two"], Float[Tensor, "layer head two"]]:
    """The two largest weights of the last row in every layer; lowest position first among equals."""
    positions, weights = [], []
    for layer in attentions:
        row = layer[0, :, -1].float().cpu()
        offset = n_keys - row.shape[-1]  # sliding-window layers keep only their window
        first = row.argmax(dim=-1, keepdim=True)
        second = row.scatter(-1, first, -1.0).argmax(dim=-1, keepdim=True)
        found = torch.cat([first, second], dim=-1)
        positions.append(found + offset)
        weights.append(row.gather(-1, found))
    return torch.stack(positions), torch.stack(weights)
