"""A dictionary of codes (Needle Threading): one key asked for, several, or all that a condition holds for."""

from interp.errors import ArgumentError
from probes.context_recall.draft import Draft
from probes.context_recall.tasks.task import task


def write_dictionary(draft: Draft, keys: list[str], values: list[str]) -> None:
    """Writes keys and values as JSON."""
    draft.put(draft.frames["dictionary"].format())
    for key, value in zip(keys, values, strict=True):
        draft.pair(draft.frames["entry"], key, value)
    draft.put(draft.frames["dictionary_end"].format())


@task({"pairs": 8})
def kv_single(draft: Draft, pairs: int = 8, asked: int = 2) -> None:
    """The value of one key. Codes are drawn anew, unlike the fixed ones of the published data. Chance is 1 / pairs."""
    keys, values = draft.codes(pairs), draft.codes(pairs)
    write_dictionary(draft, keys, values)
    for number in draft.choose(pairs, asked):
        draft.ask(draft.frames["single"], [number], words={"key": keys[number]})


@task({"pairs": 8, "asked": 3})
def kv_multiple(draft: Draft, pairs: int = 8, asked: int = 3) -> None:
    """The values of several keys, in the order in which they are named; each is scored behind the true ones. Chance is 1 / pairs."""
    keys, values = draft.codes(pairs), draft.codes(pairs)
    write_dictionary(draft, keys, values)
    chosen = draft.choose(pairs, asked)
    named = ", ".join(draft.frames["quoted"].format(value=keys[number]) for number in chosen)
    said = ""
    for number in chosen:
        template = draft.frames["multiple"] + "{said}" + draft.frames["opened"]
        draft.ask(template, [number], words={"asked": named, "said": said}, kind=f"answer {chosen.index(number) + 1}")
        said += draft.frames["quoted"].format(value=values[number]) + ", "


@task({"pairs": 8, "matching": 2}, floor=True)
def kv_conditional(draft: Draft, pairs: int = 8, matching: int = 2) -> None:
    """The values of all keys that hold a letter, any of which is right. Chance is matching / pairs."""
    if matching >= pairs:
        raise ArgumentError(
            f"A condition that holds for {matching} of {pairs} keys asks nothing: lower matching or raise pairs."
        )
    letter = "x"
    keys = draft.codes(matching, holding=letter) + draft.codes(pairs - matching, without=letter)
    shown = draft.choose(pairs, pairs)
    values = draft.codes(pairs)
    write_dictionary(draft, [keys[place] for place in shown], values)
    right = [number for number, place in enumerate(shown) if place < matching]
    draft.ask(draft.frames["conditional"] + draft.frames["opened"], right, words={"letter": letter})
