"""Which heads are changed, how and when: the top of every ranking, and random heads of the same layers as controls."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interp.heads.kinds import GIVEN
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
    given: tuple[Sequence[Head], Sequence[int]] | None = None,
) -> list[Condition]:
    """Returns all conditions: no change; the main ranking's top k and random draws at every k, mode and phase; every other
    ranking's top `other_k` in the first mode and phase; the given ranking like the main one, at the k that come with it.

    `rankings` hold heads in falling order of their score.
    """

    def against_random(name: str, heads: Sequence[Head], ks: Sequence[int]) -> Iterator[Condition]:
        for mode in modes:
            for phase in phases:
                for k in sorted({k for k in ks if k > 0}):
                    top = tuple(heads[:k])
                    yield Condition("top", name, k, mode, phase, 0, top)
                    for draw in range(random_draws):
                        random = layer_matched(top, n_heads, (seed, name, k, draw))
                        yield Condition("random", name, k, mode, phase, draw, random)

    conditions = [Condition("none", "none", 0, modes[0], phases[0], 0, ())]
    conditions += against_random(main, rankings[main], ks)
    for name, heads in rankings.items():
        if name != main:
            conditions.append(Condition("top", name, other_k, modes[0], phases[0], 0, tuple(heads[:other_k])))
    if given is not None:
        conditions += against_random(GIVEN, *given)
    return conditions
