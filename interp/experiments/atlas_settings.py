"""The settings of an atlas: shared settings, a preset, and a file with a table per experiment. Imports nothing heavy."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from interp.errors import ArgumentError, did_you_mean
from interp.experiments.catalogue import experiments, joins
from interp.experiments.experiment import Dtype, Experiment
from interp.experiments.run import configured


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """Settings that all experiments of an atlas share, and where the settings of each experiment come from."""

    name: ClassVar[str] = "atlas"

    model: str = "smollm2-135m"
    """Name of the model, a Hugging Face id, or a folder."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Dtype | None = None
    """Precision of the weights in every experiment; by default each experiment's own."""
    seed: int = 0
    """Seed of every experiment."""
    preset: str | None = None
    """Preset to use, such as quick; experiments without a preset of that name keep their defaults."""
    config: Path | None = None
    """TOML file with a table of settings per experiment, such as [retrieval_heads]; takes precedence over the preset. Shared
    settings may come before the tables."""

    def __post_init__(self) -> None:
        """Refuses a preset that no experiment has."""
        known = sorted({preset for kind in kinds().values() for preset in kind.presets})
        if self.preset is not None and self.preset not in known:
            raise ArgumentError(
                f"No experiment has a preset {self.preset}.{did_you_mean(str(self.preset), known)} There are: {', '.join(known)}."
            )


SHARED = ("model", "revision", "dtype", "seed", "preset")
"""Settings that may stand above the tables of a configuration file."""


def kinds() -> dict[str, type[Experiment]]:
    """Returns the classes that an atlas can run, by name: experiments, then joins."""
    return {**experiments(), **joins()}


def read_configuration(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Returns the shared settings of a configuration file, and the settings of each experiment that has a table in it.

    Raises ArgumentError, with the nearest name, for a name that is neither.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read as TOML ({error}).") from error
    shared: dict[str, Any] = {}
    tables: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name in SHARED and not isinstance(value, dict):
            shared[name] = value
        elif name in kinds() and isinstance(value, dict):
            tables[name] = value
        else:
            raise ArgumentError(_unknown(path, name, value))
    return shared, tables


def _unknown(path: Path, name: str, value: Any) -> str:
    if name in kinds():
        return f"{path}: {name} is an experiment: write its settings under [{name}]."
    if isinstance(value, dict):
        return f"{path}: there is no experiment called {name}.{did_you_mean(name, list(kinds()))}"
    known = [*SHARED, *kinds()]
    return (
        f"{path}: {name} is no setting that all experiments share.{did_you_mean(name, known)} Those of one experiment stand under "
        "its name, such as [retrieval_heads]."
    )


def configured_experiments(atlas: Atlas, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Experiment]:
    """Returns every experiment and join with its settings: its preset, the shared ones, then those of its own table.

    One that an atlas does not run unasked is left out where it has no table.

    Raises ArgumentError for a setting that an experiment does not have or cannot take.
    """
    shared = {
        name: value for name in ("model", "revision", "dtype", "seed") if (value := getattr(atlas, name)) is not None
    }
    return {
        name: configured(
            kind, {**kind.presets.get(atlas.preset or "", {}), **shared, **_own(name, tables.get(name, {}))}
        )
        for name, kind in kinds().items()
        if kind.in_atlas or name in tables
    }


def _own(name: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    for field in ("model", "revision"):
        if field in settings:
            raise ArgumentError(
                f"[{name}] {field}: all experiments of an atlas share the {field}, so name it above the tables."
            )
    return settings
