"""Conditions of the ablation: no masking, the top k of a ranking masked, and matched random draws masked.

Imports no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from interp.errors import ArgumentError
from interp.heads.kinds import GIVEN
from interp.models.identity import HeadGeometry
from probes.retrieval_heads.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from interp.heads.sets import Head
    from interp.models.language.edits import EditMode

K_GRID = (2, 5, 10, 20, 50)
K_SHARE = 0.2
"""The default grid of k stops at this share of a model's heads."""
AblationPhase = Literal["decode", "both"]
CALIBRATION_TOKENS = 512
"""Tokens of prose over which mean head outputs are taken."""
ROWS_AT_ONCE = 64
"""Conditions that are read side by side."""


@dataclass(frozen=True)
class Condition:
    """One set of heads to mask, and its origin: the top k of a ranking, or a random draw matched to it."""

    condition: Literal["none", "top", "random"]
    ranking: str
    k: int
    mode: "EditMode"
    phase: AblationPhase
    draw: int
    heads: "tuple[Head, ...]"

    @property
    def edit(self) -> "tuple[tuple[Head, ...], EditMode]":
        """The edit of the condition; conditions with the same edit (and phase) need to be run only once."""
        return self.heads, self.mode


def default_ks(geometry: HeadGeometry) -> tuple[int, ...]:
    """Returns the numbers of heads to mask in a model of that size."""
    n_heads = geometry.n_heads_in_all
    return tuple(k for k in K_GRID if k <= K_SHARE * n_heads) or (1,)


def conditions_of(
    settings: Settings,
    geometry: HeadGeometry,
    rankings: "Mapping[str, Sequence[Head]]",
    given: "pd.DataFrame | None",
) -> tuple[Condition, ...]:
    """Returns the conditions in the settings, for those rankings and the heads of --heads-from.

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
