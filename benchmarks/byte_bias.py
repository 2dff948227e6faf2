"""What sharing saves where bytes are asked for: `python -m benchmarks byte_bias`.

Three ways compute P of every next byte behind a prompt and every longer beginning of what follows it:
  shared    this toolkit: the longest chain of covers is read in one pass, the others branch off its keys and values;
  script    transformers used well: every distinct state of a cover once, in batches of 32 padded on the right, logits of the last
            tokens alone;
  obvious   the sum as the lemma has it: for every byte, one forward pass for each cover.
All share the index of the vocabulary and the check of what the tokenizer would write, whose cost is in every row.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.tables import Difference, Results, compare, grow, results
from interp.models.bytes import ByteModel
from interp.models.bytes.canonical import State
from interp.models.language.model import LanguageModel
from interp.models.loading.language import load
from probes.byte_bias.settings import Settings

NAME, MODEL = "byte_bias", "smollm2-135m"
TOLERANCE = 1e-3
"""Of probability: batches of another size round differently, and of bytes that nothing goes on with less is checked."""
UNCHECKED = 0.01
"""Share of a step whose tokens are not checked, in all ways."""
ROWS = 32
TEXT = "The harbour master wrote that every telescope on the coast had been sold before the storm reached them."

Conditionals = Float[np.ndarray, "place outcome"]


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    domains: tuple[str, ...]
    """Of the experiment's own prompts, the first of each."""
    repetitions: int
    bytes_read: tuple[int, ...]
    """Bytes behind the prompt, for growth."""
    repetitions_of_growth: int


FULL = Sizes(
    ("trailing_space", "inside_a_word", "german_compounds", "chinese_words", "identifiers", "urls_and_digits"),
    2,
    (8, 16, 32, 64),
    3,
)
QUICK = Sizes(("inside_a_word",), 1, (4, 8), 1)


class ByBatch(ByteModel):
    """Every distinct state once, without a cache."""

    @torch.inference_mode()
    def logits_behind(self, states: Collection[State]) -> Iterator[tuple[State, Tensor]]:
        """Yields next-token logits behind every state."""
        hf: Any = self.model.hf
        order = sorted(states, key=len)
        for first in range(0, len(order), ROWS):
            batch = [[*self._begin, *state] for state in order[first : first + ROWS]]
            width = max(map(len, batch))
            ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in batch])
            last = torch.tensor([len(row) - 1 for row in batch])
            hidden = hf.base_model(ids, use_cache=False).last_hidden_state[torch.arange(len(batch)), last]
            yield from zip(order[first : first + ROWS], hf.lm_head(hidden), strict=True)


class ByCover(ByteModel):
    """Every state in a pass of its own."""

    @torch.inference_mode()
    def logits_behind(self, states: Collection[State]) -> Iterator[tuple[State, Tensor]]:
        """Yields next-token logits behind every state."""
        hf: Any = self.model.hf
        for state in states:
            yield state, hf(torch.tensor([[*self._begin, *state]]), use_cache=False).logits[0, -1]


def run(sizes: Sizes) -> Results:
    """Returns the seconds of the three ways, and growth by bytes read."""
    model = load(MODEL)
    ours = ByteModel(model, tolerance=UNCHECKED)
    ours.next_byte("warm")
    return results(conditionals(model, ours, sizes), growth(ours, sizes))


def conditionals(model: LanguageModel, ours: ByteModel, sizes: Sizes) -> list[dict]:
    """Rows of all ways, for one prompt of each domain."""
    found = {prompt.id: prompt for prompt in Settings().read_prompts()}
    prompts = [found[f"{domain}-0"] for domain in sizes.domains]
    asked = [(prompt.text, prompt.cuts[0]) for prompt in prompts]
    n_places = sum(len(text) - start + 1 for text, start in asked)
    by_batch, by_cover = (kind(model, tolerance=UNCHECKED) for kind in (ByBatch, ByCover))
    for other in (by_batch, by_cover):
        other.canonical = ours.canonical  # indexed once, for all
    return compare(
        {
            "model": MODEL, "benchmark": NAME, "kind": "speed", "case": f"{len(asked)} prompts, {n_places} places",
            "amount_name": "places",
        },
        {
            ("toolkit", "one chain of covers, the others branch off it"): lambda: [whole(ours, *one) for one in asked],
            ("baseline", "every distinct state once, in padded batches"): lambda: [whole(by_batch, *one) for one in asked],
            ("obvious", "for every byte one pass for each cover"): lambda: [place_by_place(by_cover, *one) for one in asked],
        },
        sizes.repetitions,
        apart,
        lambda *_: n_places,
    )  # fmt: skip


def whole(of_bytes: ByteModel, text: bytes, start: int) -> Conditionals:
    """Logarithms of P behind every place, in one reading."""
    return of_bytes.read(text, start=start).log_p


def place_by_place(of_bytes: ByteModel, text: bytes, start: int) -> Conditionals:
    """The same, each place by itself; inside a character as far as it goes."""
    return np.stack([of_bytes.next_byte(text[:place]) for place in range(start, len(text) + 1)])


def apart(ours: list[Conditionals], theirs: list[Conditionals]) -> Difference:
    """The largest distance of two distributions over the next byte: Σ |P − P'|."""
    gaps = [np.abs(np.exp(a) - np.exp(b)).sum(axis=1) for a, b in zip(ours, theirs, strict=True)]
    largest = float(max(gap.max() for gap in gaps))
    return Difference("sum of differences of P over the next byte", largest, sum(gap.size for gap in gaps), TOLERANCE)


def growth(ours: ByteModel, sizes: Sizes) -> list[dict]:
    """Rows by bytes read behind the prompt."""
    labels = {"model": MODEL, "benchmark": NAME, "curve": "bytes_read"}
    return grow(labels, sizes.bytes_read, sizes.repetitions_of_growth, lambda n: _reading(ours, n))


def _reading(ours: ByteModel, n_bytes: int) -> Callable[[], Conditionals]:
    text = TEXT.encode()[: 20 + n_bytes]
    return lambda: whole(ours, text, 20)
