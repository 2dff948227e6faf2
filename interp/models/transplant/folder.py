"""A folder that is there whole or not at all: written beside its place, checked, and renamed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
from safetensors import SafetensorError

from interp.errors import ArgumentError, RunError


def check_place(out: Path) -> None:
    """Raises ArgumentError where a folder cannot be written: something is there, or what it would lie in is no folder."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise ArgumentError(f"{out} is there already: name a new folder with --out.")
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ArgumentError(f"Nothing can be written in {above}: name another place with --out.")


def write_folder(out: Path, write: Callable[[Path], None]) -> None:
    """Calls `write(temporary folder)` and renames the result to `out` once it is on disk. What killed writers left is removed.

    Raises RunError where the disk is full or the place cannot be written; nothing is left then.
    """
    out = out.absolute()
    aside = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{out.name}.*.partial"):
            if not psutil.pid_exists(int(left.name.split(".")[-2])) or left == aside:
                shutil.rmtree(left)
        aside.mkdir()
        write(aside)
        for path in aside.rglob("*"):
            if path.is_file():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        aside.rename(out)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise RunError(
            f"The model cannot be written to {out} ({reason}): name a place with room with --out."
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
