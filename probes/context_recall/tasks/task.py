"""What a task is: a generator, the sizes it is run at, and what to expect of a small model. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from interp.errors import ArgumentError, did_you_mean

if TYPE_CHECKING:
    from probes.context_recall.draft import Draft

Generator = Callable[..., None]
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A generator that writes into a draft, and its cells: the options it is called with, one after the other."""

    name: str
    write: Generator
    cells: tuple[Cell, ...]
    floor: bool = False
    """Whether a model of about a hundred million parameters is expected at chance."""
    causes: bool = True
    """Whether it is read again without heads and with attention cut."""
    share: float = 1.0
    """Its samples, as a share of those of other tasks: for tasks with long texts."""

    def sized(self, options: Cell) -> "Task":
        """Returns the task with these options as its only cell, or itself without any.

        Raises ArgumentError for an option that the generator does not take, or of another kind than its default.
        """
        parameters = dict(list(signature(self.write).parameters.items())[1:])
        known = list(parameters)
        for option in options:
            if option not in known:
                raise ArgumentError(
                    f"{self.name} has no option {option}.{did_you_mean(option, known)} It has {', '.join(known) or 'none'}."
                )
            _check_value(self.name, option, options[option], parameters[option].default)
        return replace(self, cells=(dict(options),)) if options else self

    def sample(self, draft: "Draft", cell: Cell) -> Any:
        """Returns one sample of a cell, checked."""
        from probes.context_recall.checks import check_sample

        self.write(draft, **cell)
        sample = draft.finished()
        check_sample(sample, self.name)
        return sample


def _check_value(name: str, option: str, value: Any, default: Any) -> None:
    """Raises ArgumentError for a value of another type than the default, and for a number below the smaller of it and 1."""
    if default is Parameter.empty:
        return
    if type(value) is not type(default) and not (type(value) is int and type(default) is float):
        raise ArgumentError(f"{name} takes {option} as {default!r} is written, not {value!r}: give {option}={default}.")
    if isinstance(value, int) and value < min(1, default):
        raise ArgumentError(f"{name} takes {option} from {min(1, default)} on, not {value}: give {option}={default}.")


def task(*cells: Cell, floor: bool = False, causes: bool = True, share: float = 1.0) -> Callable[[Generator], Task]:
    """Makes a task of a generator `write(draft, **cell)`."""

    def wrap(write: Generator) -> Task:
        return Task(write.__name__, write, cells or ({},), floor, causes, share)

    return wrap


def words_in(cell: Cell) -> str:
    """Returns a cell as tables have it: "pairs=8 gap=48"."""
    return " ".join(f"{name}={value}" for name, value in cell.items())
