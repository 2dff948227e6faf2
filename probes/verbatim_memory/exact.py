"""The exact probability of nouns: other spellings of a word by the same tokenizer, followed through the model in batches.

Spellings are byte by byte, so that tokens which hold part of a letter count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.history import History
from interp.models.language import LanguageModel
from interp.models.prefix import Prefix
from probes.verbatim_memory.vignettes import EncodedList
from probes.verbatim_memory.word_probability import WordSearch, boundary_log_probability

if TYPE_CHECKING:
    from probes.verbatim_memory.measure import Vocabulary

SPELLINGS_AT_ONCE = 64


@dataclass(frozen=True)
class _Spelling:
    """The beginning of one way to spell a word: its tokens, what is left to spell, ln p of all its tokens."""

    search: WordSearch[bytes]
    row: int
    start: int
    """Tokens of the row before this spelling leaves the tokenizer's own."""
    tokens: tuple[int, ...]
    """Its tokens from there on."""
    rest: bytes
    log_probability: float


def exact_probabilities(
    model: LanguageModel,
    rows: Prefix | History,
    starts: Sequence[int],
    lists: Sequence[EncodedList],
    log_p: Float[Tensor, "row column vocabulary"],
    vocabulary: "Vocabulary",
    exact_rows: Sequence[int],
    threshold: float,
) -> dict[tuple[int, int], tuple[float, float]]:
    """Returns, by (row, noun), ln of the sum over spellings of p(spelling) · p(B | spelling), and the share left out.

    `rows` have read the lists, which began at `starts`; `log_p` are the log-probabilities over them.
    """
    searches: dict[tuple[int, int], WordSearch[bytes]] = {}
    open_spellings: list[_Spelling] = []
    for row in exact_rows:
        for noun in range(len(lists[row].nouns)):
            search, found = _own_spelling(row, starts[row], lists[row], noun, log_p[row], vocabulary, threshold)
            searches[row, noun] = search
            open_spellings += found
    while open_spellings:
        open_spellings.sort(key=lambda spelling: len(spelling.tokens))  # a batch is as wide as its longest
        batch, open_spellings = open_spellings[:SPELLINGS_AT_ONCE], open_spellings[SPELLINGS_AT_ONCE:]
        open_spellings += _follow(model, rows, batch, vocabulary)
    return {key: (search.log_probability(), search.share_left_out()) for key, search in searches.items()}


def _own_spelling(
    row: int,
    start: int,
    encoded: EncodedList,
    noun: int,
    log_p: Float[Tensor, "column vocabulary"],
    vocabulary: "Vocabulary",
    threshold: float,
) -> tuple[WordSearch[bytes], list[_Spelling]]:
    """The tokenizer's own spelling of a noun, complete, and the other spellings that leave it at each of its tokens."""
    first, last = encoded.spans[noun]
    own = encoded.ids[first:last]
    whole = float(sum(log_p[first + index, token] for index, token in enumerate(own)))
    spelled = vocabulary.spelled(own, encoded.nouns[noun])
    search = WordSearch(b"".join(spelled), vocabulary.spellings, floor=whole + log(threshold))
    search.complete(whole, float(boundary_log_probability(log_p[last], vocabulary.boundary)))
    rest, so_far, found = search.word, 0.0, []
    for index, token in enumerate(own):
        for other, left, log_probability in search.branches(rest, so_far, log_p[first + index], taken=token):
            found.append(_Spelling(search, row, start + first + index, (other,), left, log_probability))
        so_far += float(log_p[first + index, token])
        rest = rest[len(spelled[index]) :]
    return search, found


def _follow(
    model: LanguageModel, rows: Prefix | History, batch: list[_Spelling], vocabulary: "Vocabulary"
) -> list[_Spelling]:
    """Reads each spelling's tokens in the place of the word; returns the spellings that go on from there."""
    branch = rows.select([spelling.row for spelling in batch])
    branch.crop([spelling.start for spelling in batch])
    logits = model.extend(branch, [spelling.tokens for spelling in batch], logits="last")
    log_p = torch.log_softmax(logits[:, -1], dim=-1)
    ends = boundary_log_probability(log_p, vocabulary.boundary)
    found = []
    for index, spelling in enumerate(batch):
        if not spelling.rest:
            spelling.search.complete(spelling.log_probability, float(ends[index]))
            continue
        for token, left, log_probability in spelling.search.branches(
            spelling.rest, spelling.log_probability, log_p[index]
        ):
            found.append(
                _Spelling(
                    spelling.search, spelling.row, spelling.start, (*spelling.tokens, token), left, log_probability
                )
            )
    return found
