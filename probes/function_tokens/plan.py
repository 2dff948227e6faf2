"""Which units a run needs: first what everything rests on, then blocks of texts, losses, knock-outs and steering.

And what each unit reads, counted with the model's tokenizer. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interp.experiments.experiment import Work, WorkUnit, total
from interp.kept import kept_while_unchanged
from interp.models.identity import ModelFacts
from probes.function_tokens.settings import Settings

if TYPE_CHECKING:
    from interp.models.dictionary.windows import Windows
    from interp.models.language.model import LanguageModel
    from interp.tables import Tables
    from probes.function_tokens.inputs import Corpus

PROMPTS_PER_UNIT = 48


@dataclass(frozen=True)
class CheckUnit(WorkUnit):
    """Counts token classes and holds every dictionary against what is published of it."""


@dataclass(frozen=True)
class GraphUnit(WorkUnit):
    """Counts pairs of tokens and features in one block of texts, for all dictionaries."""

    block: int


@dataclass(frozen=True)
class LossUnit(WorkUnit):
    """Measures prediction losses in the texts of one block."""

    block: int


@dataclass(frozen=True)
class PromptUnit(WorkUnit):
    """Knock-outs or steering in prompts of one dictionary."""

    dictionary: str
    """Its name as given in the settings."""
    first_prompt: int
    n_prompts: int


@dataclass(frozen=True)
class ReactivationUnit(PromptUnit):
    """Knocks out attention to where a feature was active before."""


@dataclass(frozen=True)
class SteeringUnit(PromptUnit):
    """Adds features at function and content tokens, last and earlier."""


def plan_units(settings: Settings, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the check, and once it has been measured everything else."""
    units: list[WorkUnit] = [CheckUnit("check")]
    if "token_classes" not in measured or not len(measured["token_classes"]):
        return units
    return [*units, *units_after_check(settings, facts, int(measured["blocks"]["block"].max()) + 1)]


def units_after_check(settings: Settings, facts: ModelFacts, n_blocks: int) -> list[WorkUnit]:
    """Returns all units but the check, for a corpus of so many blocks."""
    units: list[WorkUnit] = []
    if "graph" in settings.parts:
        units += [GraphUnit(f"graph-{block:03d}", block) for block in range(n_blocks)]
    if "losses" in settings.parts:
        units += [LossUnit(f"losses-{block:03d}", block) for block in range(n_blocks)]
    names = settings.dictionary_names(facts.name) if settings.needs_dictionary else []
    for part, kind, n_prompts in (
        ("reactivation", ReactivationUnit, settings.reactivation_prompts),
        ("steering", SteeringUnit, settings.steering_prompts),
    ):
        if part in settings.parts:
            units += [
                kind(f"{part}-{index}-{first:05d}", name, first, min(PROMPTS_PER_UNIT, n_prompts - first))
                for index, name in enumerate(names)
                for first in range(0, n_prompts, PROMPTS_PER_UNIT)
            ]
    return units


# ---------------------------------------------------------------------- what units read


def expected_units(settings: Settings, model: "LanguageModel", measured: "Tables") -> Sequence[WorkUnit]:
    """Returns the units of the plan; until the corpus is checked, its blocks are counted here."""
    units = plan_units(settings, model.facts, measured)
    if len(units) > 1:
        return units
    n_blocks = int(corpus_of(settings, model).block.max()) + 1
    return [*units, *units_after_check(settings, model.facts, n_blocks)]


def work_of(settings: Settings, model: "LanguageModel", unit: WorkUnit) -> Work | None:
    """Returns what a unit reads and holds. Prompts are taken to be as long as they are on average."""
    from probes.function_tokens.inputs import CHECK_WINDOWS

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


@kept_while_unchanged(lambda settings, _: settings.input_files(), maxsize=1)
def corpus_of(settings: Settings, model: "LanguageModel") -> "Corpus":
    """Returns the corpus of a run. Whether its windows begin with a token of the beginning is asked of no dictionary here."""
    from interp.models.tokens.encoding import beginning
    from probes.function_tokens.inputs import prepare_corpus

    names = settings.dictionary_names(model.identity.name) if settings.needs_dictionary else []
    folders = [Path(name) for name in names if Path(name).is_dir()]
    return prepare_corpus(settings, model, folders, beginning(model.tokenizer, settings.bos))


def _documents(corpus: "Corpus", block: int) -> "list[Windows]":
    from probes.function_tokens.inputs import document_slices

    windows = corpus.block_windows(block)
    return [windows[rows] for rows in document_slices(windows)]


def _document(text: "Windows") -> Work:
    return Work(tokens_read=text.ids.numel(), tokens_held=text.ids.numel())


def _n_prompts(corpus: "Corpus", unit: PromptUnit) -> int:
    from probes.function_tokens.causes import EARLIEST

    usable = int((corpus.windows.lengths >= EARLIEST + 8).sum())
    return max(0, min(unit.first_prompt + unit.n_prompts, usable) - unit.first_prompt)


def _reactivation(corpus: "Corpus", unit: PromptUnit) -> Work:
    """Every window once, then three times as far as the latest token that is looked at."""
    from probes.function_tokens.causes import EARLIEST, ROWS_AT_ONCE

    n, width = _n_prompts(corpus, unit), corpus.windows.ids.shape[1]
    most = min(n, ROWS_AT_ONCE)
    latest = EARLIEST + (width - EARLIEST) * most / (most + 1)
    return Work(tokens_read=round(n * (width + 3 * latest)), tokens_held=round(3 * most * latest))


def _steering(settings: Settings, corpus: "Corpus", unit: PromptUnit) -> Work:
    """Every window once, then for each of its places the text up to there, unchanged and with two vectors."""
    import numpy as np

    from probes.function_tokens.causes import CELL_STREAM, PROMPT_STREAM, cells_of, prompt_windows

    order = prompt_windows(corpus, settings.seed, PROMPT_STREAM)
    read = 0
    for prompt in range(unit.first_prompt, min(unit.first_prompt + unit.n_prompts, len(order))):
        first = int(order[prompt])
        ids = corpus.windows[slice(first, first + 1)].ids[0]
        cells = cells_of(corpus, ids, np.random.default_rng([settings.seed, CELL_STREAM, prompt]))
        read += sum(3 * (cell.last + 1) for cell in cells) + (len(ids) if cells else 0)
    return Work(tokens_read=read, tokens_held=3 * corpus.windows.ids.shape[1])
