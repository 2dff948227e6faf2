"""The causal test: answers to held-out questions, and plain prose, with the top heads of a ranking masked, and with random heads masked.

Every condition is a row of one batch: those that change heads only while the answer is written share the prompt's keys
and values, so a question is read once for all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from interp.heads.sets import Edit, editing_rows, heads_as_text
from interp.models.language.model import LanguageModel
from interp.models.language.out_of_memory import halving_on_out_of_memory
from interp.models.language.prefix import Prefix
from interp.models.language.thinking import Thought
from interp.models.tokens.encoding import beginning
from probes.retrieval_heads.answers import answer_stop_ids, reading_order, think_first, thought_room
from probes.retrieval_heads.conditions import CALIBRATION_TOKENS, ROWS_AT_ONCE, Condition
from probes.retrieval_heads.measure import thought_rows
from probes.retrieval_heads.needles import read_needle
from probes.retrieval_heads.plan import AblationUnit
from probes.retrieval_heads.scores import answer_recall
from probes.retrieval_heads.settings import Settings
from probes.retrieval_heads.stimuli import Sample, build_samples, build_surroundings, news_tokens

Result = TypeVar("Result")


@dataclass(frozen=True)
class Prose:
    """A passage whose surprisal measures general damage to the model."""

    prose_id: str
    ids: tuple[int, ...]


class Written(NamedTuple):
    """An answer's tokens, and the thought before it."""

    token_ids: list[int]
    thought: Thought


def measure_held_out(settings: Settings, model: LanguageModel, unit: AblationUnit) -> dict[str, pd.DataFrame]:
    """Returns the answers to one held-out needle under every condition, with the surprisal of a passage per sample."""
    needle = read_needle(settings.needles, unit.needle_id)
    frame, haystack = build_surroundings(settings, model, needle, max(settings.ablation_context_tokens))
    cells = [(tokens, depth) for tokens in settings.ablation_context_tokens for depth in settings.ablation_depths]
    samples = build_samples(model.tokenizer, needle, haystack, frame, cells)
    prose = {sample.sample_id: _passage(settings, model, f"prose-{sample.sample_id}") for sample in samples}
    means = None
    if "mean" in settings.ablation_modes:
        calibration = news_tokens(model, CALIBRATION_TOKENS, seed=settings.seed, key="calibration")
        means = model.mean_head_outputs([calibration[: model.context_window]])
    return measure_ablation(
        model,
        samples,
        prose,
        unit.conditions,
        means=means,
        max_new_tokens=settings.max_new_tokens,
        stop_ids=answer_stop_ids(model, frame),
    )


def _passage(settings: Settings, model: LanguageModel, key: str) -> Prose:
    """A passage of news prose; the first of its tokens only begins it and is not scored."""
    news = news_tokens(model, settings.prose_tokens, seed=settings.seed, key=key)
    start = beginning(model.tokenizer, settings.bos)
    return Prose(key, (*start, *news))


def measure_ablation(
    model: LanguageModel,
    samples: Sequence[Sample],
    prose: Mapping[str, Prose],
    conditions: Sequence[Condition],
    *,
    means: Float[Tensor, "layer head dim"] | None,
    max_new_tokens: int,
    stop_ids: Sequence[int],
) -> dict[str, pd.DataFrame]:
    """Returns the rows of `ablation` for the samples of one held-out needle: every sample under every condition; and of `thoughts`,
    for models that may think.

    Phase "decode" changes heads from the last prompt token on (the reference's choice), "both" from the first. Prose is
    scored with the change at every token, whatever the phase. `prose` is given by sample id; `means` are needed for mode
    "mean" only.
    """
    shared = [condition for condition in conditions if condition.phase == "decode" or not condition.heads]
    alone = [condition for condition in conditions if condition.phase == "both" and condition.heads]
    answering = _Answering(model, means, max_new_tokens, stop_ids)
    room = max_new_tokens + max(thought_room(sample.frame) for sample in samples)
    trunk = model.prefix(room=max(len(sample.ids) for sample in samples) + room)
    frames, thoughts = [], []
    for sample in reading_order(samples):
        passage = prose[sample.sample_id]
        model.reread(trunk, sample.ids[:-1])
        written = {
            **_each(shared, partial(answering.sharing, trunk, sample)),
            **_each(alone, partial(answering.alone, sample)),
        }
        surprisals = _each(conditions, partial(answering.prose_surprisal, passage))
        frames.append(_rows(model, sample, conditions, written, surprisals, passage.prose_id))
        if sample.frame.thinking is not None:
            each = {(c.condition, heads_as_text(c.heads)): written[c].thought for c in conditions}
            thoughts.append(thought_rows(model, sample, [(*which, thought) for which, thought in each.items()]))
    tables = {"ablation": pd.concat(frames, ignore_index=True)}
    return tables | ({"thoughts": pd.concat(thoughts, ignore_index=True)} if thoughts else {})


def _each(conditions: Sequence[Condition], run: Callable[[list[Edit]], list[Result]]) -> dict[Condition, Result]:
    """What `run` gives for each condition, equal edits run once and as many at a time as memory allows."""
    edits = list(dict.fromkeys(condition.edit for condition in conditions))
    found: dict[Edit, Result] = {}
    for first in range(0, len(edits), ROWS_AT_ONCE):
        batch = edits[first : first + ROWS_AT_ONCE]
        for part in halving_on_out_of_memory(lambda some: list(zip(some, run(some), strict=True)), batch):
            found.update(part)
    return {condition: found[condition.edit] for condition in conditions}


@dataclass(frozen=True)
class _Answering:
    """A model that answers one question under many edits, one per row."""

    model: LanguageModel
    means: Float[Tensor, "layer head dim"] | None
    max_new_tokens: int
    stop_ids: Sequence[int]

    def sharing(self, trunk: Prefix, sample: Sample, edits: list[Edit]) -> list[Written]:
        """Answers with heads edited from the last prompt token on; the rows share the trunk's prefix."""
        with editing_rows(self.model, edits, self.means, phase="decode"):
            return self._write(trunk.fork(len(edits)), sample)

    def alone(self, sample: Sample, edits: list[Edit]) -> list[Written]:
        """Answers with heads edited from the first token on: every row reads the prompt itself."""
        written = []
        step = max(1, self.model.batch_tokens // len(sample.ids))
        for first in range(0, len(edits), step):
            part = edits[first : first + step]
            rows = Prefix.empty(
                self.model.layout, len(part), len(sample.ids) + self.max_new_tokens + thought_room(sample.frame)
            )
            with editing_rows(self.model, part, self.means, phase="both"):
                self.model.extend(rows, [list(sample.ids[:-1])] * len(part), logits="none")
                written += self._write(rows, sample)
        return written

    def _write(self, rows: Prefix, sample: Sample) -> list[Written]:
        thoughts, pending = think_first(self.model, rows, [sample] * rows.n_rows, self.stop_ids)
        answers = self.model.generate(rows, pending, max_new_tokens=self.max_new_tokens, stop_ids=self.stop_ids)
        return [Written(*one) for one in zip(answers, thoughts, strict=True)]

    def prose_surprisal(self, prose: Prose, edits: list[Edit]) -> list[float]:
        """Mean surprisal of a passage, in nats per token."""
        with editing_rows(self.model, edits, self.means, phase="both"):
            surprisal = self.model.surprisal([list(prose.ids)] * len(edits))
        return surprisal[:, 1:].double().mean(dim=1).tolist()


def _rows(
    model: LanguageModel,
    sample: Sample,
    conditions: Sequence[Condition],
    written: Mapping[Condition, Written],
    surprisals: Mapping[Condition, float],
    prose_id: str,
) -> pd.DataFrame:
    tokenizer: Any = model.tokenizer
    texts = {c: tokenizer.decode(written[c].token_ids, skip_special_tokens=True).strip() for c in conditions}
    return pd.DataFrame(
        [
            {
                "condition": c.condition,
                "ranking": c.ranking,
                "k": c.k,
                "mode": c.mode,
                "phase": c.phase,
                "draw": c.draw,
                "heads": heads_as_text(c.heads),
                "sample_id": sample.sample_id,
                "needle_id": sample.needle.id,
                "literal": sample.needle.literal,
                "context_tokens": sample.context_tokens,
                "depth_fraction": sample.depth_fraction,
                "recall": answer_recall(sample.needle.real_needle, texts[c], sample.frame.recall_measure),
                "generated_text": texts[c],
                "prose_id": prose_id,
                "prose_surprisal_nats": surprisals[c],
            }
            for c in conditions
        ]
    )
