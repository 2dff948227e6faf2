"""Surprisal of every noun of a batch of trials: what trials share is read once, and vocabulary scores are made for lists only.

A batch reads preface and first list; then for each intervening text it reads on from there, and for each second list from
the end of that text, stepping back in between. Nothing is copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.encoding import token_texts
from interp.models.history import History
from interp.models.language import LanguageModel
from interp.models.prefix import Prefix
from interp.models.token_bytes import token_bytes
from probes.verbatim_memory.exact import exact_probabilities
from probes.verbatim_memory.vignettes import EncodedList
from probes.verbatim_memory.word_probability import Spellings, boundary_log_probability, boundary_tokens


@dataclass(frozen=True)
class Vocabulary:
    """What words need to know of a tokenizer: which tokens end a word, and what each spells."""

    boundary: Bool[Tensor, " token"]
    tokenizer: Any

    @classmethod
    def of(cls, model: LanguageModel) -> "Vocabulary":
        """Returns the vocabulary of a model's tokenizer."""
        tokenizer: Any = model.tokenizer
        n_outputs = model.hf.config.get_text_config(decoder=True).vocab_size
        boundary = boundary_tokens(token_texts(tokenizer), tokenizer.all_special_ids, n_outputs)
        return cls(boundary.to(model.device), tokenizer)

    @cached_property
    def spellings(self) -> Spellings[bytes]:
        """Which tokens spell what. Raises UserError where tokens cannot be turned into bytes."""
        try:
            return Spellings(token_bytes(self.tokenizer))
        except UserError as error:
            raise UserError(f"{error} Leave the exact probability out with --exact-rotations 0.") from error

    def spelled(self, ids: Sequence[int], noun: str) -> list[bytes]:
        """Returns the bytes of a noun's own tokens, as the tokenizer writes it: lower-cased where it does that.

        Raises ArgumentError when one of them stands for no text.
        """
        found = [part for id in ids if (part := self.spellings.parts[id])]
        if len(found) < len(ids):
            raise ArgumentError(f"The tokenizer spells the noun {noun} with a special token: leave it out of the pool.")
        return found


@dataclass(frozen=True)
class WordSurprisal:
    """Surprisal of one word in the modes that were asked for, in nats; `left_out_share` belongs to the exact mode."""

    surprisal_nats: Mapping[str, float]
    left_out_share: float = float("nan")


def read_lists(
    model: LanguageModel,
    rows: Prefix | History,
    before: Float[Tensor, "row one vocabulary"],
    lists: Sequence[EncodedList],
    vocabulary: Vocabulary,
    *,
    exact_rows: Sequence[int] = (),
    exact_threshold: float = 1e-3,
) -> list[list[WordSurprisal]]:
    """Reads one list per row, in place, and returns the surprisal of its nouns.

    `before` are the logits after what the rows have read so far. Rows named in `exact_rows` get the exact mode too.
    """
    ids = [list(one.ids) for one in lists]
    starts = rows.lengths
    logits = model.extend(rows, ids, logits="all")
    log_p = torch.log_softmax(torch.cat([before, logits], dim=1), dim=-1)  # column i predicts token i of the list
    taken = token_log_probabilities(log_p, ids)
    ends = boundary_log_probability(log_p, vocabulary.boundary).cpu()
    words = [
        [
            _word(float(taken[row, first:last].sum()), float(ends[row, first]), float(ends[row, last]))
            for first, last in one.spans
        ]
        for row, one in enumerate(lists)
    ]
    if exact_rows:
        found = exact_probabilities(model, rows, starts, lists, log_p, vocabulary, list(exact_rows), exact_threshold)
        for (row, noun), (log_probability, left_out) in found.items():
            begins = float(ends[row, lists[row].spans[noun][0]])
            modes = {**words[row][noun].surprisal_nats, "exact": begins - log_probability}
            words[row][noun] = WordSurprisal(modes, left_out)
    return words


def _word(log_probability: float, begins: float, ends: float) -> WordSurprisal:
    return WordSurprisal({"raw": -log_probability, "boundary": begins - log_probability - ends})


def token_log_probabilities(
    log_p: Float[Tensor, "row column vocabulary"], ids: Sequence[Sequence[int]]
) -> Float[Tensor, "row token"]:
    """Returns ln p of each row's tokens, where column i of log_p predicts token i; shorter rows end in zeros. On the CPU."""
    width = max(len(row) for row in ids)
    tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=log_p.device)
    real = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in ids])
    return torch.where(real, log_p[:, :width].gather(-1, tokens[:, :, None]).squeeze(-1).double().cpu(), 0.0)


def read_tail(
    model: LanguageModel, rows: Prefix | History, ids: Sequence[int], words: Sequence[tuple[str, tuple[int, int]]]
) -> tuple[Float[Tensor, "row one vocabulary"], list[list[tuple[str, tuple[int, ...], float]]]]:
    """Reads the same tokens in every row, in place; returns the logits after them and the raw surprisal of the last words.

    `words` are those words with their tokens [first, last), in order.
    """
    begin = words[0][1][0]
    if begin:
        before = model.extend(rows, [ids[:begin]] * rows.n_rows)
    else:  # what predicts the first word was read before: its last token is read once more
        last = [[row[-1]] for row in rows.ids]
        rows.crop([length - 1 for length in rows.lengths])
        before = model.extend(rows, last)
    logits = model.extend(rows, [ids[begin:]] * rows.n_rows, logits="all")
    log_p = torch.log_softmax(torch.cat([before, logits], dim=1), dim=-1)
    taken = token_log_probabilities(log_p, [ids[begin:]] * rows.n_rows)
    tails = [
        [
            (word, tuple(ids[first:last]), -float(taken[row, first - begin : last - begin].sum()))
            for word, (first, last) in words
        ]
        for row in range(rows.n_rows)
    ]
    return logits[:, -1:], tails
