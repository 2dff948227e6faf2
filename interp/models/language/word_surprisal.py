"""The surprisal of words in a text that a model reads, in the modes of `word_tokens`.

For the exact mode, other spellings of a word by the same tokenizer are followed through the model in batches, byte by byte, so
that tokens which hold part of a letter count.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Generic

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History, Prefix
from interp.models.language.word_tokens import (
    EncodedWords,
    Spellings,
    Vocabulary,
    Word,
    WordSurprisal,
    boundary_log_probability,
    token_log_probabilities,
    word_surprisal,
)

SPELLINGS_AT_ONCE = 64


@dataclass
class WordSearch(Generic[Word]):
    """The exact probability of one word, found by a bounded search over its spellings.

    Best first is not needed: a spelling is followed while its probability so far is at least `threshold` times that of the
    tokenizer's own spelling. What is not followed adds to `left_out`, an upper bound on the probability that is missing.
    """

    word: Word
    """The word, its leading space included."""
    spellings: Spellings[Word]
    floor: float
    """Logarithm below which a spelling is not followed."""
    total: list[float] = field(default_factory=list)
    left_out: list[float] = field(default_factory=list)

    def complete(self, log_probability: float, log_boundary: float) -> None:
        """Adds a whole spelling, with ln p(B) after it."""
        self.total.append(log_probability + log_boundary)

    def branches(
        self, rest: Word, log_probability: float, log_probabilities: Float[Tensor, " token"], taken: int | None = None
    ) -> list[tuple[int, Word, float]]:
        """Returns the tokens worth following after a spelling so far: token, what is left to spell, ln p with it.

        `taken` is the tokenizer's own next token, which is followed elsewhere.
        """
        found = []
        for token, left in self.spellings.beginnings(rest):
            if token == taken:
                continue
            with_token = log_probability + float(log_probabilities[token])
            if with_token < self.floor:
                self.left_out.append(with_token)
            else:
                found.append((token, left, with_token))
        return found

    def log_probability(self) -> float:
        """Returns ln of the sum over all spellings found."""
        return float(torch.tensor(self.total, dtype=torch.float64).logsumexp(0))

    def share_left_out(self) -> float:
        """Returns the bound on what was left out, as a share of what was found."""
        if not self.left_out:
            return 0.0
        return float((torch.tensor(self.left_out, dtype=torch.float64).logsumexp(0) - self.log_probability()).exp())


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
    texts: Sequence[EncodedWords],
    log_p: Float[Tensor, "row column vocabulary"],
    vocabulary: Vocabulary,
    exact_rows: Sequence[int],
    threshold: float,
) -> dict[tuple[int, int], tuple[float, float]]:
    """Returns, by (row, word), ln of the sum over spellings of p(spelling) · p(B | spelling), and the share left out.

    `rows` have read the texts, which began at `starts`; `log_p` are the log-probabilities over them.
    """
    searches: dict[tuple[int, int], WordSearch[bytes]] = {}
    open_spellings: list[_Spelling] = []
    for row in exact_rows:
        for word in range(len(texts[row].words)):
            search, found = _own_spelling(row, starts[row], texts[row], word, log_p[row], vocabulary, threshold)
            searches[row, word] = search
            open_spellings += found
    while open_spellings:
        open_spellings.sort(key=lambda spelling: len(spelling.tokens))  # a batch is as wide as its longest
        batch, open_spellings = open_spellings[:SPELLINGS_AT_ONCE], open_spellings[SPELLINGS_AT_ONCE:]
        open_spellings += _follow(model, rows, batch, vocabulary)
    return {key: (search.log_probability(), search.share_left_out()) for key, search in searches.items()}


def _own_spelling(
    row: int,
    start: int,
    encoded: EncodedWords,
    word: int,
    log_p: Float[Tensor, "column vocabulary"],
    vocabulary: Vocabulary,
    threshold: float,
) -> tuple[WordSearch[bytes], list[_Spelling]]:
    """The tokenizer's own spelling of a word, complete, and the other spellings that leave it at each of its tokens."""
    first, last = encoded.spans[word]
    own = encoded.ids[first:last]
    whole = float(sum(log_p[first + index, token] for index, token in enumerate(own)))
    spelled = vocabulary.spelled(own, encoded.words[word])
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
    model: LanguageModel, rows: Prefix | History, batch: list[_Spelling], vocabulary: Vocabulary
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


def read_words(
    model: LanguageModel,
    rows: Prefix | History,
    before: Float[Tensor, "row one vocabulary"],
    texts: Sequence[EncodedWords],
    vocabulary: Vocabulary,
    *,
    exact_rows: Sequence[int] = (),
    exact_threshold: float = 1e-3,
) -> list[list[WordSurprisal]]:
    """Reads one text per row, in place, and returns the surprisal of its words.

    `before` are the logits after what the rows have read so far. Rows named in `exact_rows` get the exact mode too.
    """
    ids = [list(one.ids) for one in texts]
    starts = rows.lengths
    logits = model.extend(rows, ids, logits="all")
    log_p = torch.log_softmax(torch.cat([before, logits], dim=1), dim=-1)  # column i predicts token i of the text
    taken = token_log_probabilities(log_p, ids)
    ends = boundary_log_probability(log_p, vocabulary.boundary).cpu()
    words = [
        [
            word_surprisal(float(taken[row, first:last].sum()), float(ends[row, first]), float(ends[row, last]))
            for first, last in one.spans
        ]
        for row, one in enumerate(texts)
    ]
    if exact_rows:
        found = exact_probabilities(model, rows, starts, texts, log_p, vocabulary, list(exact_rows), exact_threshold)
        for (row, word), (log_probability, left_out) in found.items():
            begins = float(ends[row, texts[row].spans[word][0]])
            modes = {**words[row][word].surprisal_nats, "exact": begins - log_probability}
            words[row][word] = WordSurprisal(modes, left_out)
    return words
