"""Lists of words: to be said again, with an anchor behind every word; and to be put in an order."""

from probes.context_recall.draft import Draft
from probes.context_recall.tasks.task import task


@task(*({"anchor": anchor} for anchor in ("plain", "comma")))
def list_recall(draft: Draft, anchor: str = "comma", items: int = 8, asked: int = 1) -> None:
    """A list of words comes back, and a word of it is asked for behind all words before it. Chance is 1 / items.

    Anchors stand behind every word in both lists: what existing text has in place of learned meta-tokens.
    """
    words = draft.values(items)
    sign = draft.option("anchor", anchor, draft.frames["anchors"])
    draft.put(draft.frames["list_lead"])
    for word in words:
        draft.pair("{value}" + sign, "", word)
    draft.put(draft.frames["list_again"])
    for number in sorted(draft.choose(items - 1, asked)):
        before = "".join(word + sign for word in words[: number + 1])
        draft.ask("{before}", [number + 1], words={"before": before}, kind=anchor)


@task({"items": 4}, floor=True)
def inverse_permutation(draft: Draft, items: int = 4) -> None:
    """Items with the places that they belong to, to be said in that order; each is scored behind the true ones. Chance is 1 / items.

    The theorem (a causal model without room behind the input cannot) is about the input's own positions and not about this:
    what is written below the items is such room.
    """
    words = draft.values(items)
    places = draft.choose(items, items)
    draft.put(draft.frames["order_lead"])
    keys = [draft.put(f" {place + 1}") for place in places]
    draft.put(draft.frames["order_items"])
    marks = [draft.put(word) for word in words]
    numbers = [draft.bind(key, mark) for key, mark in zip(keys, marks, strict=True)]
    said = ""
    for place in range(items):
        which = places.index(place)
        draft.ask(
            draft.frames["order_sorted"] + "{said}", [numbers[which]], words={"said": said}, kind=f"place {place + 1}"
        )
        said += words[which]
