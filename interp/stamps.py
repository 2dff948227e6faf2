"""What is read from files once and kept, until they change: a notebook may write them anew between two calls in one process."""

from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


def stamp(path: Path) -> tuple[Any, ...]:
    """Returns the place of a file, or of all files in a folder, with what changes when one is written anew; () where none is."""
    try:
        files = [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]
        return tuple(_written(file) for file in files)
    except OSError:
        return ()


def _written(path: Path) -> tuple[Any, ...]:
    status = path.stat()
    return str(path.resolve()), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_once(kept: int) -> Callable[[Callable[Given, Found]], Callable[Given, Found]]:
    """Keeps the last results of a function by its arguments and the stamps of the files that they name.

    Files are named by paths, by texts that are one, and by settings with `input_files`.
    """

    def keeping(read: Callable[Given, Found]) -> Callable[Given, Found]:
        @lru_cache(maxsize=kept)
        def reading(_stamps: tuple[Any, ...], args: tuple[Any, ...], options: tuple[tuple[str, Any], ...]) -> Found:
            return read(*args, **dict(options))  # type: ignore[call-arg]

        @wraps(read)
        def reader(*args: Given.args, **options: Given.kwargs) -> Found:
            return reading(tuple(map(_stamp_of, (*args, *options.values()))), args, tuple(sorted(options.items())))

        reader.cache_clear = reading.cache_clear  # type: ignore[attr-defined]
        return reader

    return keeping


def _stamp_of(argument: Any) -> tuple[Any, ...]:
    if isinstance(argument, str | Path):
        return stamp(Path(argument))
    if hasattr(argument, "input_files"):
        return tuple(stamp(path) for path in argument.input_files())
    return ()
