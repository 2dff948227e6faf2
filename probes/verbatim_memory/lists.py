"""Noun lists: the pools that nouns come from, first lists in all rotations, and second lists drawn from a seed. No model.

Armeni, Honey and Linzen 2022, section 3: base lists in all rotations, so that every noun stands at every position once, and
second lists that repeat, permute or replace the first. `permute_strict` is ours: a random permutation leaves 10 to 35 per
cent of the pairs of neighbours as they were, so a model that has learned pairs still profits from it.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from interp.errors import ArgumentError
from interp.words import is_word, normalised

if TYPE_CHECKING:
    import numpy as np

    from probes.verbatim_memory.settings import Settings

OWN_POOLS = {
    "arbitrary": Path(__file__).with_name("nouns_arbitrary.txt"),
    "coherent": Path(__file__).with_name("nouns_coherent.txt"),
}
NounList = tuple[str, ...]
Condition = Literal["repeat", "permute", "permute_strict", "novel"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)


@dataclass(frozen=True)
class Pool:
    """The source of base lists: groups of nouns of one category each, or one group of nouns without categories."""

    groups: tuple[NounList, ...]
    categorised: bool

    def base_lists(self, n_lists: int, n_nouns: int, seed: int) -> list[NounList]:
        """Returns n_lists lists of n_nouns different nouns, no noun in two lists, drawn from the seed.

        From categories each list is drawn from one of its own; else nouns are shuffled and dealt.
        Raises ArgumentError when the pool is too small.
        """
        import numpy as np  # here, because the command line's help reads this module and needs no numpy

        generator = np.random.default_rng([seed, 1])
        if not self.categorised:
            nouns = self.groups[0]
            self._check(len(nouns), n_lists * n_nouns, f"{n_lists} lists of {n_nouns}", "nouns")
            order = [nouns[index] for index in generator.permutation(len(nouns))]
            return [tuple(order[first : first + n_nouns]) for first in range(0, n_lists * n_nouns, n_nouns)]
        large = [group for group in self.groups if len(group) >= n_nouns]
        self._check(len(large), n_lists, f"{n_lists} lists of {n_nouns}", f"categories of at least {n_nouns} nouns")
        chosen = generator.permutation(len(large))[:n_lists]
        return [tuple(str(noun) for noun in generator.permutation(large[index])[:n_nouns]) for index in chosen]

    def _check(self, there: int, needed: int, wanted: str, what: str) -> None:
        if there < needed:
            raise ArgumentError(
                f"The pool has {there} {what} and {wanted} need {needed}: lower --n-base-lists or --list-lengths, or give "
                "--nouns a larger pool."
            )


def read_pool(path: Path) -> Pool:
    """Returns the pool in a text file: one noun per line, or "category: noun, noun, …"; lines that begin with # are notes.

    Nouns are letters with their marks, in any script; parts may be joined by hyphens, apostrophes or a blank. Their characters
    are composed (NFC), so that each is written in one way.
    Raises ArgumentError, with the line number, for an unreadable file, a line that is neither, or a noun that comes twice.
    """
    lines = [
        (number, line.strip())
        for number, line in enumerate(_read(path).splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not lines:
        raise ArgumentError(f"The pool {path} is empty: write one noun per line.")
    categorised = ":" in lines[0][1]
    groups: list[NounList] = []
    seen: dict[str, int] = {}
    for number, line in lines:
        if (":" in line) != categorised:
            raise ArgumentError(
                f'{path}, line {number}: some lines have a category ("category: noun, noun") and some not.'
            )
        written = line.split(":", 1)[-1].split(",") if categorised else [line]
        nouns = tuple(_noun(noun, f"{path}, line {number}") for noun in written)
        for noun in nouns:
            if noun in seen:
                raise ArgumentError(f"{path}, line {number}: {noun} is in line {seen[noun]} already.")
            seen[noun] = number
        groups.append(nouns)
    return (
        Pool(tuple(groups), True) if categorised else Pool((tuple(noun for group in groups for noun in group),), False)
    )


def _noun(written: str, where: str) -> str:
    """A noun as it is used everywhere: composed characters, single blanks."""
    noun = " ".join(normalised(written).split())
    if not is_word(noun):
        raise ArgumentError(f"{where}: {noun!r} is not a noun: letters, hyphens and apostrophes only.")
    return noun


def read_public_lists(path: Path) -> dict[int, list[NounList]]:
    """Returns the lists of a public stimulus file, {"n3": [[noun, …], …], "n10": …}, by list length.

    Nouns are read as those of a pool are.
    Raises ArgumentError when the file is not in that format, or a noun comes twice in a list.
    """
    try:
        content: Any = json.loads(_read(path), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{path} is not JSON ({error}).") from error
    wanted = f'{path}: a JSON object {{"n3": [[noun, noun, noun], …], …}} is needed'
    if not isinstance(content, dict) or not content:
        raise ArgumentError(f"{wanted}.")
    lists: dict[int, list[NounList]] = {}
    for key, rows in content.items():
        length = int(key[1:]) if re.fullmatch("n[0-9]{1,4}", key) else 0
        fits = isinstance(rows, list) and all(
            isinstance(row, list) and len(row) == length and all(isinstance(noun, str) and noun for noun in row)
            for row in rows
        )
        if not length or not rows or not fits or length in lists:
            raise ArgumentError(f'{wanted}, and "{key}" is not.')
        lists[length] = [_list(row, f'{path}, list {number} of "{key}"') for number, row in enumerate(rows, start=1)]
    if len({len(rows) for rows in lists.values()}) > 1:
        raise ArgumentError(f"{wanted} with as many lists of every length.")
    return lists


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; raises ValueError for a name that comes twice, of which JSON would keep the last."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"a name comes twice among {', '.join(name for name, _ in pairs)}")
    return dict(pairs)


def _list(row: list[str], where: str) -> NounList:
    nouns = tuple(_noun(noun, where) for noun in row)
    twice = [noun for place, noun in enumerate(nouns) if noun in nouns[:place]]
    if twice:
        raise ArgumentError(f"{where}: {twice[0]} is there twice: a list needs different nouns.")
    return nouns


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ArgumentError(f"The pool {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ArgumentError(f"The pool {path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from error


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
    """Returns the second list; it depends only on (seed, condition, the first list).

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


# ---------------------------------------------------------------------- as a run's settings have it


def first_lists(settings: "Settings", pool: str, length: int) -> list[FirstList]:
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


def base_lists(settings: "Settings", pool: str) -> list[tuple[str, ...]]:
    """Returns the base lists of a pool, as long as the longest list, or as the number of rotations."""
    return _pool(settings, pool).base_lists(
        settings.n_base_lists, max(*settings.list_lengths, settings.rotations), settings.seed
    )


def _pool(settings: "Settings", pool: str) -> Pool:
    return read_pool(settings.nouns or OWN_POOLS[pool])
