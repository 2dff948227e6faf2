"""Reads a batch of trials, one per row, for the surprisal of every noun; shared prefixes are read once.

A batch reads preface and first list; then for each intervening text it reads on from there, and for each second list from
the end of that text, stepping back in between. Nothing is copied, and vocabulary scores are made for lists only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History, Prefix
from interp.models.language.word_surprisal import read_words
from interp.models.language.word_tokens import EncodedWords, Vocabulary, WordSurprisal, token_log_probabilities
from probes.verbatim_memory.lists import FirstList, second_list
from probes.verbatim_memory.plan import ListUnit
from probes.verbatim_memory.settings import Settings
from probes.verbatim_memory.trials import (
    TAIL_WORDS,
    common_beginning,
    encode_list,
    encode_preface,
    encode_text,
    last_words,
    read_texts,
)


@dataclass(frozen=True)
class Reading:
    """A model that reads a batch of trials, one per row."""

    settings: Settings
    model: LanguageModel
    unit: ListUnit
    everyone: Sequence[FirstList]
    vocabulary: Vocabulary

    def rows_of(self, firsts: list[FirstList]) -> list[dict[str, Any]]:
        """Returns the rows of some trials: the first list once per preface, the second under every text and condition."""
        found: list[dict[str, Any]] = []
        prefaces = dict.fromkeys("short" if context == "short" else "intact" for context, _ in self.unit.betweens)
        for preface in prefaces:
            texts = [(context, n) for context, n in self.unit.betweens if (context == "short") == (preface == "short")]
            rows, words = self._read_first(preface, firsts)
            found += self._first_rows(preface, firsts, words)
            after_first, last = rows.lengths, ()
            for context, n in texts:
                text = self._texts.between(context, n, self.settings.seed)
                ids = encode_text(self.model.tokenizer, text)
                tail = last_words(self.model.tokenizer, text, TAIL_WORDS)
                kept = min(common_beginning(last, ids), tail[0][1][0])  # longer texts begin with the shorter ones
                rows.crop([length + kept for length in after_first])
                found += self._read_second(rows, context, n, firsts, ids, kept, tail)
                last = ids
        return found

    def _read_first(
        self, preface: str, firsts: list[FirstList]
    ) -> tuple[Prefix | History, list[tuple[EncodedWords, list[WordSurprisal]]]]:
        tokenizer = self.model.tokenizer
        before = encode_preface(tokenizer, self._texts.before(preface), self.settings.bos, self.model.identity.name)
        lists = [encode_list(tokenizer, first.nouns) for first in firsts]
        rows = self.model.rows(
            len(firsts), 3 * max(len(one.ids) for one in lists) + len(before) + self._longest_between()
        )
        logits = self.model.extend(rows, [before] * len(firsts))
        words = self._read(rows, logits, firsts, lists, exact=preface == "intact")
        return rows, list(zip(lists, words, strict=True))

    def _read_second(
        self,
        rows: Prefix | History,
        context: str,
        n: int,
        firsts: list[FirstList],
        ids: tuple[int, ...],
        kept: int,
        last: list[tuple[str, tuple[int, int]]],
    ) -> Iterator[dict[str, Any]]:
        """Reads on through the text between, of which the rows know the first `kept` tokens, and every second list."""
        tokenizer = self.model.tokenizer
        cell = {"context_type": context, "intervening": n, "intervening_tokens": len(ids)}
        unread = [(word, (first - kept, end - kept)) for word, (first, end) in last]
        logits, tail = read_tail(self.model, rows, ids[kept:], unread)
        after_text = rows.lengths
        exact = (context, n) == self.unit.betweens[0]
        for condition in self.settings.conditions:
            seconds = [second_list(condition, first, self.everyone, self.settings.seed) for first in firsts]
            lists = [encode_list(tokenizer, nouns) for nouns in seconds]
            words = self._read(rows, logits, firsts, lists, exact=exact)
            rows.crop(after_text)
            for row, first in enumerate(firsts):
                named = {**self._names(first), **cell, "condition": condition}
                yield from _rows(named, 2, lists[row], words[row])
                for position, (word, tokens, surprisal) in enumerate(tail[row], start=-len(tail[row])):
                    yield _row(named, 0, position, word, tokens, "raw", surprisal)

    def _read(
        self,
        rows: Prefix | History,
        logits: Float[Tensor, "row one vocabulary"],
        firsts: list[FirstList],
        lists: list[EncodedWords],
        *,
        exact: bool,
    ) -> list[list[WordSurprisal]]:
        n_exact = self.settings.exact_rotations if exact and self.unit.exact else 0
        return read_words(
            self.model,
            rows,
            logits,
            lists,
            self.vocabulary,
            exact_rows=[row for row, first in enumerate(firsts) if first.rotation < n_exact],
            exact_threshold=self.settings.exact_threshold,
        )

    def _first_rows(
        self, preface: str, firsts: list[FirstList], words: list[tuple[EncodedWords, list[WordSurprisal]]]
    ) -> Iterator[dict[str, Any]]:
        cell = {"context_type": preface, "intervening": 0, "intervening_tokens": 0, "condition": "first"}
        for first, (encoded, surprisals) in zip(firsts, words, strict=True):
            yield from _rows({**self._names(first), **cell}, 1, encoded, surprisals)

    def _names(self, first: FirstList) -> dict[str, Any]:
        return {
            "variant": self.unit.variant,
            "trial_id": first.id,
            "pool": self.unit.pool,
            "base_list": first.base_list,
            "rotation": first.rotation,
            "list_length": self.unit.list_length,
        }

    @property
    def _texts(self) -> Any:
        return read_texts(self.settings.texts)

    def _longest_between(self) -> int:
        texts = [self._texts.between(context, n, self.settings.seed) for context, n in self.unit.betweens]
        return max(len(encode_text(self.model.tokenizer, text)) for text in texts)


def _rows(
    named: dict[str, Any], index: int, encoded: EncodedWords, words: list[WordSurprisal]
) -> Iterator[dict[str, Any]]:
    for position, (noun, (start, end), word) in enumerate(zip(encoded.words, encoded.spans, words, strict=True)):
        for mode, surprisal in word.surprisal_nats.items():
            left_out = word.left_out_share if mode == "exact" else float("nan")
            yield _row(named, index, position, noun, encoded.ids[start:end], mode, surprisal, left_out)


def _row(
    named: dict[str, Any],
    index: int,
    position: int,
    noun: str,
    tokens: Sequence[int],
    mode: str,
    surprisal: float,
    left_out: float = float("nan"),
) -> dict[str, Any]:
    return {
        **named,
        "list_index": index,
        "position": position,
        "noun": noun,
        "token_ids": list(tokens),
        "mode": mode,
        "surprisal_nats": surprisal,
        "left_out_share": left_out,
    }


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
