"""Which heads copy, which look back to what followed, which to the same token: the roles that losses are split by."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from interp.models.identity import HeadGeometry
from interp.models.language.model import LanguageModel
from interp.models.language.recording import TopKeys, WeightAt
from interp.models.tokens.encoding import beginning
from probes.kv_policies.materials import build_text
from probes.kv_policies.settings import Settings

BLOCK_TOKENS, REPEATS = 64, 4
"""Random tokens that are repeated (RazorAttention: 2500, four times)."""
INDUCTION_SHARE, ECHO_SHARE = 0.14, 0.01
"""Shares of key-value heads that RazorAttention keeps whole by each score."""
ROLES = ("retrieval", "induction", "echo")
Head = tuple[int, int]


def measure_heads(settings: Settings, model: LanguageModel, unit_id: str, numbers: Sequence[int]) -> pd.DataFrame:
    """Returns the rows of `head_scores` of the needles with these numbers, or, without any, of the repeated tokens."""
    if not numbers:
        return _repeats(settings, model).assign(unit=unit_id)
    parts = [_copying(settings, model, number) for number in numbers]
    return pd.concat(parts, ignore_index=True).assign(unit=unit_id)


def _copying(settings: Settings, model: LanguageModel, number: int) -> pd.DataFrame:
    """The share of an answer's tokens that each head copies, teacher-forced: its top key is that very token of the needle."""
    text = build_text(settings, model, "needles", number, "context_only")
    ids = [*text.prompt, *text.continuation]
    queries = torch.tensor([[len(text.prompt) + place - 1 for place in text.scored]])
    with model.record(queries, TopKeys(1)) as recording:
        model.prefix(ids)
    looked = recording["top_position"][:, 0, :, :, 0]
    wanted = torch.arange(*text.source)
    n = min(len(wanted), looked.shape[-1])
    copied = (looked[..., :n] == wanted[:n]).float().mean(dim=-1)
    return _rows(model, text.text_id, "retrieval", copied.numpy())


def _repeats(settings: Settings, model: LanguageModel) -> pd.DataFrame:
    """Weights on earlier places of the same token (echo) and on the tokens after these (induction), summed over places."""
    special = set(model.tokenizer.all_special_ids)
    vocabulary = [token for token in range(len(model.tokenizer)) if token not in special]
    block = np.random.default_rng([settings.seed, 4]).choice(vocabulary, size=BLOCK_TOKENS).tolist()
    lead = beginning(model.tokenizer, settings.bos)
    queries = torch.arange(len(lead) + BLOCK_TOKENS, len(lead) + BLOCK_TOKENS * REPEATS)
    same = queries[:, None] - torch.arange(1, REPEATS) * BLOCK_TOKENS
    same = torch.where(same >= len(lead), same, -1)
    places = torch.cat([same, torch.where(same >= 0, same + 1, -1)], dim=-1)
    with model.record(queries[None], WeightAt(places[None])) as recording:
        model.prefix([*lead, *(block * REPEATS)])
    weights = recording["weight_at"][:, 0].double()
    echo, induction = (part.sum(dim=-1).mean(dim=-1) for part in weights.chunk(2, dim=-1))
    return pd.concat(
        [
            _rows(model, "repeats", name, part.clamp(0, 1).numpy())
            for name, part in (("induction", induction), ("echo", echo))
        ]
    )


def _rows(model: LanguageModel, text_id: str, role: str, scores: np.ndarray) -> pd.DataFrame:
    geometry = model.geometry
    layer, head = np.divmod(np.arange(scores.size), geometry.n_heads)
    kv_head = head // geometry.group_size
    return pd.DataFrame(
        {
            "text_id": text_id,
            "layer": layer,
            "head": head,
            "kv_head": kv_head,
            "role": role,
            "score": scores.ravel().astype(float),
        }
    )


# ---------------------------------------------------------------------- rankings, from the table alone


def ranked_heads(scores: pd.DataFrame, given: pd.DataFrame | None) -> dict[str, list[Head]]:
    """Returns all (layer, head) pairs by role, best first; retrieval heads those that were given, where they were."""
    means = scores.groupby(["role", "layer", "head"], as_index=False)["score"].mean()
    ranking = {}
    for role in ROLES:
        rows = means[means["role"] == role].sort_values("score", ascending=False, kind="stable")
        ranking[role] = list(zip(rows["layer"].astype(int), rows["head"].astype(int), strict=True))
    if given is not None:
        first = list(zip(given["layer"].astype(int), given["head"].astype(int), strict=True))
        ranking["retrieval"] = [*first, *(head for head in ranking["retrieval"] if head not in set(first))]
    return ranking


def ranked_kv_heads(scores: pd.DataFrame, given: pd.DataFrame | None, geometry: HeadGeometry) -> dict[str, list[Head]]:
    """Returns all (layer, key-value head) pairs by role, best first: each has the place of its best query head."""
    return {
        role: list(dict.fromkeys((layer, head // geometry.group_size) for layer, head in heads))
        for role, heads in ranked_heads(scores, given).items()
    }


def spared(wanted: str, ranking: dict[str, list[Head]], share: float) -> tuple[Head, ...]:
    """Returns the key-value heads that a policy keeps whole: the best retrieval heads, or RazorAttention's two shares."""
    if not wanted:
        return ()
    if wanted == "razor":
        shares: Sequence[tuple[str, float]] = (("induction", INDUCTION_SHARE), ("echo", ECHO_SHARE))
    else:
        shares = ((wanted, share),)
    chosen = {head for role, part in shares for head in ranking[role][: max(1, round(len(ranking[role]) * part))]}
    return tuple(sorted(chosen))
