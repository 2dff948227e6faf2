"""What a run measures on: the texts cut into windows and blocks, and the dictionaries, checked against what is published of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import ArgumentError
from interp.kept import kept_while_unchanged
from interp.models.dictionary.dictionary import Dictionary, training_texts
from interp.models.dictionary.fidelity import Fidelity, explained, refuse_mismatch
from interp.models.dictionary.windows import Windows, cut_windows, text_name, tokenize
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import check_layer, read_residuals
from interp.models.loading.refusals import check_ids
from interp.models.tokens.encoding import BosPolicy, beginning
from interp.stimuli.prose import news_articles, read_folder
from probes.function_tokens.settings import Settings
from probes.function_tokens.token_classes import FUNCTION, classify, token_ranks

CHECK_WINDOWS = 24
"""Windows that a dictionary is checked on."""
WINDOWS_AT_ONCE = 64
"""Windows of one text that are read at one time: longer texts are read in parts, so that memory does not grow with a text."""


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
        return token_ranks(self.classes, int(self.windows.ids.max()))


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


@dataclass(frozen=True, eq=False)
class Loaded:
    """A dictionary that fits the model, and the residual length above which a position is an attention sink."""

    dictionary: Dictionary
    norm_limit: float
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class Inputs:
    """A run's model, corpus and dictionaries (by the name in its settings)."""

    settings: Settings
    model: LanguageModel
    corpus: Corpus
    loaded: dict[str, Loaded]

    @property
    def layers(self) -> list[int]:
        """The layers that dictionaries belong to, each once."""
        return sorted({one.dictionary.layer for one in self.loaded.values()})

    def counted(self, windows: Windows) -> Tensor:
        """Returns which positions may be counted: not padding, not special, not among the first of their window."""
        return windows.present(self.settings.skip_first) & ~special_positions(windows, self.model)


@kept_while_unchanged(lambda settings, _: settings.input_files(), maxsize=1)
def set_up(settings: Settings, model: LanguageModel) -> Inputs:
    """Returns the inputs of a run; units of the same run in the same process share it.

    Raises UserError when corpus or dictionaries cannot be used: before anything is counted.
    """
    names = settings.dictionary_names(model.identity.name) if settings.needs_dictionary else []
    dictionaries: dict[str, Dictionary] = {}
    for name in names:
        dictionary = Dictionary.load(name, device=str(model.device))
        dictionary.check_fits(model, other_model=settings.allow_other_model)
        check_layer(model, dictionary.layer)
        _check_positions(settings, dictionary)
        dictionaries[name] = dictionary
    before = window_beginning(settings, model, list(dictionaries.values()))
    corpus = prepare_corpus(settings, model, [Path(name) for name in names if Path(name).is_dir()], before)
    inputs = Inputs(settings, model, corpus, {})
    for name, dictionary in dictionaries.items():
        inputs.loaded[name] = _checked(inputs, dictionary)
    return inputs


def window_beginning(settings: Settings, model: LanguageModel, dictionaries: list[Dictionary]) -> list[int]:
    """Returns what every window begins with: under --bos auto as in the training of the dictionaries, and where nothing is said
    of that, what the tokenizer writes by itself.

    Raises ArgumentError when dictionaries were trained one with and one without it, or when the tokenizer has none.
    """
    if settings.bos != "auto":
        return beginning(model.tokenizer, settings.bos)
    said = {one.training.prepend_bos: one.name for one in dictionaries if one.training.prepend_bos is not None}
    if len(said) == 2:
        raise ArgumentError(
            f"{said[True]} was trained on windows that begin with the beginning-of-sequence token and {said[False]} on windows that do "
            "not: measure them in two runs, or give --bos always or never for both."
        )
    if True in said and model.tokenizer.bos_token_id is None:
        raise ArgumentError(
            f"{said[True]} was trained on windows that begin with the beginning-of-sequence token, and the tokenizer of "
            f"{model.identity.name} has none: give --bos never to measure without it."
        )
    policy: BosPolicy = "auto" if not said else "always" if True in said else "never"
    return beginning(model.tokenizer, policy)


def _check_positions(settings: Settings, dictionary: Dictionary) -> None:
    """Raises ArgumentError when windows are longer than in training, or positions counted that were left out there."""
    training = dictionary.training
    if training.context_tokens is not None and settings.context_tokens > training.context_tokens:
        raise ArgumentError(
            f"{dictionary.name} was trained on windows of {training.context_tokens} tokens, and --context-tokens is "
            f"{settings.context_tokens}: use at most {training.context_tokens}."
        )
    if settings.skip_first < training.first_position:
        raise ArgumentError(
            f"{dictionary.name} was trained without the first {training.first_position} positions of a window: use --skip-first "
            f"{training.first_position} or more."
        )


def _checked(inputs: Inputs, dictionary: Dictionary) -> Loaded:
    """Holds a dictionary against what is published of it, on the first windows of the corpus."""
    windows = inputs.corpus.windows[slice(0, CHECK_WINDOWS)]
    residuals = read_residuals(inputs.model, windows.ids, [dictionary.layer])[dictionary.layer].float().cpu()
    vectors = residuals[inputs.counted(windows)]
    norms = vectors.norm(dim=1)
    median = float(dictionary.card.get("median_norm") or norms.median())
    limit = inputs.settings.norm_limit * median
    fidelity = explained(dictionary, vectors[norms <= limit])
    refuse_mismatch(dictionary, fidelity, inputs.settings.expected_l0, inputs.settings.expected_explained_variance)
    return Loaded(dictionary, limit, fidelity)


def special_positions(windows: Windows, model: LanguageModel) -> Tensor:
    """Returns which positions hold a special token: they stay in the context and are not counted."""
    special = torch.tensor(sorted(model.tokenizer.all_special_ids), dtype=torch.long)
    return torch.isin(windows.ids, special)


def parts_of(text: Windows) -> list[Windows]:
    """Returns the windows of one text as many at a time as are read together, each part as wide as the whole."""
    starts = range(0, len(text), WINDOWS_AT_ONCE)
    rows = [slice(first, first + WINDOWS_AT_ONCE) for first in starts]
    return [
        Windows(text.ids[part], text.lengths[part], text.document[part], text.start[part], text.n_before)
        for part in rows
    ]


def document_slices(windows: Windows) -> list[slice]:
    """Returns the rows of each text, in order: a text is read by itself, so what is computed does not depend on its neighbours."""
    first = [0, *(row for row in range(1, len(windows)) if windows.document[row] != windows.document[row - 1])]
    return [slice(begin, end) for begin, end in zip(first, [*first[1:], len(windows)], strict=True)]
