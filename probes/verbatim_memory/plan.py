"""What a verbatim-memory run measures: cells of list length, context and intervening text, and the trials in each. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from interp.errors import ArgumentError
from interp.experiments.experiment import WorkUnit
from interp.heads.kinds import GIVEN
from interp.models.identity import HeadGeometry, ModelFacts
from probes.verbatim_memory.lists import (
    OWN_POOLS,
    FirstList,
    Pool,
    group_rotations,
    read_pool,
    read_public_lists,
    rotate,
)
from probes.verbatim_memory.settings import RUN_SETS, Settings

if TYPE_CHECKING:
    from interp.tables import Tables
    from probes.verbatim_memory.heads import Mask

BASE_LISTS_PER_UNIT = 8
"""Base lists read together: enough rows for one batch, few enough to lose when a run is killed."""

MASK_KS = (2, 5, 10, 20)
MASK_SHARE = 0.2
"""The default numbers of silent heads stop at this share of a model's heads."""

Between = tuple[str, int]
"""A context and how many paragraphs of it stand between the lists."""

FLOAT32 = "float32"
"""The variant that reads some trials again in full precision, beside a model in half precision."""


@dataclass(frozen=True)
class ListUnit(WorkUnit):
    """Some base lists of one pool and length, in all rotations, with every text between and every second list."""

    variant: str
    pool: str
    list_length: int
    base_lists: tuple[int, ...]
    betweens: tuple[Between, ...]
    revision: str | None = None
    """The checkpoint to read with, where it is not the model's own."""
    exact: bool = False
    """Whether some nouns get the exact probability too, after the first text between."""


@dataclass(frozen=True)
class LooksUnit(WorkUnit):
    """Where heads look when some of the longest lists are repeated."""

    base_lists: tuple[int, ...]


@dataclass(frozen=True)
class MaskUnit(WorkUnit):
    """Some of the longest lists, each read under every mask."""

    base_lists: tuple[int, ...]
    masks: "tuple[Mask, ...]"


def plan_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of the model itself, of its nulls and checkpoints (shortest text between only), and of masks.

    Masks are planned once it is known where heads look.
    """
    units: list[WorkUnit] = []
    lengths = sorted(
        settings.list_lengths, reverse=True
    )  # the longest texts first: what does not fit is refused at once
    for pool in settings.pools:
        for length in lengths:
            betweens = _betweens(settings, length == lengths[0])
            of_model = _list_units(settings, f"{pool}-n{length}", "none", pool, length, betweens)
            units += [replace(unit, exact=length == lengths[0]) for unit in of_model]
    if facts.identity.dtype != FLOAT32:
        units += _main_units(settings, FLOAT32, lengths[-1:])[:1]
    for null in settings.nulls:
        units += _main_units(settings, null, lengths)
    for revision in settings.revisions:
        units += _main_units(settings, f"revision {revision}", lengths, revision)
    if settings.head_sets and facts.geometry is not None:
        units += _mask_units(settings, facts, measured)
    return units


def _main_units(
    settings: Settings, variant: str, lengths: Sequence[int], revision: str | None = None
) -> list[ListUnit]:
    """The first pool after the shortest intact text."""
    main = (("intact", settings.intervening[0]),)
    name = "".join(letter if letter.isalnum() else "-" for letter in variant.lower())
    return [
        unit
        for length in lengths
        for unit in _list_units(settings, f"{name}-n{length}", variant, settings.pools[0], length, main, revision)
    ]


def _list_units(
    settings: Settings,
    name: str,
    variant: str,
    pool: str,
    length: int,
    betweens: tuple[Between, ...],
    revision: str | None = None,
) -> list[ListUnit]:
    return [
        ListUnit(f"{name}-{hand[0]:02d}", variant, pool, length, hand, betweens, revision)
        for hand in hands_of(settings.n_base_lists)
    ]


def _mask_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> list[WorkUnit]:
    from interp.heads.given import heads_of, sizes_for
    from probes.verbatim_memory.heads import plan_masks, ranked_by_look, ranked_by_run

    hands = hands_of(settings.n_base_lists)
    units: list[WorkUnit] = [LooksUnit(f"looks-{hand[0]:02d}", hand) for hand in hands]
    attention = measured["list_attention"]
    if attention["base_list"].nunique() < settings.n_base_lists:
        return units
    given = settings.given(facts)
    from_run = ranked_by_run(settings.heads_from) if settings.heads_from and given is None else {}
    rankings = {
        name: from_run[name] if name in RUN_SETS else ranked_by_look(attention, name)
        for name in settings.head_sets
        if name != GIVEN
    }
    assert facts.geometry is not None
    ks = settings.mask_k or default_mask_ks(facts.geometry)
    masked = partial(plan_masks, draws=settings.mask_draws, n_heads=facts.geometry.n_heads, seed=settings.seed)
    masks = masked(rankings, ks=ks)
    if given is not None:
        masks += masked({GIVEN: heads_of(given)}, ks=sizes_for(given, ks))[1:]  # no mask is there already
    return units + [MaskUnit(f"masks-{hand[0]:02d}", hand, tuple(masks)) for hand in hands]


def default_mask_ks(geometry: HeadGeometry) -> tuple[int, ...]:
    """Returns how many heads to silence in a model of that size."""
    most = MASK_SHARE * geometry.n_heads_in_all
    return tuple(k for k in MASK_KS if k <= most) or (1,)


def _betweens(settings: Settings, longest: bool) -> tuple[Between, ...]:
    """Every length of list has the shortest text between; the longest lists have all texts and contexts."""
    found: list[Between] = [("intact", settings.intervening[0])]
    if longest:
        found += [("intact", length) for length in settings.intervening[1:]]
        middle = settings.intervening[-1]
        found += [
            (context, 0 if context == "short" else middle) for context in settings.contexts if context != "intact"
        ]
    return tuple(dict.fromkeys(found))


def hands_of(n_base_lists: int) -> list[tuple[int, ...]]:
    """Returns the base lists that are read together, unit by unit."""
    bases = range(n_base_lists)
    return [tuple(bases[first : first + BASE_LISTS_PER_UNIT]) for first in range(0, n_base_lists, BASE_LISTS_PER_UNIT)]


def first_lists(settings: Settings, pool: str, length: int) -> list[FirstList]:
    """Returns all first lists of one pool and length.

    Raises ArgumentError when the pool is too small, or a public file has no lists of that length.
    """
    if settings.nouns is not None and settings.nouns.suffix == ".json":
        lists = read_public_lists(settings.nouns)
        if length not in lists:
            known = " ".join(map(str, sorted(lists)))
            raise ArgumentError(f"{settings.nouns} has no lists of {length} nouns: use --list-lengths {known}.")
        firsts = group_rotations(lists[length], lists[max(lists)])
        n_there = 1 + max(first.base_list for first in firsts)
        if n_there < settings.n_base_lists:
            raise ArgumentError(f"{settings.nouns} has {n_there} base lists: use --n-base-lists {n_there}.")
        return [
            first for first in firsts if first.base_list < settings.n_base_lists and first.rotation < settings.rotations
        ]
    return rotate(base_lists(settings, pool), length, settings.rotations)


def base_lists(settings: Settings, pool: str) -> list[tuple[str, ...]]:
    """Returns the base lists of a pool, as long as the longest list, or as the number of rotations."""
    return _pool(settings, pool).base_lists(
        settings.n_base_lists, max(*settings.list_lengths, settings.rotations), settings.seed
    )


def _pool(settings: Settings, pool: str) -> Pool:
    return read_pool(settings.nouns or OWN_POOLS[pool])
