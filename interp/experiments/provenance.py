"""Where a run came from: versions, commit, and the command that repeats it."""

import dataclasses
import platform
import shlex
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import interp
from interp.experiments.atlas_settings import Atlas
from interp.experiments.experiment import Experiment
from interp.experiments.options import RunOptions

_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "pyarrow", "plotly")


def versions() -> dict[str, str | None]:
    """Returns the versions of the toolkit, Python and the packages that can affect numbers."""
    found: dict[str, str | None] = {
        "interp": interp.__version__,
        "git_commit": git_commit(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_commit() -> str | None:
    """Returns the commit of this package's checkout, with "-dirty" if there are uncommitted changes; None outside a checkout."""
    root = Path(interp.__file__).parent.parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() or None


def command_line(experiment: Experiment, options: RunOptions) -> str:
    """Returns the shell command that repeats a run: every setting that differs from its default."""
    return _command(experiment.name, experiment, options)


def atlas_command(atlas: Atlas, options: RunOptions) -> str:
    """Returns the shell command that repeats an atlas."""
    return _command("atlas", atlas, options)


def _command(name: str, *parts: Any) -> str:
    words = ["python", "-m", "interp.experiments", name]
    for settings in parts:
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            if value != _default(field) and field.name not in ("fresh", "debug"):
                words += _as_words(field.name.replace("_", "-"), value)
    return shlex.join(words)


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _as_words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, str) and value.startswith("-"):
        return [f"--{name}={value}"]  # or it would be read as an option
    return [f"--{name}", *(str(item) for item in (value if isinstance(value, tuple) else [value]))]
