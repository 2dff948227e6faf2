"""What a retrieval-head run measures: which needles find heads and which test them, in which cells, under which conditions.

Pure functions of the settings and of what has been measured; imports no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Literal

from interp.errors import ArgumentError
from interp.experiments.experiment import WorkUnit
from interp.heads.kinds import GIVEN
from interp.models.identity import HeadGeometry
from probes.retrieval_heads.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from interp.heads.sets import Head
    from interp.models.language.edits import EditMode
    from interp.tables import Tables
    from probes.retrieval_heads.needles import Needle

K_GRID = (2, 5, 10, 20, 50)
K_SHARE = 0.2
"""The default grid of k stops at this share of a model's heads."""
NEEDLES_PER_UNIT = 4
"""Needles measured together: enough rows to write answers in one batch, few enough to lose when a run is killed."""

Cell = tuple[int, float]
"""A prompt length in tokens and a depth fraction."""
AblationPhase = Literal["decode", "both"]


@dataclass(frozen=True)
class DetectionUnit(WorkUnit):
    """The samples of a few needles, each in its haystack, with a control without needle for each."""

    cells: tuple[tuple[str, tuple[Cell, ...]], ...]
    """By needle id, the cell of every sample."""


@dataclass(frozen=True)
class EchoUnit(WorkUnit):
    """One sequence of repeated random tokens."""

    draw: int


@dataclass(frozen=True)
class Condition:
    """One set of heads to change, and why these: the top k of a ranking, or a random draw matched to them."""

    condition: Literal["none", "top", "random"]
    ranking: str
    k: int
    mode: "EditMode"
    phase: AblationPhase
    draw: int
    heads: "tuple[Head, ...]"

    @property
    def edit(self) -> "tuple[tuple[Head, ...], EditMode]":
        """What is changed; conditions with the same edit (and phase) need to be run only once."""
        return self.heads, self.mode


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


def default_ks(geometry: HeadGeometry) -> tuple[int, ...]:
    """Returns the numbers of heads to mask in a model of that size."""
    n_heads = geometry.n_heads_in_all
    return tuple(k for k in K_GRID if k <= K_SHARE * n_heads) or (1,)


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


def deal_cells(settings: Settings, n_needles: int) -> list[tuple[Cell, ...]]:
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


def conditions_of(
    settings: Settings,
    geometry: HeadGeometry,
    rankings: "Mapping[str, Sequence[Head]]",
    given: "pd.DataFrame | None",
) -> tuple[Condition, ...]:
    """Returns the conditions that the settings ask for, of those rankings and of the heads of --heads-from.

    Raises ArgumentError where a k leaves too few other heads for a random control.
    """
    from interp.heads.given import heads_of, sizes_for

    ks = settings.k or default_ks(geometry)
    try:
        conditions = plan_conditions(
            rankings,
            settings.definition,
            ks=ks,
            modes=settings.ablation_modes,
            phases=settings.ablation_phases,
            random_draws=settings.random_draws,
            other_k=min(settings.other_k, max(ks)),
            n_heads=geometry.n_heads,
            seed=settings.seed,
            given=None if given is None else (heads_of(given), sizes_for(given, ks)),
        )
    except ValueError as error:
        raise ArgumentError(f"{error}: use smaller values of --k.") from error
    return tuple(conditions)


def plan_conditions(
    rankings: "Mapping[str, Sequence[Head]]",
    main: str,
    *,
    ks: Sequence[int],
    modes: "Sequence[EditMode]",
    phases: Sequence[AblationPhase],
    random_draws: int,
    other_k: int,
    n_heads: int,
    seed: int,
    given: "tuple[Sequence[Head], Sequence[int]] | None" = None,
) -> list[Condition]:
    """Returns all conditions: no change; the main ranking's top k and random draws at every k, mode and phase; every other
    ranking's top `other_k` in the first mode and phase; the given ranking like the main one, at the k that come with it.

    `rankings` hold heads in falling order of their score.
    """
    from interp.heads.sets import matched_draws

    def against_random(name: str, heads: "Sequence[Head]", ks: Sequence[int]) -> Iterator[Condition]:
        for mode in modes:
            for phase in phases:
                for k in sorted({k for k in ks if k > 0}):
                    top = tuple(heads[:k])
                    yield Condition("top", name, k, mode, phase, 0, top)
                    for draw, random in enumerate(matched_draws(top, n_heads, (seed, name, k), random_draws)):
                        yield Condition("random", name, k, mode, phase, draw, random)

    conditions = [Condition("none", "none", 0, modes[0], phases[0], 0, ())]
    conditions += against_random(main, rankings[main], ks)
    for name, heads in rankings.items():
        if name != main:
            conditions.append(Condition("top", name, other_k, modes[0], phases[0], 0, tuple(heads[:other_k])))
    if given is not None:
        conditions += against_random(GIVEN, *given)
    return conditions
