"""Measures needles: the model answers, then one teacher-forced pass records every head's attention and output."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from interp.models.language.logit_directions import LogitDirections
from interp.models.language.model import LanguageModel
from interp.models.language.recording import TopKeys
from interp.models.language.thinking import Thought
from interp.tables import empty
from probes.retrieval_heads.answers import (
    AnsweredBatch,
    after,
    answer_all,
    answer_plainly,
    answer_stop_ids,
    think_first,
    thought_room,
)
from probes.retrieval_heads.needles import read_needle
from probes.retrieval_heads.plan import DetectionUnit
from probes.retrieval_heads.scores import (
    ContributionReader,
    CopyScores,
    answer_recall,
    answer_steps,
    contribution_scores,
    copy_scores,
    divide_by_scales,
    passes,
)
from probes.retrieval_heads.settings import Settings
from probes.retrieval_heads.stimuli import Sample, build_control, build_samples, build_surroundings
from probes.retrieval_heads.tables import LogitContribution

Frames = dict[str, pd.DataFrame]


def measure_detection(settings: Settings, model: LanguageModel, unit: DetectionUnit) -> Frames:
    """Returns the rows of a few needles: the samples of each, and a control without the needle, as long as the shortest sample."""
    samples, frame = [], None
    for needle_id, cells in unit.cells:
        needle = read_needle(settings.needles, needle_id)
        frame, haystack = build_surroundings(settings, model, needle, max(tokens for tokens, _ in cells))
        samples += build_samples(model.tokenizer, needle, haystack, frame, cells)
        shortest = min(tokens for tokens, _ in cells)
        samples.append(build_control(model.tokenizer, needle, haystack, frame, context_tokens=shortest))
    assert frame is not None
    return measure_samples(
        model,
        samples,
        max_new_tokens=settings.max_new_tokens,
        stop_ids=answer_stop_ids(model, frame),
        sharing=settings.sharing,
        contributions=settings.contributions,
    )


def measure_samples(
    model: LanguageModel,
    samples: Sequence[Sample],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int],
    sharing: bool,
    contributions: bool = True,
) -> Frames:
    """Returns the rows of `samples`, `sample_head_scores` and `logit_contribution` for samples of one or more needles.

    Every sample is scored, also one that was answered wrong; controls without needle have a row in `samples` only.
    `sharing=False` is the plain path; without `contributions` the third table is empty.
    """

    def finish(batch: AnsweredBatch) -> Frames:
        return _look(model, batch, contributions=contributions)

    def finish_plainly(sample: Sample) -> Frames:
        thoughts, asked = [Thought([], True)], sample
        if sample.frame.thinking is not None:
            rows = model.prefix(sample.ids[:-1], room=thought_room(sample.frame))
            thoughts, _ = think_first(model, rows, [sample], stop_ids)
            asked = after(sample, thoughts[0])
        answer = answer_plainly(model, asked.ids, max_new_tokens=max_new_tokens, stop_ids=stop_ids)
        rows = model.prefix(asked.ids[:-1], room=max_new_tokens)
        batch = AnsweredBatch([asked], rows, [answer.emitted], [len(sample.ids) - 1], thoughts)
        return _look(model, batch, (answer.attended[:, None], answer.logits[:, None]), contributions=contributions)

    if sharing:
        parts = answer_all(model, samples, max_new_tokens=max_new_tokens, stop_ids=stop_ids, finish=finish)
    else:
        parts = [finish_plainly(sample) for sample in samples]
    order = {sample.sample_id: place for place, sample in enumerate(samples)}
    tables = {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
    if not contributions:
        tables["logit_contribution"] = empty(LogitContribution)
    return {
        name: table.sort_values("sample_id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)
        for name, table in tables.items()
    }


def _look(
    model: LanguageModel, batch: AnsweredBatch, seen: tuple[Tensor, Tensor] | None = None, *, contributions: bool
) -> Frames:
    """One teacher-forced pass over a batch's answers; `seen` are attended positions from elsewhere (the plain path)."""
    queries, emitted = _queries(batch)
    read = [[sample.ids[-1], *written[:-1]] for sample, written in zip(batch.samples, batch.emitted, strict=True)]
    sums: dict[str, Tensor] = {}
    if contributions:
        reader = ContributionReader(LogitDirections(model), emitted, _needle_positions(batch))
        with model.record(queries, TopKeys(2), reader) as recording, reader.directions.watching_scales() as scales:
            model.extend(batch.rows, read, logits="none", phase="decode")
        sums = {"locos": recording["locos"], "direct": divide_by_scales(recording["direct"], scales)}
    else:
        with model.record(queries, TopKeys(2)) as recording:
            model.extend(batch.rows, read, logits="none", phase="decode")
    attended, logits = seen or (recording["top_position"], recording["top_logit"])
    frames = [
        _rows_of(
            model, batch, row, attended[:, row], logits[:, row], {name: part[:, row] for name, part in sums.items()}
        )
        for row in range(len(batch.samples))
    ]
    return {name: pd.concat([frame[name] for frame in frames], ignore_index=True) for name in frames[0]}


def _queries(batch: AnsweredBatch) -> tuple[Int[Tensor, "row query"], Int[Tensor, "row query"]]:
    """Positions of the queries that wrote each answer token (-1 past a row's end), and the tokens they wrote."""
    longest = max(len(written) for written in batch.emitted)
    queries = torch.full((len(batch.samples), longest), -1)
    emitted = torch.zeros((len(batch.samples), longest), dtype=torch.long)
    for row, (sample, written) in enumerate(zip(batch.samples, batch.emitted, strict=True)):
        queries[row, : len(written)] = len(sample.ids) - 1 + torch.arange(len(written))
        emitted[row, : len(written)] = torch.tensor(written)
    return queries, emitted


def _needle_positions(batch: AnsweredBatch) -> Int[Tensor, "row n"]:
    """Positions of each row's needle, -1 past its end and in controls."""
    spans = [torch.arange(sample.needle_start, sample.needle_end) for sample in batch.samples]
    return torch.nn.utils.rnn.pad_sequence(spans, batch_first=True, padding_value=-1)


def _rows_of(
    model: LanguageModel,
    batch: AnsweredBatch,
    row: int,
    attended: Int[Tensor, "layer head query two"],
    logits: Float[Tensor, "layer head query two"],
    sums: dict[str, Float[Tensor, "layer head query two"]],
) -> Frames:
    sample, written = batch.samples[row], batch.emitted[row]
    tokenizer: Any = model.tokenizer
    text = tokenizer.decode(written, skip_special_tokens=True).strip()
    recall = answer_recall(sample.needle.real_needle, text, sample.frame.recall_measure)
    names = {"sample_id": sample.sample_id, "needle_id": sample.needle.id}
    near_ties = 0
    frames: Frames = {"sample_head_scores": pd.DataFrame(), "logit_contribution": pd.DataFrame()}
    if sample.has_needle:
        steps = len(written)
        scores = copy_scores(
            attended[:, :, :steps],
            logits[:, :, :steps],
            torch.tensor([*sample.ids, *written]),
            torch.tensor(written),
            (sample.needle_start, sample.needle_end),
            (sample.gold_start, sample.gold_end),
        )
        near_ties = int(scores.near_ties.sum())
        frames["sample_head_scores"] = _score_rows(model, names, scores)
        if sums:
            beginnings = tokenizer.batch_decode([written[: step + 1] for step in range(steps)])
            chosen = answer_steps(written, list(sample.gold_ids), beginnings, sample.needle.real_needle)
            frames["logit_contribution"] = _contribution_rows(model, names, sample, steps, chosen, sums)
    if sample.frame.thinking is not None:
        frames["thoughts"] = thought_rows(model, sample, [("none", "", batch.thoughts[row])])
    return {"samples": _sample_row(batch, row, names, text, recall, near_ties), **frames}


def thought_rows(model: LanguageModel, sample: Sample, thoughts: Sequence[tuple[str, str, Thought]]) -> pd.DataFrame:
    """Returns the rows of `thoughts` for a sample: one for each (condition, changed heads, thought)."""
    return pd.DataFrame(
        [
            {
                "sample_id": sample.sample_id,
                "needle_id": sample.needle.id,
                "condition": condition,
                "heads": heads,
                "thinking_tokens": len(thought.token_ids),
                "closed": thought.closed,
                "thought_text": str(model.tokenizer.decode(thought.token_ids)),
            }
            for condition, heads, thought in thoughts
        ]
    )


def _sample_row(
    batch: AnsweredBatch, row: int, names: dict[str, str], text: str, recall: float, near_ties: int
) -> pd.DataFrame:
    sample = batch.samples[row]
    return pd.DataFrame(
        [
            {
                **names,
                "literal": sample.needle.literal,
                "has_needle": sample.has_needle,
                "context_tokens": sample.context_tokens,
                "depth_fraction": sample.depth_fraction,
                "reached_depth_fraction": sample.reached_depth_fraction,
                "prompt_format": sample.frame.prompt_format,
                "has_bos": sample.frame.has_bos,
                "prompt_token_ids": list(sample.ids),
                "needle_start": sample.needle_start,
                "needle_end": sample.needle_end,
                "gold_start": sample.gold_start,
                "gold_end": sample.gold_end,
                "answer_token_ids": list(batch.emitted[row]),
                "generated_text": text,
                "gold_text": sample.needle.real_needle,
                "recall": recall,
                "passed": passes(recall),
                "near_ties": near_ties,
                "tokens_read": batch.tokens_read[row],
            }
        ]
    )


def head_columns(model: LanguageModel) -> dict[str, np.ndarray]:
    """Returns the columns layer, head and kv_head of one row per head, in layer-major order; layers without heads have none."""
    geometry = model.geometry
    layer, head = (
        np.repeat(geometry.layers, geometry.n_heads),
        np.tile(np.arange(geometry.n_heads), len(geometry.layers)),
    )
    return {"layer": layer, "head": head, "kv_head": head // geometry.group_size}


def of_heads(model: LanguageModel, values: Shaped[Tensor, "layer head"]) -> np.ndarray:
    """Returns the values of the heads that `head_columns` names, in its order."""
    return values[list(model.geometry.layers)].flatten().numpy()


def _score_rows(model: LanguageModel, names: dict[str, str], scores: CopyScores) -> pd.DataFrame:
    columns = {name: of_heads(model, value) for name, value in scores._asdict().items()}
    return pd.DataFrame({**names, **head_columns(model), **columns})


def _contribution_rows(
    model: LanguageModel,
    names: dict[str, str],
    sample: Sample,
    steps: int,
    chosen: list[int],
    sums: dict[str, Float[Tensor, "layer head query two"]],
) -> pd.DataFrame:
    answer = torch.zeros(steps, dtype=torch.bool)
    answer[chosen] = True
    n_needle = sample.needle_end - sample.needle_start
    n_keys = len(sample.ids) + torch.arange(steps)
    parts = []
    for definition, part in sums.items():
        score = of_heads(model, contribution_scores(part[:, :, :steps], n_needle, n_keys, answer))
        parts.append(
            pd.DataFrame(
                {**names, **head_columns(model), "definition": definition, "score": score, "n_steps": len(chosen)}
            )
        )
    return pd.concat(parts, ignore_index=True)
