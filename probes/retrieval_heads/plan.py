"""What a retrieval-head run measures: which needles find heads and which test them, in which cells, under which conditions.

And what each unit reads and writes, counted with the model's tokenizer. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING

from interp.experiments.experiment import Work, WorkUnit
from interp.models.identity import HeadGeometry
from probes.retrieval_heads.conditions import CALIBRATION_TOKENS, ROWS_AT_ONCE, Condition, conditions_of
from probes.retrieval_heads.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from interp.heads.sets import Head
    from interp.models.language.model import LanguageModel
    from interp.tables import Tables
    from probes.retrieval_heads.needles import Needle
    from probes.retrieval_heads.stimuli import Cell, Sample

NEEDLES_PER_UNIT = 4
"""Needles measured together: enough rows to write answers in one batch, few enough to lose when a run is killed."""


@dataclass(frozen=True)
class DetectionUnit(WorkUnit):
    """The samples of a few needles, each in its haystack, with a control without needle for each."""

    cells: "tuple[tuple[str, tuple[Cell, ...]], ...]"
    """By needle id, the cell of every sample."""


@dataclass(frozen=True)
class EchoUnit(WorkUnit):
    """One sequence of repeated random tokens."""

    draw: int


@dataclass(frozen=True)
class AblationUnit(WorkUnit):
    """One held-out needle under every condition."""

    needle_id: str
    conditions: tuple[Condition, ...]


def plan_units(
    settings: Settings, geometry: HeadGeometry, measured: "Tables", given: "pd.DataFrame | None" = None
) -> Sequence[WorkUnit]:
    """Returns the units to find heads, and once these are measured the units that test them, and the given heads beside them."""
    finding, held_out = split_needles(settings)
    detection = _detection_units(settings, finding, measured)
    units: list[WorkUnit] = [*detection, *(EchoUnit(f"echo-{draw}", draw) for draw in range(settings.echo_draws))]
    found = set(measured["samples"]["needle_id"])
    wanted = {needle_id for unit in detection for needle_id, _ in unit.cells}
    if wanted <= found and measured["echo_induction"]["draw"].nunique() == settings.echo_draws:
        conditions = _conditions(settings, geometry, measured, given)
        if conditions:
            units += [AblationUnit(f"held-out-{needle.id}", needle.id, conditions) for needle in held_out]
    return units


def split_needles(settings: Settings) -> "tuple[list[Needle], list[Needle]]":
    """Returns the needles that find heads, at most `finding_needles` of them, and those held out.

    Of the held-out share half are literal and half not, as far as there are enough, for the causal test to tell both.
    """
    import numpy as np

    from probes.retrieval_heads.needles import read_needles

    needles = read_needles(settings.needles)
    shuffled = [needles[index] for index in np.random.default_rng([settings.seed, 0]).permutation(len(needles))]
    n_held_out = min(max(1, round(settings.held_out_share * len(needles))), len(needles) - 1)
    other = [needle for needle in shuffled if not needle.literal][: n_held_out // 2]
    literal = [needle for needle in shuffled if needle.literal][: n_held_out - len(other)]
    held_out = literal + other
    held_out += [needle for needle in shuffled if needle not in held_out][: n_held_out - len(held_out)]
    finding = [needle for needle in shuffled if needle not in held_out]
    return finding[: settings.finding_needles], held_out


def deal_cells(settings: Settings, n_needles: int) -> "list[tuple[Cell, ...]]":
    """Returns the cells of each needle: the whole grid, or samples_per_needle of them dealt out in turn."""
    import numpy as np

    grid = [
        (tokens, depth) for tokens in sorted(set(settings.context_tokens)) for depth in sorted(set(settings.depths))
    ]
    if settings.samples_per_needle is None or settings.samples_per_needle >= len(grid):
        return [tuple(grid)] * n_needles
    order = np.random.default_rng([settings.seed, 3]).permutation(len(grid))
    dealt = cycle(grid[index] for index in order)
    return [tuple(sorted(islice(dealt, settings.samples_per_needle))) for _ in range(n_needles)]


def _detection_units(settings: Settings, needles: "list[Needle]", measured: "Tables") -> list[DetectionUnit]:
    cells = list(zip((needle.id for needle in needles), deal_cells(settings, len(needles)), strict=True))
    size = NEEDLES_PER_UNIT if settings.samples_per_needle else 1  # a needle in the whole grid is a batch by itself
    hands = [tuple(cells[first : first + size]) for first in range(0, len(cells), size)]
    units = [DetectionUnit(f"needles-{index:03d}-{hand[0][0]}", hand) for index, hand in enumerate(hands)]
    if settings.until_stable is None:
        return units
    from probes.retrieval_heads.rankings import needles_until_stable

    enough = needles_until_stable(
        measured,
        [needle.id for needle in needles],
        settings.definition,
        settings.until_stable,
        settings.stability,
        settings.success_filter,
        settings.seed,
    )
    return units[: -(-enough // size)]


def _conditions(
    settings: Settings, geometry: HeadGeometry, measured: "Tables", given: "pd.DataFrame | None"
) -> tuple[Condition, ...]:
    from probes.retrieval_heads.rankings import rankings_of

    rankings = rankings_of(measured, only_passed=settings.success_filter)
    return conditions_of(settings, geometry, rankings, given) if settings.definition in rankings else ()


# ---------------------------------------------------------------------- what units read and write


def expected_units(settings: Settings, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of the plan; until heads are found, the ablation uses placeholder heads."""
    from probes.retrieval_heads.rankings import CONTRIBUTION_DEFINITIONS, RANKINGS

    given = settings.given(model.facts)
    units = list(plan_units(settings, model.geometry, measured, given))
    if any(isinstance(unit, AblationUnit) for unit in units):
        return units
    names = [name for name in RANKINGS if settings.contributions or name not in CONTRIBUTION_DEFINITIONS]
    rankings = {name: stand_in_ranking(model.geometry, place) for place, name in enumerate(names)}
    conditions = conditions_of(settings, model.geometry, rankings, given)
    _, held_out = split_needles(settings)
    return [*units, *(AblationUnit(f"held-out-{needle.id}", needle.id, conditions) for needle in held_out)]


def stand_in_ranking(geometry: HeadGeometry, number: int) -> "list[Head]":
    """Returns all heads in a placeholder order that spreads the first ones over the layers, a different order for each number."""
    from probes.retrieval_heads.rankings import RANKINGS

    heads = [(layer, head) for head in range(geometry.n_heads) for layer in geometry.layers]
    first = number * max(1, len(heads) // (len(RANKINGS) + 1))
    return [*heads[first:], *heads[:first]]


def work_of(settings: Settings, model: "LanguageModel", unit: WorkUnit) -> Work | None:
    """Returns what a unit reads, writes and holds."""
    from interp.models.tokens.encoding import beginning

    if isinstance(unit, DetectionUnit):
        return _detection(settings, model, unit)
    if isinstance(unit, EchoUnit):
        n_tokens = len(beginning(model.tokenizer, settings.bos)) + settings.echo_block_tokens * settings.echo_repeats
        return Work(tokens_read=n_tokens, tokens_held=n_tokens)
    return _ablation(settings, model, unit) if isinstance(unit, AblationUnit) else None


def _detection(settings: Settings, model: "LanguageModel", unit: DetectionUnit) -> Work:
    """Every prompt but what it shares with the one before it, the answers, and these once more to look at them."""
    from probes.retrieval_heads.answers import batches, reading_order
    from probes.retrieval_heads.needles import read_needle
    from probes.retrieval_heads.stimuli import build_control, build_samples, build_surroundings

    samples: "list[Sample]" = []
    for needle_id, cells in unit.cells:
        needle = read_needle(settings.needles, needle_id)
        lengths = [tokens for tokens, _ in cells]
        frame, haystack = build_surroundings(settings, model, needle, max(lengths))
        samples += build_samples(model.tokenizer, needle, haystack, frame, cells)
        samples.append(build_control(model.tokenizer, needle, haystack, frame, context_tokens=min(lengths)))
    longest = settings.max_new_tokens + settings.thinking_tokens
    answers = Work(tokens_read=settings.max_new_tokens * len(samples), tokens_written=longest * len(samples))
    if not settings.sharing:
        times = 3 if settings.thinking_tokens else 2  # to think, to answer, to look
        read = times * sum(len(sample.ids) for sample in samples)
        return answers + Work(tokens_read=read, tokens_held=max(len(sample.ids) for sample in samples) + longest)
    order = reading_order(samples)
    rows = [[len(sample.ids) + longest for sample in batch] for batch in batches(order, model.batch_tokens)]
    trunk = max(len(sample.ids) for sample in samples)
    held = trunk + max(len(batch) * max(batch) if len(batch) > 1 else 0 for batch in rows)
    return answers + Work(tokens_read=read_in_turn([sample.ids[:-1] for sample in order]), tokens_held=held)


def read_in_turn(texts: Sequence[Sequence[int]]) -> int:
    """Returns the number of tokens read when each text is read only from where it differs from the one before."""
    read, before = 0, texts[0][:0]
    for text in texts:
        shared = next(
            (place for place, (a, b) in enumerate(zip(before, text, strict=False)) if a != b),
            min(len(before), len(text)),
        )
        read, before = read + len(text) - shared, text
    return read


def _ablation(settings: Settings, model: "LanguageModel", unit: AblationUnit) -> Work:
    """A prompt once for all edits of the answer alone and once for each of the others, answers and prose under every edit."""
    from interp.models.tokens.encoding import beginning
    from probes.retrieval_heads.answers import reading_order
    from probes.retrieval_heads.needles import read_needle
    from probes.retrieval_heads.stimuli import build_samples, build_surroundings

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
        tokens_written=(settings.max_new_tokens + settings.thinking_tokens) * (len(shared) + len(alone)) * len(order),
    )
    whole_prompts = min(len(alone), max(1, model.batch_tokens // max(prompts))) * max(prompts)
    rows = min(ROWS_AT_ONCE, max(len(shared), len(alone)))
    return replace(
        work, tokens_held=max(prompts) + whole_prompts + rows * (settings.max_new_tokens + settings.thinking_tokens)
    )
