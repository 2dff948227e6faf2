"""What a unit of context_recall reads, counted on its first sample with the model's tokenizer."""

from interp.experiments.experiment import Work, WorkUnit
from interp.heads.finding import BLOCK_TOKENS, REPEATS
from interp.models.language.model import LanguageModel
from probes.context_recall.draft import Question
from probes.context_recall.heads import ANSWER_WORDS, CONTEXT_TOKENS
from probes.context_recall.measure import build_sample
from probes.context_recall.natural import REPLACED_PER_TEXT
from probes.context_recall.plan import CellUnit, HeadsUnit, NaturalUnit
from probes.context_recall.settings import LONGEST_QUESTION, Settings
from probes.context_recall.words import words_of


def work_of_unit(settings: Settings, model: LanguageModel, unit: WorkUnit) -> Work:
    """Returns the tokens that a unit reads; its samples count as long as the first."""
    if isinstance(unit, HeadsUnit):
        needle = CONTEXT_TOKENS + LONGEST_QUESTION // 2 + ANSWER_WORDS
        return Work(settings.finding_needles * needle + BLOCK_TOKENS * REPEATS, 0, max(needle, BLOCK_TOKENS * REPEATS))
    if isinstance(unit, NaturalUnit):
        n = settings.natural_tokens
        rows = 1 + len(unit.sets)
        return Work(n * (rows + REPLACED_PER_TEXT // 2), 0, n * rows)
    assert isinstance(unit, CellUnit)
    sample = build_sample(settings, model, unit, 0, words_of(model.tokenizer, settings.words))
    rows = 1 + len(unit.sets) + len(unit.cuts) + len(unit.moves)
    asked = sum(rows * _read_for(question) for question in sample.questions)
    controls = 1 + (sample.without[0] is not None)
    n = len(sample.ids)
    answered = sum(len(unit.kept) * _read_under_policies(question) for question in sample.questions)
    under_policies = unit.kept_samples * (n + answered) if unit.kept else 0
    return Work(
        unit.samples * (controls * n + asked) + under_policies,
        0,
        n + max(rows * _read_for(one) for one in sample.questions),
    )


def _read_for(question: Question) -> int:
    """Tokens of a question, and of all but the last token of every value."""
    return len(question.ids) + sum(len(value) - 1 for value in (*question.right, *question.wrong))


def _read_under_policies(question: Question) -> int:
    """Tokens of a question, and of all but the last token of a right value, for each of these."""
    return sum(len(question.ids) + len(value) - 1 for value in question.right)
