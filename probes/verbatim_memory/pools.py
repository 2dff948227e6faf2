"""Pools of nouns that lists are made of: the toolkit's own, or a user's file, the public stimulus files included."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import ArgumentError
from interp.words import is_word, normalised

OWN_POOLS = {
    "arbitrary": Path(__file__).with_name("nouns_arbitrary.txt"),
    "coherent": Path(__file__).with_name("nouns_coherent.txt"),
}

NounList = tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """Where base lists come from: groups of nouns of one category each, or one group of nouns without categories."""

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
        content: Any = json.loads(_read(path))
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
        if not length or not rows or not fits:
            raise ArgumentError(f'{wanted}, and "{key}" is not.')
        lists[length] = [_list(row, f'{path}, list {number} of "{key}"') for number, row in enumerate(rows, start=1)]
    if len({len(rows) for rows in lists.values()}) > 1:
        raise ArgumentError(f"{wanted} with as many lists of every length.")
    return lists


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
