"""What the calibration of a critical-token run reads and writes, counted with the model's tokenizer before anything is measured."""

from interp.experiments.experiment import WorkUnit
from interp.experiments.work import Work
from interp.models.language.model import LanguageModel
from probes.critical_tokens.plan import ProblemUnit
from probes.critical_tokens.problems import find_problem
from probes.critical_tokens.responses import prompt_ids, setting_of
from probes.critical_tokens.settings import Settings


def work_of(settings: Settings, model: LanguageModel, unit: WorkUnit) -> Work | None:
    """Returns what the responses to a problem read and write; None for units that depend on responses."""
    if not isinstance(unit, ProblemUnit):
        return None
    problem = find_problem(settings, unit.level, unit.index)
    prompt = len(prompt_ids(model, problem.prompt, setting_of(settings, model)))
    rows = min(settings.batch_rows, settings.responses_per_problem)
    return Work(
        tokens_read=prompt,
        tokens_written=settings.responses_per_problem * settings.max_new_tokens,
        tokens_held=prompt + rows * settings.max_new_tokens,
    )
