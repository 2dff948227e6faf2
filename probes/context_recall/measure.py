"""From a model and samples of a task to rows: contexts are read once, and every question under all conditions as rows of one batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UserError
from interp.heads.sets import Edit, editing_rows
from interp.models.language.logit_head import LogitHead
from interp.models.language.model import LanguageModel
from interp.models.language.positions import moved
from interp.models.language.prefix import History, Prefix, stack
from interp.models.language.recording import Recording, Weights
from interp.models.language.residuals import watched_last
from interp.models.lens.lens import LogitLens
from interp.models.tokens.encoding import beginning, check_single_beginning
from probes.context_recall.cuts import RowCuts, n_selected_keys, places_of
from probes.context_recall.draft import Draft, Ids, Question, Sample
from probes.context_recall.kept import Retention, measure_kept
from probes.context_recall.looks import decided, facts_of, head_rows, layer_rows, pair_masses
from probes.context_recall.plan import MOVED_BY, WHOLE, CellUnit, HeadSet, cells_of
from probes.context_recall.scores import Scores, score_all
from probes.context_recall.settings import Settings
from probes.context_recall.tasks.catalogue import task_of
from probes.context_recall.tasks.task import words_in
from probes.context_recall.words import Words, words_of

Frames = dict[str, pd.DataFrame]
Streams = Sequence[Float[Tensor, "first residual"]]
"""By layer, what it hands on at the last token of each question that is read with nothing changed; none where no lens reads it."""
WITHOUT_PAIR = "without the pair"


@dataclass(frozen=True)
class Reading:
    """How samples are read: with which heads off, which attention cut, the question moved how far, and what reads their layers out."""

    model: LanguageModel
    sets: Sequence[HeadSet]
    cuts: Sequence[str]
    head: LogitHead | None
    """Reads the residual stream out after every layer; None where no lens reads the model."""
    moves: Sequence[int] = ()

    @classmethod
    def of(cls, model: LanguageModel, unit: CellUnit) -> "Reading":
        """Returns how a unit's samples are read; models whose residual stream cannot be read have no margins by layer."""
        try:
            head = LogitLens(model).head if unit.sets else None
        except UserError:
            head = None  # a finding says that there are no margins by layer
        return cls(model, unit.sets, unit.cuts, head, unit.moves)

    @property
    def conditions(self) -> list[tuple[str, int]]:
        """The rows that read a question behind its context: names and numbers of the draw."""
        cuts = [(f"cut to {cut}", 0) for cut in self.cuts]
        return [(WHOLE, 0), *((one.condition, one.draw) for one in self.sets), *cuts, *self.moved]

    @property
    def moved(self) -> dict[tuple[str, int], int]:
        """By how many positions a condition's rows are moved away from the context."""
        return {(f"{MOVED_BY}{n}", 0): n for n in self.moves}

    @property
    def retrieval(self) -> Sequence[tuple[int, int]]:
        """The retrieval heads."""
        return next(one.heads for one in self.sets if one.role == "retrieval" and one.control == "top")


@dataclass(frozen=True)
class Job:
    """One question behind its context, or behind the context without its pair."""

    number: int
    """Of the sample."""
    place: int
    """Of the question."""
    sample: Sample
    context: Ids
    is_whole: bool

    @property
    def question(self) -> Question:
        """What is asked."""
        return self.sample.questions[self.place]


def measure_cell(settings: Settings, model: LanguageModel, unit: CellUnit) -> Frames:
    """Returns the rows of the tables items, answers, layer_margins, head_masses and kept of a task at one size."""
    words = words_of(model.tokenizer, settings.words)
    samples = [build_sample(settings, model, unit, number, words) for number in range(unit.samples)]
    named = {
        "task": unit.task.partition("(")[0], "cell": words_in(dict(unit.cell)), "is_length": unit.is_length
    }  # fmt: skip
    tables = measure_samples(Reading.of(model, unit), samples)
    if unit.kept:
        retention = Retention(model, unit.kept, settings.kept_share, (settings.seed, *unit.id.encode()))
        for name, rows in measure_kept(retention, samples[: unit.kept_samples]).items():
            tables[name] = pd.concat([tables[name], rows], ignore_index=True) if name in tables else rows
    return {
        name: frame.assign(**named, sample_id=[f"{unit.id}-{number:03d}" for number in frame.pop("number")])
        for name, frame in tables.items()
    }


def check_cuts(settings: Settings, model: LanguageModel) -> None:
    """Raises UserError where a model selects fewer keys for a query than a text has: a cut may take all that it selected."""
    n_selected = n_selected_keys(model.hf.config)
    if n_selected is None:
        return
    words = words_of(model.tokenizer, settings.words)
    for unit in cells_of(settings, model.facts):
        found = [
            build_sample(settings, model, unit, number, words) for number in range(unit.samples if unit.cuts else 0)
        ]
        longest = max((len(one.ids) + len(question.ids) for one in found for question in one.questions), default=0)
        if longest > n_selected:
            raise UserError(
                f"A query of {model.identity.name} attends to {n_selected} keys that it selects, and texts of {unit.task} have up to "
                f"{longest} tokens: cut attention may leave it none. Leave {unit.task} out of --tasks, or name another model."
            )


def build_sample(settings: Settings, model: LanguageModel, unit: CellUnit, number: int, words: Words) -> Sample:
    """Returns one sample of a task at one size; the same number draws the same words and prose at every size.

    Raises ArgumentError for a task that does not hold what it says, or a tokenizer that lacks what it needs.
    """
    name = unit.task.partition("(")[0]
    generator = np.random.default_rng([settings.seed, number, *name.encode()])
    lead = beginning(model.tokenizer, settings.bos)
    draft = Draft(model.tokenizer, words, settings.read_frames(), generator, lead)
    sample = task_of(name).sample(draft, dict(unit.cell))
    check_single_beginning(model.tokenizer, sample.ids, model.identity.name)
    return sample


def measure_samples(reading: Reading, samples: Sequence[Sample]) -> Frames:
    """Returns the rows of all samples, with the column `number` for which one. Texts of one length are read as one batch."""
    jobs = sorted(_jobs(samples), key=lambda job: (len(job.context), len(job.question.ids)))
    tables: dict[str, list[pd.DataFrame]] = {}
    for part in _batches(reading, jobs):
        for name, job, frame in _measure(reading, part):
            tables.setdefault(name, []).append(frame.assign(number=job.number, question=job.place))
    order = ["number", "question"]
    return {
        name: pd.concat(parts, ignore_index=True).sort_values(order, kind="stable", ignore_index=True)
        for name, parts in tables.items()
    }


def _jobs(samples: Sequence[Sample]) -> Iterator[Job]:
    for number, sample in enumerate(samples):
        for place in range(len(sample.questions)):
            yield Job(number, place, sample, sample.ids, True)
        without = sample.without[0]
        if without is not None:
            yield Job(number, 0, sample, without, False)


def _batches(reading: Reading, jobs: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """Jobs of one length of context and of question, as many as there is memory for."""
    by_length: dict[tuple[int, int], list[Job]] = {}
    for job in jobs:
        by_length.setdefault((len(job.context), len(job.question.ids)), []).append(job)
    for (before, asked), alike in by_length.items():
        size = max(1, reading.model.batch_tokens // ((before + asked) * len(reading.conditions)))
        yield from (alike[first : first + size] for first in range(0, len(alike), size))


def _measure(reading: Reading, jobs: Sequence[Job]) -> Iterator[tuple[str, Job, pd.DataFrame]]:
    """Yields table names and frames of some jobs."""
    rows = [(job, condition) for job in jobs for condition in _conditions(reading, job)]
    firsts = [place for place, (_, (name, _)) in enumerate(rows) if name in (WHOLE, WITHOUT_PAIR)]
    prefix, logits, recording, streams = _read(reading, rows, firsts)
    scores = score_all(reading.model, prefix, logits, [job.question for job in jobs], firsts)
    for place, (first, job, score) in enumerate(zip(firsts, jobs, scores, strict=True)):
        yield "answers", job, _answer_rows(job.question, _conditions(reading, job), score)
        if not job.is_whole:
            continue
        item: dict[str, Any] = facts_of(reading.model, job.sample, job.question)
        if recording is None:
            item |= {"pair_mass": np.nan, "other_mass": np.nan, "is_found": np.nan}
        else:
            weights = recording["weights"][:, first, :, 0]
            item |= pair_masses(job.sample, job.question, weights, reading.retrieval)
            if job.question.pairs:
                yield "head_masses", job, head_rows(job.sample, job.question, weights, reading.model.geometry.layers)
        layers = None
        if reading.head is not None:
            layers = layer_rows(job.question, _by_layer(reading.head, [rows[place] for rows in streams], job.question))
            yield "layer_margins", job, layers
        written = str(reading.model.tokenizer.decode([int(logits[first].argmax())]))
        item |= {**decided(layers), "is_bound": score.rank == 1, "is_said": score.said, "written": written}
        yield "items", job, pd.DataFrame([item])


@torch.inference_mode()
def _by_layer(
    head: LogitHead, streams: Sequence[Float[Tensor, " residual"]], question: Question
) -> Float[Tensor, "layer value"]:
    """The logits of the first tokens of the values, right ones first, after every layer."""
    values = [value[0] for value in (*question.right, *question.wrong)]
    return head.logits_of(torch.stack(list(streams)), values).cpu()


def _conditions(reading: Reading, job: Job) -> list[tuple[str, int]]:
    return reading.conditions if job.is_whole else [(WITHOUT_PAIR, 0)]


def _read(
    reading: Reading, rows: Sequence[tuple[Job, tuple[str, int]]], firsts: Sequence[int]
) -> tuple[Prefix | History, Float[Tensor, "row vocabulary"], Recording | None, Streams]:
    """Reads every question under its condition, behind contexts that are read once each."""
    model = reading.model
    job = rows[0][0]
    last = len(job.context) + len(job.question.ids) - 1
    contexts = list(dict.fromkeys(one.context for one, _ in rows))
    prefix = _copies(model, contexts, [contexts.index(one.context) for one, _ in rows])
    recording, streams = None, dict[int, Tensor]()
    with ExitStack() as opened:
        if reading.sets:
            off = {(one.condition, one.draw): one.heads for one in reading.sets}
            edits: list[Edit] = [(off.get(condition, ()), "zero") for _, condition in rows]
            opened.enter_context(editing_rows(model, edits))
            queries = torch.tensor([[last if place in firsts else -1] for place in range(len(rows))])
            recording = opened.enter_context(model.record(queries, Weights(last + 1)))
        if reading.cuts:
            cut = [places_of(one.sample, one.question, name, (one.number, one.place)) for one, (name, _) in rows]
            opened.enter_context(model.hooks.opened(RowCuts(cut, last)))
        if reading.moves:
            by = [reading.moved.get(condition, 0) for _, condition in rows]
            opened.enter_context(moved(model, by, last + 1))
        if reading.head is not None:
            streams = opened.enter_context(watched_last(model, firsts))
        logits = model.extend(prefix, [list(one.question.ids) for one, _ in rows], logits="last")[:, -1]
    return prefix, logits, recording, [streams[layer] for layer in sorted(streams)]


def _copies(model: LanguageModel, contexts: Sequence[Ids], places: Sequence[int]) -> Prefix | History:
    """One row for each place, a copy of the context of that number. Rows of their own, so that each can have its own edits."""
    read = model.rows(len(contexts), len(contexts[0]))
    model.extend(read, [list(ids) for ids in contexts], logits="none")
    if isinstance(read, History):
        return read.select(places)
    singles = [read.select([place]) for place in range(len(contexts))]
    return stack([singles[place] for place in places], room=LONGEST_ANSWER)


LONGEST_ANSWER = 16
"""Room that is set aside for the question and a value; more is made when it is needed."""


def _answer_rows(question: Question, conditions: Sequence[tuple[str, int]], scores: Scores) -> pd.DataFrame:
    n_values = len(question.right) + len(question.wrong)
    first = scores.first_margin.tolist()
    rows = pd.DataFrame(
        {
            "condition": [name for name, _ in conditions],
            "draw": [draw for _, draw in conditions],
            "kind": question.facts.get("kind", ""),
            "first_margin_nats": first,
            "first_old_margin_nats": scores.first_old_margin.tolist(),
            "is_first_right": [margin > 0 for margin in first],
            "n_values": n_values,
            "chance": len(question.right) / n_values,
        }
    )
    whole = {
        "logp_nats": scores.logp, "margin_nats": scores.margin, "rank": scores.rank, "is_right": scores.rank == 1, "is_said": scores.said
    }  # fmt: skip
    return rows.assign(**{name: [float(value), *[np.nan] * (len(rows) - 1)] for name, value in whole.items()})
