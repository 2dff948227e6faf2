"""From tokens to words: the surprisal of a word from the probabilities of its tokens. Pure arithmetic, no model.

With t1…tk the word's tokens (t1 holds the space before it), c what came before, and B the tokens that cannot go on a word:

    raw       Π p(ti)                                       the sum of the tokens' surprisals
    boundary  Π p(ti) · p(B | c, t1…tk) / p(B | c)          Pimentel and Meister 2024 (arXiv:2406.14561), Oh and Schuler 2024
    exact     Σ over all token sequences that spell the word, each with its own p(B | …), / p(B | c)      (see `spellings`)

B holds punctuation as well as spaces: a word is also over where a comma follows, and with spaces alone the correction adds
more than a nat in lists, where what is measured may be a tenth of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.words import goes_on


@dataclass(frozen=True)
class EncodedWords:
    """Words as tokens; `spans` are each word's tokens [first, last) in `ids`, its leading space included."""

    words: tuple[str, ...]
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WordSurprisal:
    """Surprisal of one word in the modes that were asked for, in nats; `left_out_share` belongs to the exact mode."""

    surprisal_nats: Mapping[str, float]
    left_out_share: float = float("nan")


def word_surprisal(log_probability: float, begins: float, ends: float) -> WordSurprisal:
    """Returns the modes raw and boundary from ln of the tokens' product, and ln p(B) before and after the word."""
    return WordSurprisal({"raw": -log_probability, "boundary": begins - log_probability - ends})


def boundary_tokens(
    texts: Sequence[str], special_ids: Sequence[int], n_outputs: int, carries_on: Callable[[str], bool] = goes_on
) -> Bool[Tensor, " token"]:
    """Returns which tokens cannot go on a word (`carries_on` says which can), the special ones among them.

    Bytes that are no whole character (U+FFFD) count as going on. Outputs beyond the tokenizer's tokens are no boundary.
    """
    special = set(special_ids)
    boundary = [id in special or (bool(text) and not carries_on(text)) for id, text in enumerate(texts)]
    mask = torch.zeros(n_outputs, dtype=torch.bool)
    mask[: len(boundary)] = torch.tensor(boundary[:n_outputs])
    return mask


def boundary_log_probability(
    log_probabilities: Float[Tensor, "*axes token"], boundary: Bool[Tensor, " token"]
) -> Float[Tensor, "*axes"]:
    """Returns ln p(B) after each of the given positions."""
    return log_probabilities[..., boundary].logsumexp(dim=-1)


def token_log_probabilities(
    log_p: Float[Tensor, "row column vocabulary"], ids: Sequence[Sequence[int]]
) -> Float[Tensor, "row token"]:
    """Returns ln p of each row's tokens, where column i of log_p predicts token i; shorter rows end in zeros. On the CPU."""
    width = max(len(row) for row in ids)
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=log_p.device)
    real = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in ids])
    return torch.where(real, log_p[:, :width].gather(-1, tokens[:, :, None]).squeeze(-1).double().cpu(), 0.0)
