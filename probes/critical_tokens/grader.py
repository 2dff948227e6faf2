"""A user's own grader: `--grader module:function`, called as function(problem, response) -> bool | None.

`problem` is the line of --task-file as a dict, `response` the text. True is right, False wrong, None: no answer could be read. It runs
in every process that measures, so it must give the same verdict each time. The module is looked for as `import` does, the
folder the command is run in included; the contents of its file are part of a run's name.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from interp.errors import ArgumentError, RunError
from interp.named import import_own

Grader = Callable[[Mapping[str, Any], str], "bool | None"]


def grader_file(name: str) -> Path:
    """Returns the file of a grader's module.

    Raises ArgumentError for a name that is not module:function, or a module that is not there.
    """
    module, colon, function = name.partition(":")
    if not colon or not function.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ArgumentError(f"--grader is written module:function, such as my_grader:grade, not {name}.")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ArgumentError(f"There is no module {module}: run the command in the folder of {module.split('.')[0]}.py.")
    return Path(spec.origin)


def load_grader(name: str) -> Grader:
    """Returns the function that a name stands for.

    Raises ArgumentError where the module cannot be imported or has no such function.
    """
    file = grader_file(name)
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(import_own(module), function, None)
    except ArgumentError:
        raise
    except Exception as error:  # it may raise anything
        raise ArgumentError(f"{file} cannot be imported ({type(error).__name__}: {error}): fix it.") from error
    if not callable(found):
        raise ArgumentError(f"{file} has no function {function}: name one that takes (problem, response).")
    grader: Any = found  # what it returns is looked at when it has graded
    return grader


def verdict(grader: Grader, name: str, problem: Mapping[str, Any], response: str) -> bool | None:
    """Returns a grader's verdict on a response.

    Raises RunError where it raises, or says something other than True, False or None.
    """
    try:
        told = grader(problem, response)
    except Exception as error:  # it may raise anything
        raise RunError(
            f"The grader {name} raised {type(error).__name__} ({error}) on the response {response[:80]!r}: return None where no "
            "answer can be read."
        ) from error
    if told is not None and not isinstance(told, bool):
        raise RunError(f"The grader {name} returned {told!r}: return True, False, or None where no answer can be read.")
    return told
