"""What a verbatim-memory run measures: cells of list length, context and intervening text, and the trials in each. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.errors import ArgumentError
from interp.experiments.experiment import WorkUnit
from probes.verbatim_memory.lists import FirstList, group_rotations, rotate
from probes.verbatim_memory.pools import OWN_POOLS, Pool, read_pool, read_public_lists

if TYPE_CHECKING:
    from probes.verbatim_memory.experiment import VerbatimMemory

BASE_LISTS_PER_UNIT = 8
"""Base lists read together: enough rows for one batch, few enough to lose when a run is killed."""

Between = tuple[str, int]
"""A context and how many paragraphs of it stand between the lists."""


@dataclass(frozen=True)
class ListUnit(WorkUnit):
    """Some base lists of one pool and length, in all rotations, with every text between and every second list."""

    variant: str
    pool: str
    list_length: int
    base_lists: tuple[int, ...]
    betweens: tuple[Between, ...]


def plan_units(settings: "VerbatimMemory") -> Sequence[WorkUnit]:
    """Returns the units of the model itself, and of its nulls (shortest text between only)."""
    units: list[WorkUnit] = []
    longest = max(settings.list_lengths)
    for pool in settings.pools:
        for length in sorted(settings.list_lengths):
            betweens = _betweens(settings, length == longest)
            units += [
                ListUnit(f"{pool}-n{length}-{hand[0]:02d}", "none", pool, length, hand, betweens)
                for hand in _hands(settings.n_base_lists)
            ]
    main = (("intact", settings.intervening[0]),)
    for null in settings.nulls:
        units += [
            ListUnit(f"{null}-n{length}-{hand[0]:02d}".replace("_", "-"), null, settings.pools[0], length, hand, main)
            for length in sorted(settings.list_lengths)
            for hand in _hands(settings.n_base_lists)
        ]
    return units


def _betweens(settings: "VerbatimMemory", longest: bool) -> tuple[Between, ...]:
    """Every length of list has the shortest text between; the longest lists have all texts and contexts."""
    found: list[Between] = [("intact", settings.intervening[0])]
    if longest:
        found += [("intact", length) for length in settings.intervening[1:]]
        middle = settings.intervening[-1]
        found += [
            (context, 0 if context == "short" else middle) for context in settings.contexts if context != "intact"
        ]
    return tuple(dict.fromkeys(found))


def _hands(n_base_lists: int) -> list[tuple[int, ...]]:
    bases = range(n_base_lists)
    return [tuple(bases[first : first + BASE_LISTS_PER_UNIT]) for first in range(0, n_base_lists, BASE_LISTS_PER_UNIT)]


def first_lists(settings: "VerbatimMemory", pool: str, length: int) -> list[FirstList]:
    """Returns all first lists of one pool and length.

    Raises ArgumentError when the pool is too small, or a public file has no lists of that length.
    """
    if settings.nouns is not None and settings.nouns.suffix == ".json":
        lists = read_public_lists(settings.nouns)
        if length not in lists:
            known = " ".join(map(str, sorted(lists)))
            raise ArgumentError(f"{settings.nouns} has no lists of {length} nouns: use --list-lengths {known}.")
        firsts = group_rotations(lists[length], lists[max(lists)])
        return [
            first for first in firsts if first.base_list < settings.n_base_lists and first.rotation < settings.rotations
        ]
    return rotate(base_lists(settings, pool), length, settings.rotations)


def base_lists(settings: "VerbatimMemory", pool: str) -> list[tuple[str, ...]]:
    """Returns the base lists of a pool, as long as the longest list, or as the number of rotations."""
    return _pool(settings, pool).base_lists(
        settings.n_base_lists, max(*settings.list_lengths, settings.rotations), settings.seed
    )


def _pool(settings: "VerbatimMemory", pool: str) -> Pool:
    return read_pool(settings.nouns or OWN_POOLS[pool])
