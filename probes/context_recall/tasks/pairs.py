"""Words with codes, list after list: recall of many keys, of the newest value, and of keys in two parts."""

from interp.errors import ArgumentError
from probes.context_recall.draft import Draft
from probes.context_recall.tasks.task import task


@task({"pairs": 4}, {"pairs": 8}, {"pairs": 16})
def mqar(draft: Draft, pairs: int = 8, gap: int = 0, asked: int = 2) -> None:
    """Multi-query associative recall (Arora et al. 2023): any of the pairs is asked for; fillers are neither keys nor values.

    Chance is 1 / pairs.
    """
    keys, values = draft.keys(pairs), draft.values(pairs)
    draft.put(draft.frames["lead"])
    for key, value in zip(keys, values, strict=True):
        draft.pair(draft.frames["pair"], key, value)
    filler = f"\n{draft.fillers(gap)}" if gap else ""
    for number in draft.choose(pairs, asked):
        draft.ask(
            "{filler}" + draft.frames["question"], [number], words={"filler": filler, "key": keys[number]}, gap=gap
        )


@task({"pairs": 8, "updates": 4})
def forgetting(draft: Draft, pairs: int = 8, updates: int = 4) -> None:
    """Some keys get a new value below all pairs, and the newest counts (zoology's forgetting): one such key is asked for, and one other.

    Chance is 1 / (pairs + updates).
    """
    if updates > pairs:
        raise ArgumentError(f"{updates} of {pairs} keys cannot get a new value: lower updates or raise pairs.")
    keys, values = draft.keys(pairs), draft.values(pairs + updates)
    draft.put(draft.frames["lead"])
    for key, value in zip(keys, values, strict=False):
        draft.pair(draft.frames["pair"], key, value)
    updated = draft.choose(pairs, updates)
    newest = {
        number: draft.pair(draft.frames["pair"], keys[number], value)
        for number, value in zip(updated, values[pairs:], strict=True)
    }
    kept = [number for number in range(pairs) if number not in newest]
    question = draft.frames["question"]
    draft.ask(question, [newest[updated[0]]], words={"key": keys[updated[0]]}, old=updated[0], kind="updated")
    for number in kept[:1]:
        draft.ask(question, [number], words={"key": keys[number]}, kind="kept")


@task({"side": 2}, {"side": 3})
def compositional(draft: Draft, side: int = 2, asked: int = 2) -> None:
    """Keys of two words on a square grid: each word stands in `side` keys, so neither is enough (zoology's compositional).

    Chance is 1 / side², and 1 / side for a model that matches one word only.
    """
    first, second, values = draft.keys(side), draft.keys(side), draft.values(side**2)
    grid = [(one, other) for one in first for other in second]
    shown = [grid[place] for place in draft.choose(len(grid), len(grid))]
    draft.put(draft.frames["lead"])
    for (one, other), value in zip(shown, values, strict=True):
        draft.put(f"\n{one}")
        key = draft.put(other)
        draft.put(":")
        draft.bind(key, draft.put(value))
    for number in draft.choose(len(shown), asked):
        one, other = shown[number]
        draft.ask("\n{first}{second}:", [number], words={"first": one, "second": other})
