"""News and words of a small closed vocabulary, and drafts on them."""

from typing import Any

import numpy as np

from interp.models.tokens.encoding import beginning
from probes.context_recall.draft import Draft, Sample
from probes.context_recall.settings import Settings
from probes.context_recall.tasks.catalogue import OWN, task_of
from probes.context_recall.words import Words, words_of
from tests.tiny_tokenizers import of_kind

NOUNS = (
    "hammer river basket engine mirror turtle harbour chapel library garden silver bottle window doctor car house sea street shop road "
    "forest picture stone kid teacher candle rocket pepper table winter market island needle orange pencil ladder"
).split()
NEWS = tuple(
    f"The {one} was seen near the old {other} on Monday by some people. Nobody said who had left it there, and the police asked again "
    f"for the {third}. A {third} was found behind the {one} some days after that."
    for one, other, third in zip(NOUNS, NOUNS[5:] + NOUNS[:5], NOUNS[9:] + NOUNS[:9], strict=True)
)
FRAMES = Settings().read_frames()
CORPUS = (
    *NEWS, *(f" {noun} {noun} {noun}" for noun in NOUNS), *(text for text in FRAMES.values() if isinstance(text, str)),
    *(word for words in FRAMES["synonyms"].items() for word in words), *FRAMES["anchors"].values(),
    "0123456789 VAR ABCDEFGHIJKLMNOPQRSTUVWXYZ",
)  # fmt: skip
SMALL = {
    "mqar": {"pairs": 4, "gap": 3}, "forgetting": {"pairs": 3, "updates": 2}, "compositional": {"side": 2}, "kv_single": {"pairs": 4},
    "kv_multiple": {"pairs": 4, "asked": 2}, "kv_conditional": {"pairs": 4, "matching": 2}, "thread": {"hops": 2, "direction": "backward"},
    "variables": {"hops": 1, "direction": "forward"}, "passkey": {"tokens": 160, "needles": 2},
    "list_recall": {"anchor": "pause", "items": 5},
    "inverse_permutation": {"items": 3}, "order": {"text": "excerpt", "words": 40},
}  # fmt: skip
"""A small cell of every task of the toolkit."""
assert set(SMALL) == set(OWN)


def word_source(tmp_path: Any) -> str:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(NOUNS))
    return str(path)


def draft(tokenizer: Any, words: Words, number: int = 0, **changes: Any) -> Draft:
    lead = beginning(tokenizer, "auto")
    return Draft(tokenizer, words, {**FRAMES, **changes}, np.random.default_rng(number), lead)


def samples_of(kind: str, task: str, source: str, n: int, **cell: Any) -> tuple[Any, list[Sample]]:
    """A tokenizer of a kind and samples of a task."""
    tokenizer = of_kind(kind, CORPUS)
    known = words_of(tokenizer, source)
    return tokenizer, [
        task_of(task).sample(draft(tokenizer, known, number), cell or SMALL[task]) for number in range(n)
    ]
