"""Tasks by name: the toolkit's, and a user's own as module:name. Imports no torch."""

from typing import Any

from interp.errors import ArgumentError, did_you_mean
from interp.named import load_named, options_in
from probes.context_recall.tasks.task import Task

_HOME = "probes.context_recall.tasks"
OWN = {
    "mqar": "pairs", "forgetting": "pairs", "compositional": "pairs", "kv_single": "dictionaries", "kv_multiple": "dictionaries",
    "kv_conditional": "dictionaries", "thread": "chains", "variables": "chains", "passkey": "prose", "list_recall": "lists",
    "inverse_permutation": "lists", "order": "prose",
}  # fmt: skip
"""The toolkit's tasks, in the order of tables, and the files they are in."""
NATURAL = "natural"
"""The slice of natural text that repeats a bigram: no generator, but prose (probes/context_recall/natural.py)."""


EXAMPLE = "mqar or mqar(pairs=32)"


def check_name(text: str) -> None:
    """Raises ArgumentError, with the nearest name, for a task that is not there, without loading it."""
    name = text.partition("(")[0].strip()
    options_in(text, "task", EXAMPLE)
    if ":" not in name and name not in (*OWN, NATURAL):
        raise ArgumentError(
            f"There is no task called {name}.{did_you_mean(name, [*OWN, NATURAL])} Tasks are {', '.join([*OWN, NATURAL])}, and your own as "
            "module:name."
        )


def task_of(text: str) -> Task:
    """Returns a task by its name, with options in brackets as its only cell: "mqar", "mqar(pairs=32)", "module:name".

    Raises ArgumentError, with the nearest name, for one that is unknown, and for an object that is no task.
    """
    check_name(text)
    name = text.partition("(")[0].strip()
    module, _, attribute = name.partition(":") if ":" in name else (f"{_HOME}.{OWN[name]}", "", name)
    found: Any = load_named(module, attribute, "name")
    if not isinstance(found, Task):
        raise ArgumentError(f"{name} is no task: decorate its generator with @task(…) (docs/adding_a_task.md).")
    return found.sized(options_in(text, "task", EXAMPLE))
