"""Which heads are changed, how and when: the top of every ranking, and random heads of the same layers as controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interp.models.edits import EditMode
from interp.models.head_sets import Head, layer_matched

AblationPhase = Literal["decode", "both"]


@dataclass(frozen=True)
class Condition:
    """One set of heads to change, and why these: the top k of a ranking, or a random draw matched to them."""

    condition: Literal["none", "top", "random"]
    ranking: str
    k: int
    mode: EditMode
    phase: AblationPhase
    draw: int
    heads: tuple[Head, ...]

    @property
    def edit(self) -> tuple[tuple[Head, ...], EditMode]:
        """What is changed; conditions with the same edit (and phase) need to be run only once."""
        return self.heads, self.mode


def plan_conditions(
    rankings: Mapping[str, Sequence[Head]],
    main: str,
    *,
    ks: Sequence[int],
    modes: Sequence[EditMode],
    phases: Sequence[AblationPhase],
    random_draws: int,
    other_k: int,
    n_heads: int,
    seed: int,
) -> list[Condition]:
    """Returns all conditions: no change; the main ranking's top k and random draws at every k, mode and phase; every other
    ranking's top `other_k` in the first mode and phase.

    `rankings` hold heads in falling order of their score.
    """
    conditions = [Condition("none", "none", 0, modes[0], phases[0], 0, ())]
    for mode in modes:
        for phase in phases:
            for k in sorted({k for k in ks if k > 0}):
                top = tuple(rankings[main][:k])
                conditions.append(Condition("top", main, k, mode, phase, 0, top))
                conditions += [
                    Condition("random", main, k, mode, phase, draw, layer_matched(top, n_heads, (seed, main, k, draw)))
                    for draw in range(random_draws)
                ]
    for name, heads in rankings.items():
        if name != main:
            conditions.append(Condition("top", name, other_k, modes[0], phases[0], 0, tuple(heads[:other_k])))
    return conditions
