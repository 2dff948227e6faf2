"""First lists and second lists: pure combinatorics, drawn from a seed.

Armeni, Honey and Linzen 2022, section 3: base lists in all rotations, so that every noun stands at every position once, and
second lists that repeat, permute or replace the first. `permute_strict` is ours: a random permutation leaves 10 to 35 per
cent of the pairs of neighbours as they were, so a model that has learned pairs still profits from it.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from interp.errors import ArgumentError
from probes.verbatim_memory.pools import NounList

if TYPE_CHECKING:
    import numpy as np

Condition = Literal["repeat", "permute", "permute_strict", "novel"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)


@dataclass(frozen=True)
class FirstList:
    """A list in one rotation. Trials of one base list share their nouns, so statistics resample base lists."""

    base_list: int
    rotation: int
    nouns: NounList

    @property
    def id(self) -> str:
        """Name of the trial within its length."""
        return f"{self.base_list:02d}-{self.rotation}"


def rotate(base_lists: Sequence[NounList], length: int, n_rotations: int) -> list[FirstList]:
    """Returns the first `length` nouns of every base list in its first n_rotations rotations, base list by base list.

    Raises ArgumentError when a base list is shorter than that.
    """
    shortest = min(len(nouns) for nouns in base_lists)
    if shortest < max(length, n_rotations):
        raise ArgumentError(
            f"Base lists of {shortest} nouns have no {n_rotations} rotations of {length}: lower --rotations."
        )
    return [
        FirstList(index, rotation, (nouns[rotation:] + nouns[:rotation])[:length])
        for index, nouns in enumerate(base_lists)
        for rotation in range(n_rotations)
    ]


def group_rotations(rows: Sequence[NounList], longest: Sequence[NounList]) -> list[FirstList]:
    """Returns given lists with the base list each is a rotation of: rows whose longest version has the same nouns."""
    bases: dict[frozenset[str], list[int]] = {}
    firsts = []
    for row, (nouns, whole) in enumerate(zip(rows, longest, strict=True)):
        members = bases.setdefault(frozenset(whole), [])
        members.append(row)
        firsts.append(FirstList(list(bases).index(frozenset(whole)), len(members) - 1, nouns))
    return firsts


def second_list(condition: Condition, first: FirstList, others: Sequence[FirstList], seed: int) -> NounList:
    """Returns the list that comes second; drawn from (seed, condition, the first list) alone.

    `novel` is the first list of another trial (from `others`, all of one length) that shares no noun with this one.
    Raises ArgumentError when there is none, or when no permutation keeps all pairs of neighbours apart.
    """
    if condition == "repeat":
        return first.nouns
    generator = _generator(seed, condition, first)
    if condition == "novel":
        foreign = [other.nouns for other in others if not set(other.nouns) & set(first.nouns)]
        if not foreign:
            raise ArgumentError("No two base lists are without common nouns: novel lists need at least two.")
        return foreign[int(generator.integers(len(foreign)))]
    for _ in range(10_000):
        drawn = tuple(first.nouns[index] for index in generator.permutation(len(first.nouns)))
        if drawn != first.nouns and (condition == "permute" or not surviving_pairs(first.nouns, drawn)):
            return drawn
    raise ArgumentError(
        f"A list of {len(first.nouns)} nouns has no permutation for {condition}: use lists of at least three."
    )


def surviving_pairs(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns how many pairs of neighbours of the first list are neighbours, in the same order, in the second."""
    pairs = set(itertools.pairwise(first))
    return sum(pair in pairs for pair in itertools.pairwise(second))


def _generator(seed: int, condition: str, first: FirstList) -> "np.random.Generator":
    import numpy as np  # here, because the command line's help reads this module and needs no numpy

    text = f"{seed} {condition} {' '.join(first.nouns)}"
    return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
