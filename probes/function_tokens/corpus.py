"""The texts of a run: which are measured, in which blocks, and which only tell how frequent tokens are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.boundaries import check_ids
from interp.models.dictionary import training_texts
from interp.models.harvest import text_name
from interp.models.language import LanguageModel
from interp.models.windows import Windows, cut_windows, tokenize
from interp.prose import news_articles, read_folder
from probes.function_tokens.settings import Settings
from probes.function_tokens.token_classes import FUNCTION, classify

Stratum = Literal["block", "document", "position"]
STRATA: tuple[Stratum, ...] = ("block", "document", "position")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Windows of the measured texts, the block each text belongs to, and the classes of tokens."""

    windows: Windows
    block: NDArray[np.int64]
    """Block of each measured text: blocks are what is resampled for intervals, and what a unit of work measures."""
    classes: pd.DataFrame
    """See token_classes.classify."""
    other_texts: Sequence[Sequence[int]]
    """Token ids of the texts that classes and bigrams are counted in."""
    in_sample: bool
    """Whether the classes come from the measured texts themselves, because there were no others."""
    left_out: int
    """Texts left out because a dictionary was trained on them."""

    def block_windows(self, block: int) -> Windows:
        """Returns the windows of one block."""
        rows = np.flatnonzero(self.block[self.windows.document] == block)
        return self.windows[slice(int(rows[0]), int(rows[-1]) + 1)]

    def function_ids(self) -> NDArray[np.int64]:
        """Returns the ids of the function tokens."""
        return self.classes.loc[self.classes["token_class"] == FUNCTION, "token_id"].to_numpy(copy=True)

    def rank(self) -> NDArray[np.int32]:
        """Returns each token id's frequency rank (1 is the most frequent); ids that never occurred come after all others."""
        size = int(max(self.classes["token_id"].max(), self.windows.ids.max())) + 1
        unseen = len(self.classes) + 1 + np.arange(size)
        unseen[self.classes["token_id"]] = self.classes["rank"]
        return unseen.astype(np.int32)


def prepare_corpus(
    settings: Settings, model: LanguageModel, dictionaries: Sequence[Path], beginning: Sequence[int] = ()
) -> Corpus:
    """Returns the corpus of a run: texts in a random order that the seed decides, the first `tokens` tokens measured.

    Every window starts with the ids of `beginning`.
    Raises ArgumentError when the corpus is empty or no text fills a context, UserError when one has an added token that the
    model has no embedding for.
    """
    texts = read_folder(settings.corpus) if settings.corpus else news_articles()
    seen = training_texts(dictionaries)
    kept = [text for text in texts if text.strip() and text_name(text) not in seen]
    if not kept:
        raise ArgumentError("All texts of the corpus were used to train the dictionary: give another --corpus.")
    order = np.random.default_rng(settings.seed).permutation(len(kept))
    ids = [ids for ids in tokenize(model.tokenizer, [kept[index] for index in order]) if len(ids) > 1]
    n_ids = model.hf.config.get_text_config(decoder=True).vocab_size
    check_ids(model.identity.name, model.tokenizer, max((max(text) for text in ids), default=0), n_ids)
    before = np.cumsum([0, *(len(text) for text in ids)])
    n_measured = max(1, int(np.searchsorted(before[1:], settings.tokens)) + 1)
    measured, others = ids[:n_measured], ids[n_measured:]
    shortest = settings.skip_first + 2
    windows = cut_windows(measured, settings.context_tokens, shortest=shortest, beginning=beginning)
    middle = (before[: len(measured)] + before[1 : len(measured) + 1]) / 2
    block = (middle / before[len(measured)] * settings.blocks).astype(np.int64)
    block = np.unique(block, return_inverse=True)[1]  # a text longer than a block leaves no empty ones
    classes = classify(others or measured, settings.threshold, model.tokenizer, n_ids)
    left_out = len(texts) - len(kept)
    return Corpus(windows, block, classes, others or measured, in_sample=not others, left_out=left_out)


def dealt_anew(windows: Windows, kept: Tensor, stratum: Stratum, generator: np.random.Generator) -> Tensor:
    """Returns the windows' ids with those at `kept` positions dealt out anew: among all of them, among those of the same text,
    or among those at the same position of their windows.
    """
    rows, columns = (index.numpy() for index in kept.nonzero(as_tuple=True))
    strata = {"block": np.zeros_like(rows), "document": windows.document[rows], "position": columns}[stratum]
    home = torch.from_numpy(np.argsort(strata, kind="stable"))
    dealt = torch.from_numpy(np.lexsort((generator.random(len(rows)), strata)))
    ids, values = windows.ids.clone(), windows.ids[kept]
    values[home] = windows.ids[kept][dealt]
    ids[kept] = values
    return ids


def special_positions(windows: Windows, model: LanguageModel) -> Tensor:
    """Returns which positions hold a special token: they stay in the context and are not counted."""
    special = torch.tensor(sorted(model.tokenizer.all_special_ids), dtype=torch.long)
    return torch.isin(windows.ids, special)
