"""Preference data for training, as JSON lines with the columns prompt, chosen and rejected that TRL's DPO trainer reads."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from interp.tables import Tables


def preference_documents(tables: Tables) -> Mapping[str, str]:
    """Returns two files: whole responses with a weight for every rejected token (cDPO), and single tokens."""
    return {
        "preferences_responses.jsonl": _lines(response_pairs(tables)),
        "preferences_tokens.jsonl": _lines(token_pairs(tables)),
    }


def _lines(rows: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def response_pairs(tables: Tables) -> Iterator[dict[str, Any]]:
    """Yields for every analysed trajectory the first right response to its problem and itself.

    `rejected_token_ids` and `rejected_weights` (1 − s, the weights of cDPO) belong to its tokens; TRL ignores further columns.
    """
    responses = tables["trajectories"]
    scores = tables["contrastive"]
    for id in tables["spines"]["trajectory_id"].unique():
        own = responses[responses["trajectory_id"] == id].iloc[0]
        right = responses[(responses["problem_id"] == own["problem_id"]) & (responses["outcome"] == "right")]
        if not len(right):
            continue
        row = {"prompt": own["prompt"], "chosen": right.iloc[0]["text"], "rejected": own["text"]}
        weights = scores[scores["trajectory_id"] == id].sort_values("position")["score"]
        if len(weights):
            row["rejected_token_ids"] = [int(token) for token in own["token_ids"]]
            row["rejected_weights"] = [round(1 - float(score), 6) for score in weights]
        yield row


def token_pairs(tables: Tables) -> Iterator[dict[str, Any]]:
    """Yields for every cliff the token itself against the replacement that came out right most often, on fresh draws."""
    critical, branches = tables["critical"], tables["branches"]
    prompts = tables["trajectories"].set_index("trajectory_id")["prompt"]
    cliffs = critical[critical["definition"] == "cliff"]
    for id, position, token in zip(cliffs["trajectory_id"], cliffs["position"], cliffs["token"], strict=True):
        at = branches[
            (branches["trajectory_id"] == id)
            & (branches["arm"] == "without")
            & (branches["kept"] == position)
            & (branches["outcome"] == "right")
        ]
        spine = tables["spines"]
        before = spine[(spine["trajectory_id"] == id) & (spine["position"] < position)]
        if len(at):
            yield {
                "prompt": str(prompts.loc[id]) + "".join(before.sort_values("position")["token"]),
                "chosen": _most_common(at["token"]),
                "rejected": str(token),
            }


def _most_common(tokens: pd.Series) -> str:
    return str(tokens.value_counts(sort=True).index[0])
