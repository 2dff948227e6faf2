"""The installed experiments and joins, found by entry point, so that a wing plugs in without being named here."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from interp.errors import ArgumentError, did_you_mean
from interp.experiments.experiment import Experiment
from interp.models.loading.names import ModelKind

EXPERIMENTS, JOINS = "interp.experiments", "interp.joins"
"""Groups of entry points."""


@cache
def experiments() -> dict[str, type[Experiment]]:
    """Returns the installed experiments by name."""
    return _installed(EXPERIMENTS)


@cache
def joins() -> dict[str, type[Experiment]]:
    """Returns the installed joins by name: questions across finished runs of several experiments."""
    return _installed(JOINS)


def _installed(group: str) -> dict[str, type[Experiment]]:
    return {name: point.load() for name, point in sorted(_points(group).items())}


def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def find_experiment(name: str) -> type[Experiment]:
    """Returns the experiment or join of that name ("retrieval-heads" and "retrieval_heads" are the same).

    Raises ArgumentError, with the nearest name, when there is none.
    """
    wanted = name.replace("-", "_")
    for group in (EXPERIMENTS, JOINS):
        point = _points(group).get(wanted)
        if point is not None:
            return point.load()  # this one alone: the help of an experiment waits for no other
    raise ArgumentError(
        f"There is no experiment called {name}.{did_you_mean(name, experiment_names())} "
        "`python -m interp.experiments list` lists them."
    )


def experiment_names() -> list[str]:
    """Returns the names of the installed experiments and joins, without importing them."""
    return sorted(name for group in (EXPERIMENTS, JOINS) for name in _points(group))


def usable_without_attention() -> list[str]:
    """Returns the names of the experiments on language models that need no attention heads."""
    return [name for name in usable_on("language") if not experiments()[name].needs_attention]


def usable_on(kind: ModelKind) -> list[str]:
    """Returns the names of the experiments on models of that kind."""
    return [name for name, experiment in experiments().items() if experiment.model_kind == kind]
