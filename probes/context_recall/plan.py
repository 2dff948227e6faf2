"""What a context_recall run measures: heads first, then every task at every size, prose, and contexts of growing length. No torch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from interp.errors import ArgumentError
from interp.experiments.experiment import WorkUnit
from interp.models.identity import ModelFacts
from probes.context_recall.settings import Settings
from probes.context_recall.tasks.catalogue import NATURAL, task_of
from probes.context_recall.tasks.task import words_in

if TYPE_CHECKING:
    from interp.tables import Tables

Head = tuple[int, int]
ROLES = ("retrieval", "induction")
LENGTH_TASK = "passkey"
"""The task that the curve of recall against length is made of."""
CUTS = ("pair", "others", "sink", "elsewhere")
"""What the answer's attention is cut to: the right pair, the other pairs, the first token, as many other tokens as the pair has."""
WHOLE = "whole"
MOVED_BY = "moved by "
"""What the name of a condition begins with whose question stands further away."""
KEPT_BY = "kept by "
"""What the name of a condition begins with whose question reads what a retention policy keeps of the context."""
RANDOM = "random"
AT_RANDOM = f"{KEPT_BY}{RANDOM}"
FIRST_KEPT = 1
"""First tokens of a context that every policy keeps: without them, what is lost is where heads rest."""


@dataclass(frozen=True)
class HeadSet:
    """Heads whose output is set to zero while a question is read: the best of a role, or random ones of the same layers."""

    role: str
    control: str
    """top or random."""
    draw: int
    heads: tuple[Head, ...]

    @property
    def condition(self) -> str:
        """Its name in the column `condition`."""
        return f"without {self.role}" if self.control == "top" else f"without random {self.role}"


@dataclass(frozen=True)
class KeptBy:
    """A retention policy that decides which of the context's keys a question may read."""

    policy: str
    """As --policies names it."""
    draw: int = 0

    @property
    def condition(self) -> str:
        """Its name in the column `condition`: all draws of random keys have one."""
        return f"{KEPT_BY}{self.policy.partition('(')[0] if self.policy.startswith(f'{RANDOM}(') else self.policy}"


@dataclass(frozen=True)
class HeadsUnit(WorkUnit):
    """Contexts on which heads are found."""


@dataclass(frozen=True)
class CellUnit(WorkUnit):
    """All samples of one task at one size."""

    task: str
    cell: tuple[tuple[str, Any], ...]
    samples: int
    sets: tuple[HeadSet, ...]
    cuts: tuple[str, ...]
    moves: tuple[int, ...] = ()
    """Positions by which the question is moved away, each a condition."""
    kept: tuple[KeptBy, ...] = ()
    kept_samples: int = 0
    """The first samples, on which policies act."""
    is_length: bool = False


@dataclass(frozen=True)
class NaturalUnit(WorkUnit):
    """One text of prose."""

    number: int
    sets: tuple[HeadSet, ...]


def plan_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the unit that finds heads, and once it is measured (at once, in models without heads) all others."""
    if facts.geometry is None:
        return list(_all_cells(settings, facts, ()))
    heads = HeadsUnit("heads")
    if not len(measured["head_scores"]):
        return [heads]
    sets = tuple(head_sets(settings, facts, rankings(settings, facts, measured)))
    return [heads, *_all_cells(settings, facts, sets)]


def expected_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the plan, with as many empty sets of heads as there will be where heads are not known yet."""
    if facts.geometry is None or len(measured["head_scores"]):
        return plan_units(settings, facts, measured)
    sets = tuple(HeadSet(role, "", draw, ()) for role in ROLES for draw in range(1 + settings.random_draws))
    return [HeadsUnit("heads"), *_all_cells(settings, facts, sets)]


def cells_of(settings: Settings, facts: ModelFacts) -> Sequence[CellUnit]:
    """Returns the tasks at every size, before heads are known."""
    return [unit for unit in _all_cells(settings, facts, ()) if isinstance(unit, CellUnit)]


def rankings(settings: Settings, facts: ModelFacts, measured: "Tables") -> Mapping[str, Sequence[Head]]:
    """Returns all heads by role, best first."""
    from interp.heads.finding import ranked_by_role

    return ranked_by_role(measured["head_scores"], ROLES, settings.given(facts))


def n_in_role(settings: Settings, facts: ModelFacts) -> int:
    """Returns how many heads a role has."""
    assert facts.geometry is not None
    return max(1, round(facts.geometry.n_heads_in_all * settings.role_share))


def head_sets(settings: Settings, facts: ModelFacts, ranking: Mapping[str, Sequence[Head]]) -> Iterator[HeadSet]:
    """Yields the best heads of each role, each followed by random heads of the same layers.

    Raises ArgumentError when these layers have too few other heads.
    """
    from interp.heads.sets import matched_draws

    assert facts.geometry is not None
    for role in ROLES:
        top = tuple(ranking[role][: n_in_role(settings, facts)])
        yield HeadSet(role, "top", 0, top)
        try:
            drawn = matched_draws(top, facts.geometry.n_heads, (settings.seed, role), settings.random_draws)
        except ValueError as error:
            raise ArgumentError(f"{error}: lower --role-share.") from error
        for draw, heads in enumerate(drawn):
            yield HeadSet(role, "random", draw, heads)


def kept_conditions(settings: Settings) -> tuple[KeptBy, ...]:
    """Returns the policies that questions are answered under, and draws of random keys as their control; none without policies."""
    if not settings.policies:
        return ()
    chosen = [KeptBy(text) for text in dict.fromkeys(settings.policies) if text != RANDOM]
    return (*chosen, *(KeptBy(f"{RANDOM}(draw={draw})", draw) for draw in range(settings.random_draws)))


def _all_cells(settings: Settings, facts: ModelFacts, sets: tuple[HeadSet, ...]) -> Iterator[WorkUnit]:
    cuts = CUTS if facts.geometry else ()
    moves = tuple(dict.fromkeys(settings.moved_tokens))
    kept = kept_conditions(settings) if facts.geometry else ()
    seen: set[str] = set()
    for text in settings.tasks:
        if text.partition("(")[0] == NATURAL:
            yield from (
                NaturalUnit(f"{NATURAL}-{number:03d}", number, sets) for number in range(settings.natural_texts)
            )
            continue
        task = task_of(text)
        own = (sets, cuts, moves, kept) if task.causes else ((), (), (), ())
        under_policies = max(2, -(-settings.kept_contexts // len(task.cells)))
        for cell in task.cells:
            name = _slug(f"{text.partition('(')[0]}-{words_in(cell)}")
            samples = max(2, round(settings.samples * task.share))
            if name not in seen:
                yield CellUnit(name, text, tuple(cell.items()), samples, *own, min(samples, under_policies))
            seen.add(name)
    for length in settings.fitting_lengths(facts):
        cell = (("tokens", length),)
        yield CellUnit(f"length-{length}", LENGTH_TASK, cell, settings.length_samples, (), (), is_length=True)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
