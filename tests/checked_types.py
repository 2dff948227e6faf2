"""The types that the toolkit's functions announce, checked in the tests at every call: each argument, and what is returned.

jaxtyping's import hook decorates functions with `jaxtyping.jaxtyped`, which binds every call's arguments to their names and checks
them twice: more than half of the time of a tiny model. `checked` stands in its place and has beartype check the same once; the
lengths of axes are compared within a call by jaxtyping's own context, which only types that name axes need.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, config

ORIGINAL: Any = jaxtyping.jaxtyped
AXES = jaxtyping.jaxtyped("context")
"""While it is open, axes of one name have one length. Calls within calls have axes of their own."""
REFUSING: Any = beartype(conf=BeartypeConf(violation_type=TypeCheckError))


def install() -> None:
    """Has the toolkit's modules decorated as they are imported: to be called before the first of them is."""

    def jaxtyped(*args: Any, **options: Any) -> Any:
        return ORIGINAL(*args, **options) if args else checked  # the hook writes jaxtyped(typechecker=…)

    jaxtyping.install_import_hook(["interp", "probes", "figures"], "beartype.beartype")
    jaxtyping.jaxtyped = jaxtyped


def checked(thing: Any) -> Any:
    """Returns a function that checks its types and does what it did; a dataclass that checks what its fields are given."""
    if inspect.isclass(thing):
        if dataclasses.is_dataclass(thing) and "__init__" in vars(thing):
            thing.__init__ = _checked(thing.__init__)  # type: ignore[method-assign]
        return thing
    return _checked(thing)


def _checked(function: Any) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function):  # runs later, within the axes of whoever takes its first value
        return ORIGINAL(function, typechecker=beartype)
    types = {name: _resolved(kind, function.__globals__) for name, kind in function.__annotations__.items()}
    strict = REFUSING(_with_types(function, types))
    names_axes = any(_names_axes(kind) for kind in types.values())

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if config.jaxtyping_disable:
            return function(*args, **options)
        if not names_axes:
            return strict(*args, **options)
        with AXES:
            return strict(*args, **options)

    return call


def _with_types(function: FunctionType, types: dict[str, Any]) -> FunctionType:
    """The same function with other annotations."""
    twin = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__, twin.__annotations__ = function.__kwdefaults__, types
    twin.__module__, twin.__qualname__ = function.__module__, function.__qualname__
    return twin


def _resolved(kind: Any, names: dict[str, Any]) -> Any:
    """An annotation without quotes; Any where it names what is imported for type checkers alone."""
    holder = FunctionType((lambda: None).__code__, names)
    holder.__annotations__ = {"kind": kind}
    try:
        return get_type_hints(holder, include_extras=True)["kind"]
    except NameError:
        return Any


def _names_axes(kind: Any) -> bool:
    return any(inspect.isclass(part) and issubclass(part, AbstractArray) for part in _parts(kind))


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    for part in kind if isinstance(kind, list) else get_args(kind):
        yield from _parts(part)
