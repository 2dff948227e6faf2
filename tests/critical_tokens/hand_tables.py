"""Tables of runs that nobody has made: responses, curves and pairs with counts chosen by hand."""

import numpy as np
import pandas as pd

from interp.models.identity import ModelFacts, ModelIdentity
from interp.tables import checked, empty, named
from probes.critical_tokens.experiment import CriticalTokens
from probes.critical_tokens.tables import SCHEMAS

FACTS = ModelFacts(ModelIdentity("toy", "toy", "1", "float32"), "llama", None, 512)


P = [0.5, 0.99, 0.6]


def responses(level: str, index: int, right: int, n: int = 4, ended: bool = True) -> pd.DataFrame:
    """Responses to one problem, the right ones first."""
    rows = [
        {
            "model": "toy",
            "trajectory_id": f"{level}-{index}-{draw}",
            "problem_id": f"{level}-{index}",
            "level": level,
            "draw": draw,
            "outcome": "right" if draw < right else "wrong",
            "ended": ended,
            "n_tokens": 3,
            "first_error_position": -1 if draw < right else 1,
            "n_wrong_steps": 0,
            "prompt_tokens": 5,
            "prompt_format": "plain",
            "own_sampling": "",
            "gold": "7",
            "prompt": "Q: 1\nA: 1\n\nQ: 2\nA:",
            "text": " 7\n",
            "token_ids": [5, 6, draw],
            "draw_probability": P,
        }
        for draw in range(n)
    ]
    return pd.DataFrame(rows)


def tables(**given: pd.DataFrame) -> dict[str, pd.DataFrame]:
    given = named(given, "toy")
    return {name: checked(given[name], schema) if name in given else empty(schema) for name, schema in SCHEMAS.items()}


SETTINGS = CriticalTokens(
    levels=("arithmetic-1-9", "words-3-0"), calibration_problems=2, n_trajectories=2, max_problems=4
)


def calibrated(*right: int, level: str = "arithmetic-1-9", others: int = 0) -> pd.DataFrame:
    """Calibration of both levels: right answers of 4 to each problem of the first, `others` to each of the second."""
    parts = [responses(level, index, count) for index, count in enumerate(right)]
    parts += [responses("words-3-0", index, others) for index in range(2)]
    return pd.concat(parts, ignore_index=True)


def analysed(id: str, drop_at: int = 0) -> dict[str, pd.DataFrame]:
    """The curve of one trajectory of three tokens that falls from 20 of 24 to 2 at one token."""
    spine = pd.DataFrame(
        {
            "model": "toy", "trajectory_id": id, "position": range(3), "token_id": [5, 6, 2], "token": [" 7", ".", "\n"],
            "token_class": "number", "p": P, "draw_probability": P, "reread_probability": P, "rank": 0, "entropy_nats": [0.7, 0.1, 0.6],
            "surprisal_nats": -np.log(P),
        }
    )  # fmt: skip
    rows = [
        {"model": "toy", "trajectory_id": id, "arm": "scan", "kept": kept, "draw": draw, "branched_at": 3,
         "right": kept < 3 and draw < (20 if kept <= drop_at else 2)}
        for kept in range(4)
        for draw in range(24)
    ]  # fmt: skip
    scan = pd.DataFrame(
        [{"model": "toy", "trajectory_id": id, "critical_position": 1, "set_first": 0, "set_last": 1, "n_rollouts": 64}]
    )
    return {"spines": spine, "rollouts": pd.DataFrame(rows), "scans": scan}


def pairs(id: str, token: int, without: int, after: int, n: int = 40) -> pd.DataFrame:
    rows = [
        {
            "model": "toy",
            "trajectory_id": id,
            "arm": arm,
            "kept": kept,
            "draw": draw,
            "branched_at": kept,
            "right": draw < right,
        }
        for arm, kept, right in (("without", token, without), ("after", token + 1, after))
        for draw in range(n)
    ]
    return pd.DataFrame(rows)


def merged(*parts: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]}
