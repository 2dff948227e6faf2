"""Measuring one unit: from a model to rows."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from interp.experiments.experiment import WorkUnit
from interp.models.encoding import stop_ids
from interp.models.language import LanguageModel
from interp.models.sampling import Policy, StopRule, sample, stream
from interp.models.template_args import TemplateArgs, parse_template_args
from interp.models.vllm_sampling import sample_with_vllm
from probes.critical_tokens.backward import backward_scan
from probes.critical_tokens.checks import file_problems
from probes.critical_tokens.confirm import Thresholds, confirm
from probes.critical_tokens.explorer import Branches, Explorer, Pool, Setting, decode, prompt_ids, respond
from probes.critical_tokens.families import build_problem, parse_level
from probes.critical_tokens.plan import ConfirmUnit, ContrastiveUnit, ProblemUnit, ReplacementUnit, TrajectoryUnit
from probes.critical_tokens.problems import Problem
from probes.critical_tokens.readers import STOP_STRINGS
from probes.critical_tokens.rows import branch_rows, exact_rows, one_row, pool_rows, rollout_rows, spine_rows
from probes.critical_tokens.settings import CriticalTokensSettings

Rows = Mapping[str, pd.DataFrame]


def measure_unit(settings: CriticalTokensSettings, model: LanguageModel, unit: WorkUnit) -> Rows:
    """Returns the unit's rows by table."""
    if isinstance(unit, ProblemUnit):
        return measure_problem(settings, model, unit)
    if isinstance(unit, TrajectoryUnit):
        return measure_trajectory(settings, model, unit)
    if isinstance(unit, ConfirmUnit):
        return measure_pairs(settings, model, unit)
    if isinstance(unit, ReplacementUnit):
        return measure_replacement(settings, model, unit)
    assert isinstance(unit, ContrastiveUnit)
    from probes.critical_tokens.contrastive import measure_contrastive

    return measure_contrastive(settings, model, unit)


def find_problem(settings: CriticalTokensSettings, level: str, index: int) -> Problem:
    """Returns a problem by its level and number."""
    if settings.task_file is not None:
        return file_problems(settings)[index]
    return build_problem(parse_level(level), index, seed=settings.seed, shots=settings.shots)


def setting_of(settings: CriticalTokensSettings, model: LanguageModel) -> Setting:
    """Returns how responses are written: generated problems have answers of one line, those of files end at a blank one."""
    one_line = settings.task_file is None
    ends = _ends(model, one_line)
    strings = () if one_line else STOP_STRINGS
    return Setting(
        policy=Policy(settings.temperature, settings.top_p, settings.top_k),
        stop=StopRule(ends, strings, model.tokenizer),
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
        batch_rows=settings.batch_rows,
        chat=chat_of(settings, model),
        sampler=sample_with_vllm if settings.sampler == "vllm" else sample,
    )


def chat_of(settings: CriticalTokensSettings, model: LanguageModel) -> TemplateArgs | None:
    """Returns the arguments of the chat template that problems of a file are put through; None for plain text."""
    wanted = settings.prompt_format == "chat" or (settings.prompt_format == "auto" and model.tokenizer.chat_template)
    return parse_template_args(settings.template_args) if settings.task_file is not None and wanted else None


def own_sampling(model: LanguageModel) -> str:
    """Returns the sampling that a model's generation_config asks for, "" where it asks for none."""
    config = model.hf.generation_config
    found = {name: getattr(config, name, None) for name in ("temperature", "top_p", "top_k")}
    return ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in found.items() if value is not None)


@lru_cache(maxsize=2)
def _ends(model: LanguageModel, one_line: bool) -> list[int]:
    return stop_ids(model.tokenizer, model.hf.generation_config, at_newline=one_line)


# ---------------------------------------------------------------------- problems


def measure_problem(settings: CriticalTokensSettings, model: LanguageModel, unit: ProblemUnit) -> Rows:
    """Returns the responses to one problem."""
    problem = find_problem(settings, unit.level, unit.index)
    setting = setting_of(settings, model)
    responses = respond(model, problem, setting, settings.responses_per_problem)
    prompt = prompt_ids(model, problem.prompt, setting)
    read = problem.prompt if setting.chat is None else str(model.tokenizer.decode(prompt, skip_special_tokens=False))
    rows = []
    for index, response in enumerate(responses):
        text = decode(model, response.token_ids)
        steps = problem.check_steps(text) if problem.check_steps else None
        rows.append(
            {
                "model": model.identity.name,
                "trajectory_id": f"{problem.id}-{index}",
                "problem_id": problem.id,
                "level": problem.level,
                "draw": index,
                "outcome": response.outcome,
                "ended": response.ended,
                "n_tokens": len(response.token_ids),
                "first_error_position": error_position(model, problem, response.token_ids),
                "n_wrong_steps": -1 if steps is None else steps.count(False),
                "prompt_tokens": len(prompt),
                "prompt_format": "plain" if setting.chat is None else "chat",
                "own_sampling": own_sampling(model),
                "gold": problem.gold,
                "prompt": read,
                "text": text,
                "token_ids": response.token_ids,
                "draw_probability": response.draw_probability,
            }
        )
    return {"trajectories": pd.DataFrame(rows)}


def error_position(model: LanguageModel, problem: Problem, token_ids: Sequence[int]) -> int:
    """Returns the first token whose text leaves the right solution; −1 where none does or no solution is known."""
    character = problem.first_error(decode(model, token_ids))
    if character is None:
        return -1
    ends = [len(decode(model, token_ids[: kept + 1])) for kept in range(len(token_ids))]
    return next((kept for kept, end in enumerate(ends) if end > character), len(token_ids) - 1)


# ---------------------------------------------------------------------- one trajectory


def read_trajectory(
    settings: CriticalTokensSettings, model: LanguageModel, unit: TrajectoryUnit | ConfirmUnit | ReplacementUnit
) -> Explorer:
    """Returns the reader of one trajectory."""
    problem = find_problem(settings, *split_id(unit.trajectory_id.rpartition("-")[0]))
    setting = setting_of(settings, model)
    return Explorer(model, problem, unit.trajectory_id, unit.token_ids, setting, unit.draw_probability)


def split_id(problem_id: str) -> tuple[str, int]:
    """Returns a problem's level and number from its id."""
    level, _, index = problem_id.rpartition("-")
    return level, int(index)


def measure_trajectory(settings: CriticalTokensSettings, model: LanguageModel, unit: TrajectoryUnit) -> Rows:
    """Returns the tokens of one trajectory, draws from every position, and what the paper's rule finds."""
    explorer = read_trajectory(settings, model, unit)
    n_tokens = len(explorer.token_ids)
    tables = {"spines": spine_rows(explorer), "exact": exact_rows(settings, explorer)}
    if settings.method == "brute":
        return tables | dict(_brute(settings, explorer))
    pool = Pool.around(explorer, "scan", max(settings.scan_rollouts, settings.rule_rollouts), "wrong")
    scanned = slice(0, settings.scan_rollouts)
    pool.make(range(n_tokens + 1), scanned)
    made = dict.fromkeys(range(n_tokens + 1), settings.scan_rollouts)
    if "paper" in settings.definitions:

        def right(kept: int, draws: slice) -> np.ndarray:
            pool.make([kept], draws)
            made[kept] = max(made[kept], draws.stop)
            return np.array([pool.outcome(kept, index) == "right" for index in range(draws.start, draws.stop)])

        scan = backward_scan(n_tokens, settings.rule_rollouts, right, alpha=settings.alpha)
        critical = -1 if scan.critical is None else scan.critical
        tables["scans"] = one_row(
            explorer,
            critical_position=critical,
            set_first=scan.set_first,
            set_last=scan.set_last,
            n_rollouts=settings.rule_rollouts,
        )
    return tables | {
        "rollouts": pool_rows(explorer, pool, made),
        "branches": branch_rows(explorer, "scan", pool.branches),
    }


def _brute(settings: CriticalTokensSettings, explorer: Explorer) -> Rows:
    """Independent rollouts after every token, and before the first."""
    n = settings.rule_rollouts
    wanted = [(kept, index) for kept in range(len(explorer.token_ids)) for index in range(n)]
    branches = explorer.independent("brute", wanted)
    rows = [(kept, index, kept, branch.outcome == "right") for (kept, index), branch in branches.items()]
    rows += [(len(explorer.token_ids), index, len(explorer.token_ids), False) for index in range(n)]
    return {"rollouts": rollout_rows(explorer, "brute", rows), "branches": branch_rows(explorer, "brute", branches)}


# ---------------------------------------------------------------------- fresh draws


def thresholds_of(settings: CriticalTokensSettings) -> Thresholds:
    """Returns what counts as a cliff."""
    return Thresholds(settings.effect, settings.margin, settings.alpha)


def measure_pairs(settings: CriticalTokensSettings, model: LanguageModel, unit: ConfirmUnit) -> Rows:
    """Returns fresh pairs for the candidates of one trajectory: with the token forbidden, and with it kept."""
    explorer = read_trajectory(settings, model, unit)
    kept_pool = Pool.around(explorer, "after", settings.max_pairs, "wrong")
    without: Branches = {}

    def pairs(tokens: Sequence[int], draws: slice) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        indices = range(draws.start, draws.stop)
        wanted = [(token, index) for token in tokens for index in indices]
        also = kept_pool.missing([token + 1 for token in tokens], draws)
        made = explorer.branches({"without": wanted, kept_pool.arm: also})
        without.update(made["without"])
        kept_pool.branches.update(made[kept_pool.arm])
        return {
            token: (
                np.array([without[token, index].outcome == "right" for index in indices]),
                np.array([kept_pool.outcome(token + 1, index) == "right" for index in indices]),
            )
            for token in tokens
        }

    found = confirm(explorer.p, unit.candidates, pairs, thresholds_of(settings), settings.max_pairs)
    made = {token + 1: len(arms[0]) for token, arms in found.items()}
    forbidden = [(kept, index, kept, branch.outcome == "right") for (kept, index), branch in without.items()]
    return {
        "rollouts": pd.concat(
            [rollout_rows(explorer, "without", forbidden), pool_rows(explorer, kept_pool, made)], ignore_index=True
        ),
        "branches": pd.concat(
            [
                branch_rows(explorer, "without", without),
                branch_rows(explorer, "after", kept_pool.branches),
            ],
            ignore_index=True,
        ),
    }


def measure_replacement(settings: CriticalTokensSettings, model: LanguageModel, unit: ReplacementUnit) -> Rows:
    """Returns fresh rollouts with the critical token kept and forbidden, and with two other tokens forbidden."""
    explorer = read_trajectory(settings, model, unit)
    n = settings.replacement_rollouts
    probability = explorer.probability
    entropy = -(probability * probability.clamp(min=1e-300).log()).sum(-1).cpu().numpy()
    others = np.array([t for t in range(len(explorer.token_ids)) if t != unit.position and explorer.p[t] < 1])
    generator = stream(settings.seed, unit.id, "controls")
    tokens = {"forbidden": unit.position}
    if len(others):
        tokens["random"] = int(generator.choice(others))
        tokens["entropy"] = int(others[np.abs(entropy[others] - entropy[unit.position]).argmin()])
    kept = Pool.around(explorer, f"kept-{unit.position}", n, "wrong")
    arms = {f"{condition}-{unit.position}": token for condition, token in tokens.items()}
    wanted = {arm: [(token, index) for index in range(n)] for arm, token in arms.items()}
    made = explorer.branches(wanted | {kept.arm: kept.missing([unit.position + 1])})
    kept.branches.update(made[kept.arm])
    rollouts = [pool_rows(explorer, kept, {unit.position + 1: n})]
    branches = [branch_rows(explorer, kept.arm, kept.branches)]
    for arm in arms:
        rows = [(at, index, at, branch.outcome == "right") for (at, index), branch in made[arm].items()]
        rollouts.append(rollout_rows(explorer, arm, rows))
        branches.append(branch_rows(explorer, arm, made[arm]))
    return {
        "rollouts": pd.concat(rollouts, ignore_index=True),
        "branches": pd.concat([part for part in branches if len(part)], ignore_index=True),
    }
