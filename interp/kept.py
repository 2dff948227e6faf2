"""What is made of the user's files and kept in the process: for as long as the files stay as they are.

A run is named by the contents of its files. In a notebook a file may be edited between two runs, and the second must not be made
of what the first one read.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Args = ParamSpec("Args")
Made = TypeVar("Made")
Stamp = tuple[str, int, int, int, int]


def kept_while_unchanged(
    files: Callable[..., Iterable[Path | None]], maxsize: int = 2
) -> Callable[[Callable[Args, Made]], Callable[Args, Made]]:
    """Returns a decorator of functions of hashable arguments that keeps the last `maxsize` results.

    `files` gets the arguments and gives the files and folders that a result is made of; when one of them changes it is made
    anew. None stands for no file. `cache_clear` of the decorated function forgets all.
    """

    def decorate(make: Callable[Args, Made]) -> Callable[Args, Made]:
        @lru_cache(maxsize)
        def kept(_stamps: tuple[Stamp, ...], *args: Any, **options: Any) -> Made:
            return make(*args, **options)

        @wraps(make)
        def call(*args: Args.args, **options: Args.kwargs) -> Made:
            return kept(stamps_of(files(*args, **options)), *args, **options)

        call.cache_clear = kept.cache_clear  # type: ignore[attr-defined]
        return call

    return decorate


def stamps_of(paths: Iterable[Path | None]) -> tuple[Stamp, ...]:
    """Returns what changes when one of these files, or a file in one of these folders, is written, replaced, added or removed."""
    files = [
        file for path in paths if path is not None for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
    ]
    return tuple(_stamp(file) for file in files if file.is_file())


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return str(file.resolve()), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
