"""Chains: a value is the next key (Needle Threading's threads), a variable is set to another one (RULER's variable tracking)."""

from string import ascii_uppercase

from interp.errors import ArgumentError, check_choice
from probes.context_recall.draft import Draft
from probes.context_recall.tasks.task import Cell, task

DIRECTIONS = ("forward", "backward")
THREADS: list[Cell] = [{"hops": hops, "direction": way} for hops in (1, 2) for way in DIRECTIONS]
VARIABLES: list[Cell] = [{"hops": 1, "direction": way} for way in DIRECTIONS]


def interleaved(draft: Draft, chains: int, links: int, direction: str) -> list[tuple[int, int]]:
    """Returns (chain, link) in the order of the text: chains mixed by chance, links of each in order, or all of it reversed.

    Raises ArgumentError for another direction.
    """
    check_choice("direction", direction, DIRECTIONS)
    order = [place % chains for place in draft.choose(chains * links, chains * links)]
    seen = [order[:place].count(chain) for place, chain in enumerate(order)]
    shown = list(zip(order, seen, strict=True))
    return shown[::-1] if direction == "backward" else shown


@task(*THREADS, floor=True)
def thread(draft: Draft, hops: int = 1, direction: str = "forward", threads: int = 1, pairs: int = 8) -> None:
    """From a key over `hops` values, each the next key, in two chains of pairs / 2. Forward: in the order of the text.

    Chance is 1 / pairs. `threads` chains are asked for in one question, each scored behind the true answers before it.
    """
    links = pairs // 2
    if not 1 <= hops <= links or not 1 <= threads <= 2 or pairs % 2:
        raise ArgumentError(
            f"Two chains of {pairs} pairs have {links} hops each: lower hops, raise pairs (an even number), and ask for 1 or 2 threads."
        )
    nodes = [draft.keys(links + 1) for _ in range(2)]
    draft.put(draft.frames["lead"])
    number = {
        (chain, link): draft.pair(draft.frames["pair"], nodes[chain][link], nodes[chain][link + 1])
        for chain, link in interleaved(draft, 2, links, direction)
    }
    template, said = draft.frames["thread"], ""
    words: dict[str, str] = {"hops": str(hops)}
    for chain in draft.choose(2, threads):
        key = f"key{len(said)}"
        words[key] = nodes[chain][0]
        template = said + (draft.frames["also"] if said else template).replace("{key}", f"{{{key}}}")
        last = number[chain, hops - 1]
        draft.ask(template, [last], words=words, hops=hops, direction=direction, threads=threads)
        words[f"said{key}"] = nodes[chain][hops]
        said = template + f"{{said{key}}}"


@task(*VARIABLES, floor=True)
def variables(draft: Draft, hops: int = 1, direction: str = "forward", chains: int = 3) -> None:
    """A variable is set to another, over `hops` steps to one that was set to a word; it is asked what is printed.

    Forward: each is set below the one it is set to, as in RULER. Chance is 1 / chains.
    """
    values = draft.values(chains)
    names = [draft.codes(hops + 1, 3, letters=ascii_uppercase) for _ in range(chains)]
    draft.put(draft.frames["variables"])
    number = {}
    for chain, link in interleaved(draft, chains, hops + 1, direction):
        if link == 0:
            template = draft.frames["set_value"].replace("{name}", "{key}")
            number[chain] = draft.pair(template, names[chain][0], values[chain])
        else:
            draft.put(draft.frames["set_name"].format(name=names[chain][link], other=names[chain][link - 1]))
    for chain in draft.choose(chains, 2):
        words = {"name": names[chain][hops]}
        draft.ask(draft.frames["variable_question"], [number[chain]], words=words, hops=hops, direction=direction)
