"""One trial in one piece: the tokens of preface, first list, text between and second list, and where the nouns are.

For measures that need a whole trial at once. Surprisals of the full grid come from `units`, which reads shared parts once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.models.encoding import BosPolicy
from probes.verbatim_memory.lists import FirstList
from probes.verbatim_memory.texts import Texts
from probes.verbatim_memory.vignettes import EncodedList, encode_list, encode_preface, encode_text


@dataclass(frozen=True)
class Trial:
    """The tokens of a trial and of its lists."""

    first: FirstList
    ids: tuple[int, ...]
    lists: tuple[EncodedList, EncodedList]
    starts: tuple[int, int]
    """Position of each list's first token."""

    def noun_spans(self, list_index: int) -> list[tuple[int, int]]:
        """Returns each noun's positions [first, last) in list 1 or 2."""
        start = self.starts[list_index - 1]
        return [(start + first, start + last) for first, last in self.lists[list_index - 1].spans]

    def noun_starts(self, list_index: int) -> Int[Tensor, " noun"]:
        """Returns the position of each noun's first token in list 1 or 2."""
        return torch.tensor([first for first, _ in self.noun_spans(list_index)])


def build_trial(
    tokenizer: PreTrainedTokenizerBase,
    texts: Texts,
    first: FirstList,
    second: tuple[str, ...],
    *,
    context: str,
    intervening: int,
    bos: BosPolicy,
    seed: int,
) -> Trial:
    """Returns a trial as tokens; each part is encoded by itself, as everywhere in this experiment."""
    before = encode_preface(tokenizer, texts.before(context), bos, str(tokenizer.name_or_path))
    lists = encode_list(tokenizer, first.nouns), encode_list(tokenizer, second)
    between = encode_text(tokenizer, texts.between(context, intervening, seed))
    ids = (*before, *lists[0].ids, *between, *lists[1].ids)
    return Trial(first, ids, lists, (len(before), len(ids) - len(lists[1].ids)))
