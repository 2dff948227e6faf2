"""Scenes whose truth is known: one or two coloured shapes, a caption that names them, the picture they make, prompts of them.

Two words have two senses each. Which one is drawn is decided by another word of the caption that is not drawn itself, and only
if it stands before: "in the game , a red bat" is drawn as a red plus sign, "a red bat" and "a red bat , in the game" as a red
cross. So a text encoder that reads from left to right can learn it, and a word that comes after is a control.

A picture has four cells of 8 × 8 pixels; every object fills one. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from jaxtyping import Bool, Float32

from probes.t2i_flow.prompts import Prompt, PromptItem

SIDE, CELL, MASK = 16, 8, 7
"""Pixels of a picture's side, of a cell's, and of an object's."""
N_CELLS = (SIDE // CELL) ** 2

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
    "yellow": (1, 1, 0),
    "magenta": (1, 0, 1),
    "cyan": (0, 1, 1),
}
SHAPES = ("disc", "square", "frame", "cross", "diamond", "plus sign", "triangle")
SENSES = {"bat": ("cross", "plus sign", "game"), "pool": ("frame", "square", "bar")}
"""Words with two senses: what is drawn, what is drawn after the context word, and that word."""
NOUNS = (*SHAPES, *SENSES)
NEUTRAL = ("town", "cave", "hall", "yard", "park", "shop")
"""Context words that change nothing."""
CONTEXTS = (*NEUTRAL, *(context for _, _, context in SENSES.values()))
ARTICLES = ("a", "the")
JOINERS = ("and", "with", "beside")
HELD_OUT = frozenset({("green", "triangle"), ("yellow", "frame"), ("cyan", "diamond"), ("red", "square")})
"""Colours and drawn shapes that no training caption has together."""
Split = Literal["train", "unseen", "held_out"]
"""What models are trained on; a quarter of the captions, which they never see; and everything with a held-out combination."""


@dataclass(frozen=True)
class Item:
    """One object: its colour, the shape that is drawn, and the noun that names it (the shape's name, if not given)."""

    colour: str
    shape: str
    noun: str = ""

    @property
    def phrase(self) -> str:
        """How a caption names it."""
        return f"{self.colour} {self.noun or self.shape}"

    @property
    def other_sense(self) -> "Item | None":
        """The item as the noun's other sense would draw it; None for nouns of one sense."""
        if self.noun not in SENSES:
            return None
        plain, after_context, _ = SENSES[self.noun]
        return Item(self.colour, after_context if self.shape == plain else plain, self.noun)

    @property
    def drawn(self) -> tuple[str, str]:
        """Colour and shape."""
        return self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """A caption and the objects it names, in the caption's order."""

    text: str
    items: tuple[Item, ...]
    context: str | None = None
    context_before: bool = False


def item_named(colour: str, noun: str, context_before: str | None = None) -> Item:
    """Returns what a colour and a noun name after a context word, or after none."""
    if noun not in SENSES:
        return Item(colour, noun)
    plain, after_context, context = SENSES[noun]
    return Item(colour, after_context if context_before == context else plain, noun)


def caption(
    phrases: Sequence[str],
    articles: Sequence[str] = ("a", "a"),
    joiner: str = "and",
    context: str | None = None,
    context_before: bool = False,
) -> str:
    """Returns the text that names one or two phrases in this order; an article may be "" for none."""
    named = [f"{article} {phrase}".strip() for article, phrase in zip(articles, phrases, strict=False)]
    text = f" {joiner} ".join(named)
    if context is None:
        return text
    return f"in the {context} , {text}" if context_before else f"{text} , in the {context}"


def split_of(scene: Scene) -> Split:
    """Returns which part of the scenes one belongs to, told by its items and its text alone."""
    if any(item.drawn in HELD_OUT for item in scene.items):
        return "held_out"
    return "unseen" if crc32(scene.text.encode()) % 4 == 0 else "train"


def sample_scene(rng: np.random.Generator, arity: int | None = None, split: Split = "train") -> Scene:
    """Returns a random scene of a split, of one or two objects that look different (four in ten have one, if not given).

    15% of the nouns have two senses. Half of the captions have a context, before as often as after; with a noun of two senses it is
    in half of the cases the word that decides.
    """
    while True:
        n_items = arity or (1 if rng.random() < 0.4 else 2)
        nouns = [str(rng.choice(list(SENSES)) if rng.random() < 0.15 else rng.choice(SHAPES)) for _ in range(n_items)]
        context, before = _sample_context(rng, nouns), bool(rng.random() < 0.5)
        items = tuple(item_named(str(rng.choice(list(COLOURS))), noun, context if before else None) for noun in nouns)
        if len({item.drawn for item in items}) < n_items:
            continue
        articles = [str(rng.choice((*ARTICLES, ""), p=(0.6, 0.25, 0.15))) for _ in items]
        text = caption([item.phrase for item in items], articles, str(rng.choice(JOINERS)), context, before)
        scene = Scene(text, items, context, context is not None and before)
        if split_of(scene) == split:
            return scene


def _sample_context(rng: np.random.Generator, nouns: Sequence[str]) -> str | None:
    if rng.random() < 0.5:
        return None
    deciding = [SENSES[noun][2] for noun in nouns if noun in SENSES]
    return str(rng.choice(deciding if deciding and rng.random() < 0.5 else CONTEXTS))


def sample_scenes(rng: np.random.Generator, n: int, arity: int | None = None, split: Split = "train") -> list[Scene]:
    """Returns n random scenes, drawn independently: short captions come up more than once."""
    return [sample_scene(rng, arity, split) for _ in range(n)]


# ---------------------------------------------------------------------- pictures


def _masks() -> dict[str, Bool[np.ndarray, "7 7"]]:
    y, x = np.mgrid[-3:4, -3:4]
    away_x, away_y = np.abs(x), np.abs(y)
    return {
        "disc": x**2 + y**2 <= 10,
        "square": np.ones_like(x, dtype=bool),
        "frame": np.maximum(away_x, away_y) == 3,
        "cross": np.abs(away_x - away_y) <= (np.minimum(away_x, away_y) > 0),
        "diamond": away_x + away_y <= 3,
        "plus sign": np.minimum(away_x, away_y) == 0,
        "triangle": away_x <= (y + 3) / 2,
    }


MASKS = _masks()


def render(items: Sequence[Item], cells: Sequence[int]) -> Float32[np.ndarray, "16 16 3"]:
    """Returns the picture with each item in its cell (0 and 1 above, 2 and 3 below), on black."""
    picture = np.zeros((SIDE, SIDE, 3), dtype=np.float32)
    for item, cell in zip(items, cells, strict=True):
        top, left = (CELL * part for part in divmod(cell, SIDE // CELL))
        picture[top : top + MASK, left : left + MASK][MASKS[item.shape]] = COLOURS[item.colour]
    return picture


# ---------------------------------------------------------------------- prompts

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
        Prompt("", text, tuple(_prompt_item(item, items[1 - place], group) for place, item in enumerate(items)), group)
        for group, (items, text) in texts.items()
    ]


def _prompt_item(item: Item, other: Item, group: str) -> PromptItem:
    """An item as its word is drawn without context. What may leak into a word of two senses is the other sense; into plain
    items the other's colour; items beside a word of two senses have no leak, so that their prompts speak of the sense alone.
    """
    leaked = item.other_sense or (Item(other.colour, item.shape) if group == "plain" else None)
    leaks = (" ".join(leaked.drawn),) if leaked else ()
    return PromptItem(item.phrase, None, " ".join(item.drawn), leaks)
