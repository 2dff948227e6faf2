"""Policies by name: the toolkit's, installed ones, and a user's own as module:Class. Imports no torch until one is built."""

import dataclasses
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from interp.errors import ArgumentError, did_you_mean
from interp.experiments.bounds import types_of
from interp.named import load_named, options_in

if TYPE_CHECKING:
    from interp.retention.policies.base import Policy

GROUP = "interp.policies"
"""The group of entry points under which a package offers policies."""
_HOME = "interp.retention.policies"

HeadClass = Literal["", "retrieval", "razor"]


@dataclass(frozen=True)
class Entry:
    """Where a policy is, what it is told beside its own defaults, and which heads it must be told."""

    place: str
    options: tuple[tuple[str, Any], ...] = ()
    heads: HeadClass = ""
    rotary: bool = False
    """Whether it needs a rotary embedding."""


OWN: dict[str, Entry] = {
    "full": Entry("baselines:Full"),
    "random": Entry("baselines:Random"),
    "streaming": Entry("baselines:Streaming"),
    "knorm": Entry("baselines:KNorm"),
    "keydiff": Entry("baselines:KeyDiff"),
    "tova": Entry("evict:Tova"),
    "last_query": Entry("evict:LastQuery"),
    "h2o_sum": Entry("evict:H2OSum"),
    "h2o_mean": Entry("evict:H2OMean"),
    "a2sf": Entry("evict:A2SF"),
    "snapkv": Entry("evict:SnapKV"),
    "pyramidkv": Entry("evict:PyramidKV"),
    "adakv": Entry("evict:AdaKV"),
    "expected": Entry("expected:Expected", rotary=True),
    "quest": Entry("per_query:Quest"),
    "tokenselect": Entry("per_query:TokenSelect"),
    "tokenselect_modulo": Entry("per_query:TokenSelect", (("modulo", True),)),
    "tokenselect_free": Entry("per_query:TokenSelectFree", rotary=True),
    "actqkv": Entry("per_query:ActQKV", rotary=True),
    "landmark": Entry("per_query:Landmark"),
    "recycled": Entry("per_query:Recycled"),
    "keyformer": Entry("evict:Keyformer"),
    "lazy_code": Entry("evict:Lazy"),
    "lazy_notes": Entry("evict:Lazy", (("form", "notes"),)),
    "strided": Entry("baselines:Strided"),
    "cca": Entry("pool:Core"),
    "duo": Entry("baselines:HeadSplit", heads="retrieval"),
    "razor": Entry("pool:Razor", heads="razor"),
    "razor_plain": Entry("pool:Razor", (("compensate", False),), heads="razor"),
    "oracle": Entry("baselines:Oracle"),
    "oracle_heads": Entry("baselines:OracleHeads"),
}
"""The toolkit's policies, in the order of tables."""


def entry_of(text: str) -> Entry:
    """Returns what is known of a policy without building it: "name", "name(option=value)" or "module:Class".

    Raises ArgumentError, with the nearest name, for one that is unknown.
    """
    name = text.partition("(")[0].strip()
    if ":" in name:
        return Entry(name)
    if name in OWN:
        return OWN[name]
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    if name in installed:
        return Entry(installed[name])
    raise ArgumentError(
        f"There is no policy called {name}.{did_you_mean(name, [*OWN, *installed])} Policies are {', '.join([*OWN, *installed])}, and "
        "your own as module:Class."
    )


def options_of(text: str) -> dict[str, Any]:
    """Returns the options in "name(option=value, …)": numbers, texts, True and False.

    Raises ArgumentError for what is none of these.
    """
    return options_in(text, "policy", "h2o_sum or a2sf(alpha=0.5)")


def build(text: str, heads: tuple[tuple[int, int], ...] = ()) -> "Policy":
    """Returns a policy by its name and options; `heads` for one that is told which heads to spare.

    Raises ArgumentError for an unknown name or option, and for a class that is no policy.
    """
    from interp.retention.policies.base import Policy

    entry, options = entry_of(text), options_of(text)
    module, _, name = entry.place.partition(":")
    kind = load_named(module if ":" in text or "." in module else f"{_HOME}.{module}", name)
    if not isinstance(kind, type) or not issubclass(kind, Policy) or not dataclasses.is_dataclass(kind):
        raise ArgumentError(
            f"{entry.place} is no policy: make it a frozen dataclass that subclasses Evict, Select or Pool (docs/adding_a_policy.md)."
        )
    known = [field.name for field in dataclasses.fields(kind)]
    for option in options:
        if option not in known:
            raise ArgumentError(
                f"{text.partition('(')[0]} has no option {option}.{did_you_mean(option, known)} It has {', '.join(known) or 'none'}."
            )
        _check_type(kind, option, options[option])
    told = {"heads": heads} if entry.heads else {}
    return kind(**{**dict(entry.options), **options, **told})


def _check_type(kind: type, option: str, value: Any) -> None:
    """Raises ArgumentError for a value of another type than the option's: numbers, words, True and False."""
    wanted = types_of(kind)[option]
    wanted = get_args(wanted)[0] if get_origin(wanted) is Annotated else wanted
    wanted = str if get_origin(wanted) is Literal else wanted
    words = {int: "a whole number", float: "a number", str: "a word", bool: "True or False"}
    fits = isinstance(value, int | float if wanted is float else wanted) if wanted in words else True
    if not fits or (isinstance(value, bool) and wanted in (int, float)):
        raise ArgumentError(f"The option {option} of {kind.__name__} must be {words[wanted]}, not {value!r}.")
