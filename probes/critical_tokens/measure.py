"""Measures one unit: from a model to rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from interp.experiments.experiment import WorkUnit
from interp.models.language.model import LanguageModel
from interp.models.language.sampling import stream
from probes.critical_tokens.contrastive import measure_contrastive
from probes.critical_tokens.definitions import backward_scan, confirm, thresholds_of
from probes.critical_tokens.explorer import Branch, Branches, Explorer, Pool
from probes.critical_tokens.plan import ConfirmUnit, ContrastiveUnit, ProblemUnit, ReplacementUnit, TrajectoryUnit
from probes.critical_tokens.problems import find_problem, split_id
from probes.critical_tokens.responses import (
    decode,
    error_position,
    own_sampling,
    prompt_ids,
    respond,
    setting_of,
    thought_rows,
)
from probes.critical_tokens.settings import Settings
from probes.critical_tokens.token_classes import token_class

Rows = Mapping[str, pd.DataFrame]


def measure_unit(settings: Settings, model: LanguageModel, unit: WorkUnit) -> Rows:
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

    return measure_contrastive(settings, model, unit)


def measure_problem(settings: Settings, model: LanguageModel, unit: ProblemUnit) -> Rows:
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
    tables = {"trajectories": pd.DataFrame(rows)}
    return tables if setting.thinking is None else tables | {"thoughts": thought_rows(model, problem, responses)}


def read_trajectory(
    settings: Settings, model: LanguageModel, unit: TrajectoryUnit | ConfirmUnit | ReplacementUnit
) -> Explorer:
    """Returns the reader of one trajectory."""
    problem = find_problem(settings, *split_id(unit.trajectory_id.rpartition("-")[0]))
    setting = setting_of(settings, model)
    return Explorer(model, problem, unit.trajectory_id, unit.token_ids, setting, unit.draw_probability, unit.thought)


def measure_trajectory(settings: Settings, model: LanguageModel, unit: TrajectoryUnit) -> Rows:
    """Returns the tokens of one trajectory, draws from every position, and the result of the paper's rule."""
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


def _brute(settings: Settings, explorer: Explorer) -> Rows:
    """Independent rollouts after every token, and before the first."""
    n = settings.rule_rollouts
    wanted = [(kept, index) for kept in range(len(explorer.token_ids)) for index in range(n)]
    branches = explorer.independent("brute", wanted)
    rows = [(kept, index, kept, branch.outcome == "right") for (kept, index), branch in branches.items()]
    rows += [(len(explorer.token_ids), index, len(explorer.token_ids), False) for index in range(n)]
    return {"rollouts": rollout_rows(explorer, "brute", rows), "branches": branch_rows(explorer, "brute", branches)}


def measure_pairs(settings: Settings, model: LanguageModel, unit: ConfirmUnit) -> Rows:
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


def measure_replacement(settings: Settings, model: LanguageModel, unit: ReplacementUnit) -> Rows:
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


# ---------------------------------------------------------------------- rows


def spine_rows(explorer: Explorer) -> pd.DataFrame:
    """Returns the tokens of a trajectory with the policy's view of each."""
    probability, own = explorer.probability, explorer.token_ids
    entropy = -(probability * probability.clamp(min=1e-300).log()).sum(-1)
    texts = [explorer.added_text(kept, id) for kept, id in enumerate(own)]
    return pd.DataFrame(
        {
            "trajectory_id": explorer.key,
            "position": range(len(own)),
            "token_id": own,
            "token": texts,
            "token_class": [token_class(text) for text in texts],
            "p": explorer.p,
            "draw_probability": explorer.draw_p,
            "reread_probability": explorer.reread_p,
            "rank": [int((row > row[id]).sum()) for row, id in zip(probability, own, strict=True)],
            "entropy_nats": entropy.clamp(min=0).cpu().numpy(),
            "surprisal_nats": np.maximum(0.0, -np.log(explorer.p)),
        }
    )


def exact_rows(settings: Settings, explorer: Explorer) -> pd.DataFrame:
    """Returns bounds on V after each of the last tokens, by enumerating continuations."""
    n_tokens = len(explorer.token_ids)
    kept = range(max(0, n_tokens - settings.exact_tokens), n_tokens)
    rows = [(at, *explorer.exact_value(at, most_nodes=settings.exact_nodes)) for at in kept]
    frame = pd.DataFrame(rows, columns=["kept", "low", "high", "n_nodes"])
    return frame.assign(trajectory_id=explorer.key)


def one_row(explorer: Explorer, **columns: Any) -> pd.DataFrame:
    """Returns one row of a trajectory."""
    return pd.DataFrame([{"trajectory_id": explorer.key, **columns}])


def pool_rows(explorer: Explorer, pool: Pool, made: Mapping[int, int]) -> pd.DataFrame:
    """Returns the first draws from each position of a pool: `made` says how many."""
    rows = [
        (kept, index, int(pool.points[kept, index]), pool.outcome(kept, index) == "right")
        for kept, n in made.items()
        for index in range(n)
    ]
    return rollout_rows(explorer, pool.arm, rows)


def rollout_rows(explorer: Explorer, arm: str, rows: list[tuple[int, int, int, bool]]) -> pd.DataFrame:
    """Returns outcomes as rows: (tokens kept, draw, where it left the trajectory, right)."""
    frame = pd.DataFrame(rows, columns=["kept", "draw", "branched_at", "right"])
    return frame.assign(trajectory_id=explorer.key, arm=arm)


def branch_rows(explorer: Explorer, arm: str, branches: Mapping[tuple[int, int], Branch]) -> pd.DataFrame:
    """Returns the texts written from each (tokens kept, draw)."""
    rows = [
        (
            kept,
            index,
            explorer.added_text(kept, branch.token_ids[0]),
            branch.outcome,
            branch.ended,
            len(branch.token_ids),
            branch.token_ids,
        )
        for (kept, index), branch in sorted(branches.items())
    ]
    frame = pd.DataFrame(rows, columns=["kept", "draw", "token", "outcome", "ended", "n_tokens", "token_ids"])
    return frame.assign(trajectory_id=explorer.key, arm=arm)
