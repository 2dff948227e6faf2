"""What the units of a retrieval-head run read and write, counted with the model's tokenizer before anything is measured."""

from collections.abc import Sequence
from dataclasses import replace

from interp.experiments.experiment import WorkUnit
from interp.experiments.work import Work
from interp.heads.sets import Head
from interp.models.identity import HeadGeometry
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning
from interp.tables import Tables
from probes.retrieval_heads.ablation import CALIBRATION_TOKENS, ROWS_AT_ONCE
from probes.retrieval_heads.answers import batches, reading_order
from probes.retrieval_heads.needles import read_needle
from probes.retrieval_heads.plan import (
    AblationUnit,
    DetectionUnit,
    EchoUnit,
    conditions_of,
    plan_units,
    split_needles,
)
from probes.retrieval_heads.rankings import CONTRIBUTION_DEFINITIONS, COPY_DEFINITIONS
from probes.retrieval_heads.settings import Settings
from probes.retrieval_heads.stimuli import Sample, build_control, build_samples, build_surroundings

RANKINGS = (*COPY_DEFINITIONS, *CONTRIBUTION_DEFINITIONS, "echo", "induction")
"""Every ranking that a run makes."""


def expected_units(settings: Settings, model: LanguageModel, measured: Tables) -> Sequence[WorkUnit]:
    """Returns the units of the plan; as long as no heads are found, the ablation is that of stand-ins."""
    given = settings.given(model.facts)
    units = list(plan_units(settings, model.geometry, measured, given))
    if any(isinstance(unit, AblationUnit) for unit in units):
        return units
    names = [name for name in RANKINGS if settings.contributions or name not in CONTRIBUTION_DEFINITIONS]
    rankings = {name: stand_in_ranking(model.geometry, place) for place, name in enumerate(names)}
    conditions = conditions_of(settings, model.geometry, rankings, given)
    _, held_out = split_needles(settings)
    return [*units, *(AblationUnit(f"held-out-{needle.id}", needle.id, conditions) for needle in held_out)]


def stand_in_ranking(geometry: HeadGeometry, number: int) -> list[Head]:
    """Returns all heads in an order that spreads the first over the layers, another one for each number."""
    heads = [(layer, head) for head in range(geometry.n_heads) for layer in geometry.layers]
    first = number * max(1, len(heads) // (len(RANKINGS) + 1))
    return [*heads[first:], *heads[:first]]


def work_of(settings: Settings, model: LanguageModel, unit: WorkUnit) -> Work | None:
    """Returns what a unit reads, writes and holds."""
    if isinstance(unit, DetectionUnit):
        return _detection(settings, model, unit)
    if isinstance(unit, EchoUnit):
        n_tokens = len(beginning(model.tokenizer, settings.bos)) + settings.echo_block_tokens * settings.echo_repeats
        return Work(tokens_read=n_tokens, tokens_held=n_tokens)
    return _ablation(settings, model, unit) if isinstance(unit, AblationUnit) else None


def _detection(settings: Settings, model: LanguageModel, unit: DetectionUnit) -> Work:
    """Every prompt but what it shares with the one before it, the answers, and these once more to look at them."""
    samples: list[Sample] = []
    for needle_id, cells in unit.cells:
        needle = read_needle(settings.needles, needle_id)
        lengths = [tokens for tokens, _ in cells]
        frame, haystack = build_surroundings(settings, model, needle, max(lengths))
        samples += build_samples(model.tokenizer, needle, haystack, frame, cells)
        samples.append(build_control(model.tokenizer, needle, haystack, frame, context_tokens=min(lengths)))
    longest = settings.max_new_tokens
    answers = Work(tokens_read=longest * len(samples), tokens_written=longest * len(samples))
    if not settings.sharing:
        twice = 2 * sum(len(sample.ids) for sample in samples)
        return answers + Work(tokens_read=twice, tokens_held=max(len(sample.ids) for sample in samples) + longest)
    order = reading_order(samples)
    rows = [[len(sample.ids) + longest for sample in batch] for batch in batches(order, model.batch_tokens)]
    trunk = max(len(sample.ids) for sample in samples)
    held = trunk + max(len(batch) * max(batch) if len(batch) > 1 else 0 for batch in rows)
    return answers + Work(tokens_read=read_in_turn([sample.ids[:-1] for sample in order]), tokens_held=held)


def read_in_turn(texts: Sequence[Sequence[int]]) -> int:
    """Returns the tokens that are read when each text begins where it parts from the one before."""
    read, before = 0, texts[0][:0]
    for text in texts:
        shared = next(
            (place for place, (a, b) in enumerate(zip(before, text, strict=False)) if a != b),
            min(len(before), len(text)),
        )
        read, before = read + len(text) - shared, text
    return read


def _ablation(settings: Settings, model: LanguageModel, unit: AblationUnit) -> Work:
    """A prompt once for all edits of the answer alone and once for each of the others, answers and prose under every edit."""
    shared = {one.edit for one in unit.conditions if one.phase == "decode" or not one.heads}
    alone = {one.edit for one in unit.conditions if one.phase == "both" and one.heads}
    needle = read_needle(settings.needles, unit.needle_id)
    frame, haystack = build_surroundings(settings, model, needle, max(settings.ablation_context_tokens))
    cells = [(tokens, depth) for tokens in settings.ablation_context_tokens for depth in settings.ablation_depths]
    order = reading_order(build_samples(model.tokenizer, needle, haystack, frame, cells))
    prompts = [len(sample.ids) - 1 for sample in order]
    prose = settings.prose_tokens + len(beginning(model.tokenizer, settings.bos))
    edits = {one.edit for one in unit.conditions}
    calibration = min(CALIBRATION_TOKENS, model.context_window or CALIBRATION_TOKENS)
    work = Work(
        tokens_read=read_in_turn([sample.ids[:-1] for sample in order])
        + len(alone) * sum(prompts)
        + len(edits) * prose * len(order)
        + (calibration if "mean" in settings.ablation_modes else 0),
        tokens_written=settings.max_new_tokens * (len(shared) + len(alone)) * len(order),
    )
    whole_prompts = min(len(alone), max(1, model.batch_tokens // max(prompts))) * max(prompts)
    rows = min(ROWS_AT_ONCE, max(len(shared), len(alone)))
    return replace(work, tokens_held=max(prompts) + whole_prompts + rows * settings.max_new_tokens)
