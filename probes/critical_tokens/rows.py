"""Rows of the measured tables, from what an explorer and its pools hold."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from probes.critical_tokens.explorer import Branch, Explorer, Pool
from probes.critical_tokens.settings import CriticalTokensSettings
from probes.critical_tokens.token_classes import token_class


def spine_rows(explorer: Explorer) -> pd.DataFrame:
    """Returns the tokens of a trajectory with the policy's view of each."""
    probability, own = explorer.probability, explorer.token_ids
    entropy = -(probability * probability.clamp(min=1e-300).log()).sum(-1)
    texts = [explorer.added_text(kept, id) for kept, id in enumerate(own)]
    return pd.DataFrame(
        {
            "model": explorer.model.identity.name,
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


def exact_rows(settings: CriticalTokensSettings, explorer: Explorer) -> pd.DataFrame:
    """Returns bounds of the value after each of the last tokens, by enumeration of what can follow."""
    n_tokens = len(explorer.token_ids)
    kept = range(max(0, n_tokens - settings.exact_tokens), n_tokens)
    rows = [(at, *explorer.exact_value(at, most_nodes=settings.exact_nodes)) for at in kept]
    frame = pd.DataFrame(rows, columns=["kept", "low", "high", "n_nodes"])
    return frame.assign(model=explorer.model.identity.name, trajectory_id=explorer.key)


def one_row(explorer: Explorer, **columns: Any) -> pd.DataFrame:
    """Returns one row of a trajectory."""
    return pd.DataFrame([{"model": explorer.model.identity.name, "trajectory_id": explorer.key, **columns}])


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
    return frame.assign(model=explorer.model.identity.name, trajectory_id=explorer.key, arm=arm)


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
    return frame.assign(model=explorer.model.identity.name, trajectory_id=explorer.key, arm=arm)
