"""What a critical-token run measures, wave by wave: problems, trajectories, candidates on fresh draws, causal tests, adapters.

And what the calibration reads and writes. Functions of the settings and of what has been measured; imports no torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.errors import RunError
from interp.experiments.experiment import Work, WorkUnit
from probes.critical_tokens.critical import candidate_tokens, critical_tokens, first_tokens
from probes.critical_tokens.problems import file_problems, find_problem
from probes.critical_tokens.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from interp.models.language.model import LanguageModel
    from interp.tables import Tables

USABLE = (0.05, 0.95)
"""A level is usable if its success lies between these."""
UNSURE = (0.2, 0.8)
"""A problem is analysed if its V_0 lies between these (Abdin et al. 2024, the Phi-4 report, section 4.3)."""


@dataclass(frozen=True)
class ProblemUnit(WorkUnit):
    """All responses to one problem."""

    level: str
    index: int


@dataclass(frozen=True)
class TrajectoryUnit(WorkUnit):
    """The curve of V along one wrong trajectory, and the paper's rule."""

    trajectory_id: str
    token_ids: tuple[int, ...]
    draw_probability: tuple[float, ...] = ()
    """The probability that each token was drawn with."""
    thought: tuple[int, ...] = ()
    """What the model wrote before it, where it thinks."""


@dataclass(frozen=True)
class ConfirmUnit(WorkUnit):
    """Fresh pairs for the candidate tokens of one trajectory."""

    trajectory_id: str
    token_ids: tuple[int, ...]
    candidates: tuple[int, ...]
    draw_probability: tuple[float, ...] = ()
    thought: tuple[int, ...] = ()


@dataclass(frozen=True)
class ReplacementUnit(WorkUnit):
    """One critical token forbidden and kept, beside two other tokens forbidden."""

    trajectory_id: str
    token_ids: tuple[int, ...]
    position: int
    draw_probability: tuple[float, ...] = ()
    thought: tuple[int, ...] = ()


@dataclass(frozen=True)
class ContrastiveUnit(WorkUnit):
    """Two adapters, trained on problems that are not analysed, and their scores of every analysed trajectory."""

    right: tuple[tuple[str, tuple[int, ...]], ...]
    """Problem and tokens of each right response to train on."""
    wrong: tuple[tuple[str, tuple[int, ...]], ...]
    analysed: tuple[tuple[str, tuple[int, ...]], ...]
    """Trajectory and tokens of each response to score."""
    thoughts: tuple[tuple[tuple[int, ...], ...], ...] = ((), (), ())
    """The thought before each right response, each wrong one, and each trajectory; nothing where the model may not think."""


def plan_units(settings: Settings, model: str, measured: "Tables") -> Sequence[WorkUnit]:
    """Returns all units known to be needed."""
    responses = measured["trajectories"]
    units: list[WorkUnit] = list(_calibration(settings))
    answered = set(responses["problem_id"])
    if not {problem_key(unit) for unit in units if isinstance(unit, ProblemUnit)} <= answered:
        return units
    usable = usable_levels(settings, model, responses)
    if settings.calibrate_only:
        return units
    searched, complete = _search(settings, usable, responses)
    units += searched
    if not complete:
        return units
    ids = chosen_trajectories(settings, usable, responses)
    tokens = tokens_by_trajectory(responses)
    drawn = draw_probability_by_trajectory(responses)
    thoughts = thoughts_by_trajectory(settings, measured)
    units += [TrajectoryUnit(f"trajectory-{id}", id, tokens[id], drawn[id], thoughts.get(id, ())) for id in ids]
    if not set(ids) <= set(measured["spines"]["trajectory_id"]):
        return units
    return [*units, *_tests(settings, measured, ids)]


def problem_key(unit: ProblemUnit) -> str:
    """Returns the problem's id."""
    return f"{unit.level}-{unit.index}"


def _problem_unit(level: str, index: int) -> ProblemUnit:
    return ProblemUnit(f"problem-{level}-{index}", level, index)


def _calibration(settings: Settings) -> Iterator[ProblemUnit]:
    for level in levels_of(settings):
        for index in range(min(settings.calibration_problems, n_problems(settings))):
            yield _problem_unit(level, index)


def calibration_problem_ids(settings: Settings) -> set[str]:
    """Returns the problems that levels are calibrated on."""
    return {problem_key(unit) for unit in _calibration(settings)}


def levels_of(settings: Settings) -> list[str]:
    """Returns the names of the levels: those in the settings, or the file's only one."""
    return list(settings.levels) if settings.task_file is None else [settings.task_format]


def n_problems(settings: Settings) -> int:
    """Returns the maximum number of problems per level."""
    if settings.task_file is None:
        return settings.max_problems
    return min(settings.max_problems, len(file_problems(settings)))


def usable_levels(settings: Settings, model: str, responses: "pd.DataFrame") -> list[str]:
    """Returns the levels that the model sometimes solves, judged by their calibration problems.

    Raises RunError, with the calibration, where there is none (unless calibration is all that is asked).
    """
    rows = responses[responses["problem_id"].isin(calibration_problem_ids(settings))]
    success = (rows["outcome"] == "right").groupby(rows["level"], sort=False).mean()
    usable = [level for level in levels_of(settings) if USABLE[0] <= success[level] <= USABLE[1]]
    if not usable and not settings.calibrate_only:
        found = ", ".join(f"{level} {share:.0%}" for level, share in success.items())
        side = (
            "wrong" if success.max() < USABLE[0] else "right" if success.min() > USABLE[1] else "wrong or always right"
        )
        other = "harder ones" if side == "right" else "easier ones"
        where = "--levels" if settings.task_file is None else "--task-file"
        raise RunError(
            f"{model} is almost always {side} at every level ({found} right), so no token decides anything: give {other} with "
            f"{where}, or another --temperature."
        )
    return usable


def _search(settings: Settings, usable: list[str], responses: "pd.DataFrame") -> tuple[list[ProblemUnit], bool]:
    """The problems looked through beyond calibration, a round of all usable levels at a time, and whether that is all."""
    answered = set(responses["problem_id"])
    units: list[ProblemUnit] = []
    for index in range(settings.calibration_problems, n_problems(settings)):
        seen = responses[
            ~responses["problem_id"].isin([problem_key(unit) for unit in _beyond(usable, index, settings)])
        ]
        if len(chosen_trajectories(settings, usable, seen)) >= settings.n_trajectories:
            return units, True
        units += [_problem_unit(level, index) for level in usable]
        if not {problem_key(unit) for unit in units} <= answered:
            return units, False
    return units, True


def _beyond(usable: list[str], index: int, settings: Settings) -> list[ProblemUnit]:
    """Problems from that number on: a resumed run must not see further than an uninterrupted one did at this point."""
    return [_problem_unit(level, later) for level in usable for later in range(index, n_problems(settings))]


def chosen_trajectories(settings: Settings, usable: list[str], responses: "pd.DataFrame") -> list[str]:
    """Returns the trajectories to analyse: the first wrong one that ended by itself of each problem with V_0 in between."""
    rows = responses[responses["level"].isin(usable)]
    chosen = []
    for _, group in rows.groupby("problem_id", sort=False):
        success = (group["outcome"] == "right").mean()
        wrong = group[(group["outcome"] == "wrong") & group["ended"]]
        if UNSURE[0] <= success <= UNSURE[1] and len(wrong):
            chosen.append(str(wrong.iloc[0]["trajectory_id"]))
    return chosen[: settings.n_trajectories]


def tokens_by_trajectory(responses: "pd.DataFrame") -> dict[str, tuple[int, ...]]:
    """Returns the tokens of every response."""
    pairs = zip(responses["trajectory_id"], responses["token_ids"], strict=True)
    return {str(id): tuple(int(token) for token in ids) for id, ids in pairs}


def draw_probability_by_trajectory(responses: "pd.DataFrame") -> dict[str, tuple[float, ...]]:
    """Returns the probability with which every token of every response was drawn."""
    pairs = zip(responses["trajectory_id"], responses["draw_probability"], strict=True)
    return {str(id): tuple(float(one) for one in probability) for id, probability in pairs}


def thoughts_by_trajectory(settings: Settings, measured: "Tables") -> dict[str, tuple[int, ...]]:
    """Returns the tokens of the thought before every response; nothing for a model that may not think."""
    return tokens_by_trajectory(measured["thoughts"]) if settings.thinking_tokens else {}


def _tests(settings: Settings, measured: "Tables", ids: list[str]) -> Iterator[WorkUnit]:
    """The units that need every curve: fresh pairs for candidates, then causal tests and adapters."""
    cliffs = {"cliff", "pivot"} & set(settings.definitions) and settings.method == "recycled"
    tokens = tokens_by_trajectory(measured["trajectories"])
    drawn = draw_probability_by_trajectory(measured["trajectories"])
    thoughts = thoughts_by_trajectory(settings, measured)
    confirming = []
    if cliffs:
        found = {id: candidate_tokens(settings, measured, id) for id in ids}
        confirming = [
            ConfirmUnit(f"confirm-{id}", id, tokens[id], tried, drawn[id], thoughts.get(id, ()))
            for id, tried in found.items()
            if tried
        ]
    yield from confirming
    rollouts = measured["rollouts"]
    confirmed = set(rollouts[rollouts["arm"] == "without"]["trajectory_id"])
    if not {unit.trajectory_id for unit in confirming} <= confirmed:
        return
    if settings.replacement_rollouts:
        critical = critical_tokens(settings, measured)
        tokens_to_test = first_tokens(critical)[["trajectory_id", "position"]].drop_duplicates()
        for id, at in zip(tokens_to_test["trajectory_id"], tokens_to_test["position"], strict=True):
            own = (tokens[str(id)], int(at), drawn[str(id)], thoughts.get(str(id), ()))
            yield ReplacementUnit(f"replace-{id}-{at}", str(id), *own)
    contrastive = _contrastive_unit(settings, measured, ids)
    if contrastive is not None:
        yield contrastive


def _contrastive_unit(settings: Settings, measured: "Tables", ids: list[str]) -> ContrastiveUnit | None:
    """The first right and wrong responses, in turn over problems, of problems none of whose trajectories is analysed."""
    responses = measured["trajectories"]
    analysed = responses[responses["trajectory_id"].isin(ids)]
    others = responses[~responses["problem_id"].isin(analysed["problem_id"]) & responses["ended"]]
    others = others.sort_values("draw", kind="stable")
    n = settings.contrastive_examples
    tokens, thoughts = tokens_by_trajectory(responses), thoughts_by_trajectory(settings, measured)
    sides = [others[others["outcome"] == outcome].head(n) for outcome in ("right", "wrong")]
    right, wrong = (
        tuple((str(rows["problem_id"][i]), tokens[str(rows["trajectory_id"][i])]) for i in rows.index) for rows in sides
    )
    if not (n and ids and right and wrong):
        return None
    before = [tuple(thoughts.get(str(id), ()) for id in of) for of in (*(rows["trajectory_id"] for rows in sides), ids)]
    return ContrastiveUnit(
        "contrastive", right, wrong, tuple((id, tokens[id]) for id in ids), tuple(before) if thoughts else ((), (), ())
    )


# ---------------------------------------------------------------------- what units read


def work_of(settings: Settings, model: "LanguageModel", unit: WorkUnit) -> Work | None:
    """Returns what the responses to a problem read and write; None for units that depend on responses."""
    if not isinstance(unit, ProblemUnit):
        return None
    from probes.critical_tokens.responses import prompt_ids, setting_of

    problem = find_problem(settings, unit.level, unit.index)
    prompt = len(prompt_ids(model, problem.prompt, setting_of(settings, model)))
    rows = min(settings.batch_rows, settings.responses_per_problem)
    thought = settings.thinking_tokens
    return Work(
        tokens_read=prompt + settings.responses_per_problem * thought,  # once more, before the response
        tokens_written=settings.responses_per_problem * (thought + settings.max_new_tokens),
        tokens_held=prompt + rows * (thought + settings.max_new_tokens),
    )
