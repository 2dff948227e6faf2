"""From tokens to words: the probability of a noun under a model that reads sub-words. Pure arithmetic, no model.

With t1…tk the noun's tokens (t1 holds the space before it), c what came before, and B the tokens that cannot go on a word:

    raw       Π p(ti)                                       what Armeni et al. report (their sum of sub-word surprisals)
    boundary  Π p(ti) · p(B | c, t1…tk) / p(B | c)          Pimentel and Meister 2024 (arXiv:2406.14561), Oh and Schuler 2024
    exact     Σ over all token sequences that spell the noun, each with its own p(B | …), / p(B | c)

B holds punctuation as well as spaces: in a list the next token is a comma, and with spaces alone the correction would add
more than a nat where repeat surprisal is a tenth of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.words import goes_on

Word = TypeVar("Word", str, bytes)


def boundary_tokens(texts: Sequence[str], special_ids: Sequence[int], n_outputs: int) -> Bool[Tensor, " token"]:
    """Returns which tokens cannot go on a word (see interp.words.goes_on), the special ones among them.

    Bytes that are no whole character (U+FFFD) count as going on. Outputs beyond the tokenizer's tokens are no boundary.
    """
    special = set(special_ids)
    boundary = [id in special or (bool(text) and not goes_on(text)) for id, text in enumerate(texts)]
    mask = torch.zeros(n_outputs, dtype=torch.bool)
    mask[: len(boundary)] = torch.tensor(boundary[:n_outputs])
    return mask


def boundary_log_probability(
    log_probabilities: Float[Tensor, "*axes token"], boundary: Bool[Tensor, " token"]
) -> Float[Tensor, "*axes"]:
    """Returns ln p(B) after each of the given positions."""
    return log_probabilities[..., boundary].logsumexp(dim=-1)


class Spellings(Generic[Word]):
    """Which tokens a word may begin with: the alternatives at each step of the exact search.

    Words are spelled in bytes where tokens may hold part of a letter.
    """

    def __init__(self, parts: Sequence[Word | None], special_ids: Sequence[int] = ()) -> None:
        """Indexes the vocabulary by what each token adds to a word; special tokens and those that add nothing spell nothing."""
        special = set(special_ids)
        self.parts = parts
        self._by_part: dict[Word, list[int]] = {}
        for id, part in enumerate(parts):
            if part and id not in special:
                self._by_part.setdefault(part, []).append(id)
        self._longest = max(map(len, self._by_part), default=0)

    def beginnings(self, word: Word) -> list[tuple[int, Word]]:
        """Returns every token that spells a beginning of the word, with what is left of the word after it."""
        return [
            (id, word[end:])
            for end in range(1, min(len(word), self._longest) + 1)
            for id in self._by_part.get(word[:end], ())
        ]


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
