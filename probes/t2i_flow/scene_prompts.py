"""Prompts made of scenes: two coloured shapes each, some with a word of two senses and the context word that decides it."""

import numpy as np

from probes.t2i_flow.prompts import Prompt, PromptItem
from probes.t2i_flow.scenes import COLOURS, HELD_OUT, SENSES, SHAPES, Item, caption, item_named

GROUPS = ("plain", "context_before", "context_after")
"""Two shapes; one of them a word of two senses behind its context word; the same with the context word at the end, a control:
an encoder that reads from left to right cannot let it in."""


def sample_prompts(n: int, seed: int) -> tuple[Prompt, ...]:
    """Returns n different prompts, the groups in turn; the second and third of a turn have the same items."""
    rng = np.random.default_rng([seed, 20250401])
    prompts: dict[str, Prompt] = {}
    while len(prompts) < n:
        for prompt in _turn(rng):
            if len(prompts) < n and prompt.text not in {other.text for other in prompts.values()}:
                id = f"p{len(prompts):03d}"
                prompts[id] = Prompt(id, prompt.text, prompt.items, prompt.group)
    return tuple(prompts.values())


def _turn(rng: np.random.Generator) -> list[Prompt]:
    """One prompt of each group, without ids."""
    colours = [str(colour) for colour in rng.choice(list(COLOURS), size=4, replace=False)]
    shapes = [str(shape) for shape in rng.choice(SHAPES, size=2, replace=False)]
    plain = [Item(colours[0], shapes[0]), Item(colours[1], shapes[1])]
    noun = str(rng.choice(list(SENSES)))
    senses = SENSES[noun]
    other = str(rng.choice([shape for shape in SHAPES if shape not in senses]))
    pair = [item_named(colours[2], noun), Item(colours[3], other)]
    if rng.random() < 0.5:
        pair.reverse()
    if any(item.drawn in HELD_OUT for item in (*plain, *pair)):
        return _turn(rng)  # combinations the shipped models never saw are another question
    context = senses[2]
    texts = {
        "plain": (plain, caption([item.phrase for item in plain])),
        "context_before": (pair, caption([item.phrase for item in pair], context=context, context_before=True)),
        "context_after": (pair, caption([item.phrase for item in pair], context=context)),
    }
    return [
        Prompt("", text, tuple(_item(item, items[1 - place], group) for place, item in enumerate(items)), group)
        for group, (items, text) in texts.items()
    ]


def _item(item: Item, other: Item, group: str) -> PromptItem:
    """An item as its word is drawn without context. What may leak into a word of two senses is the other sense; into plain
    items the other's colour; items beside a word of two senses have no leak, so that their prompts speak of the sense alone.
    """
    leaked = item.other_sense or (Item(other.colour, item.shape) if group == "plain" else None)
    leaks = (" ".join(leaked.drawn),) if leaked else ()
    return PromptItem(item.phrase, None, " ".join(item.drawn), leaks)
