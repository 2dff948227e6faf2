"""What the units of a function-token run read, counted with the model's tokenizer before anything is measured."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from interp.experiments.experiment import WorkUnit
from interp.experiments.work import Work, total
from interp.models.dictionary.windows import Windows
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning
from interp.tables import Tables
from probes.function_tokens.causes import CELL_STREAM, EARLIEST, PROMPT_STREAM, ROWS_AT_ONCE, cells_of, prompt_windows
from probes.function_tokens.inputs import CHECK_WINDOWS, Corpus, document_slices, prepare_corpus
from probes.function_tokens.plan import (
    CheckUnit,
    GraphUnit,
    LossUnit,
    PromptUnit,
    SteeringUnit,
    plan_units,
    units_after_check,
)
from probes.function_tokens.settings import Settings


def expected_units(settings: Settings, model: LanguageModel, measured: Tables) -> Sequence[WorkUnit]:
    """Returns the units of the plan; until the corpus is checked, its blocks are counted here."""
    units = plan_units(settings, model.facts, measured)
    if len(units) > 1:
        return units
    n_blocks = int(corpus_of(settings, model).block.max()) + 1
    return [*units, *units_after_check(settings, model.facts, n_blocks)]


def work_of(settings: Settings, model: LanguageModel, unit: WorkUnit) -> Work | None:
    """Returns what a unit reads and holds. Prompts are taken to be as long as they are on average."""
    corpus = corpus_of(settings, model)
    if isinstance(unit, CheckUnit):
        n = len(settings.dictionary_names(model.identity.name)) if settings.needs_dictionary else 0
        first = corpus.windows[slice(0, CHECK_WINDOWS)]
        return Work(tokens_read=n * first.ids.numel(), tokens_held=0)
    if isinstance(unit, GraphUnit):
        return total(_document(text) for text in _documents(corpus, unit.block))
    if isinstance(unit, LossUnit):
        budget = settings.loss_tokens / (int(corpus.block.max()) + 1)
        work, read = Work(), 0
        for text in _documents(corpus, unit.block):
            if read >= budget:
                break
            read += text.n_tokens
            work += _document(text)
        return work
    if isinstance(unit, SteeringUnit):
        return _steering(settings, corpus, unit)
    return _reactivation(corpus, unit) if isinstance(unit, PromptUnit) else None


@lru_cache(maxsize=1)
def corpus_of(settings: Settings, model: LanguageModel) -> Corpus:
    """Returns the corpus of a run. Whether its windows begin with a token of the beginning is asked of no dictionary here."""
    names = settings.dictionary_names(model.identity.name) if settings.needs_dictionary else []
    folders = [Path(name) for name in names if Path(name).is_dir()]
    return prepare_corpus(settings, model, folders, beginning(model.tokenizer, settings.bos))


def _documents(corpus: Corpus, block: int) -> list[Windows]:
    windows = corpus.block_windows(block)
    return [windows[rows] for rows in document_slices(windows)]


def _document(text: Windows) -> Work:
    return Work(tokens_read=text.ids.numel(), tokens_held=text.ids.numel())


def _n_prompts(corpus: Corpus, unit: PromptUnit) -> int:
    usable = int((corpus.windows.lengths >= EARLIEST + 8).sum())
    return max(0, min(unit.first_prompt + unit.n_prompts, usable) - unit.first_prompt)


def _reactivation(corpus: Corpus, unit: PromptUnit) -> Work:
    """Every window once, then three times as far as the latest token that is looked at."""
    n, width = _n_prompts(corpus, unit), corpus.windows.ids.shape[1]
    most = min(n, ROWS_AT_ONCE)
    latest = EARLIEST + (width - EARLIEST) * most / (most + 1)
    return Work(tokens_read=round(n * (width + 3 * latest)), tokens_held=round(3 * most * latest))


def _steering(settings: Settings, corpus: Corpus, unit: PromptUnit) -> Work:
    """Every window once, then for each of its places the text up to there, unchanged and with two vectors."""
    order = prompt_windows(corpus, settings.seed, PROMPT_STREAM)
    read = 0
    for prompt in range(unit.first_prompt, min(unit.first_prompt + unit.n_prompts, len(order))):
        first = int(order[prompt])
        ids = corpus.windows[slice(first, first + 1)].ids[0]
        cells = cells_of(corpus, ids, np.random.default_rng([settings.seed, CELL_STREAM, prompt]))
        read += sum(3 * (cell.last + 1) for cell in cells) + (len(ids) if cells else 0)
    return Work(tokens_read=read, tokens_held=3 * corpus.windows.ids.shape[1])
