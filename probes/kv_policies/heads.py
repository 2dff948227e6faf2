"""Which heads copy, which look back to what followed, which to the same token: the roles that losses are split by."""

from collections.abc import Mapping, Sequence

import pandas as pd

from interp.heads.finding import (
    ECHO_SHARE,
    INDUCTION_SHARE,
    Head,
    copied_share,
    ranked_by_role,
    repeat_weights,
    role_rows,
)
from interp.models.identity import HeadGeometry
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning
from interp.retention.contract import evictable_layers
from interp.retention.limits import LONGEST_CONTINUATION
from probes.kv_policies.materials import build_text
from probes.kv_policies.settings import Settings

ROLES = ("retrieval", "induction", "echo")


def measure_heads(settings: Settings, model: LanguageModel, unit_id: str, numbers: Sequence[int]) -> pd.DataFrame:
    """Returns the rows of `head_scores` of the needles with these numbers, or, without any, of the repeated tokens.

    Only of layers that policies act on: a head in a layer with a window loses nothing, so to keep its whole prompt changes nothing.
    """
    parts = [_copying(settings, model, number) for number in numbers] or [_repeats(settings, model)]
    rows = pd.concat(parts, ignore_index=True).assign(unit=unit_id)
    return rows[rows["layer"].isin(layers_acted_on(settings, model))].reset_index(drop=True)


def layers_acted_on(settings: Settings, model: LanguageModel) -> tuple[int, ...]:
    """Returns the layers whose keys policies drop. Raises UserError where there are none."""
    return evictable_layers(model, settings.prompt_tokens + LONGEST_CONTINUATION)


def _copying(settings: Settings, model: LanguageModel, number: int) -> pd.DataFrame:
    """The share of an answer's tokens that each head copies, teacher-forced: its top key is that very token of the needle."""
    text = build_text(settings, model, "needles", number, "context_only")
    queries = [len(text.prompt) + place - 1 for place in text.scored]
    copied = copied_share(model, [*text.prompt, *text.continuation], queries, text.source)
    return role_rows(model, text.text_id, "retrieval", copied)


def _repeats(settings: Settings, model: LanguageModel) -> pd.DataFrame:
    """Weights on earlier places of the same token (echo) and on the tokens after these (induction), summed over places."""
    weights = repeat_weights(model, beginning(model.tokenizer, settings.bos), (settings.seed, 4))
    return pd.concat([role_rows(model, "repeats", name, part) for name, part in weights.items()])


# ---------------------------------------------------------------------- rankings, from the table alone


def ranked_heads(scores: pd.DataFrame, given: pd.DataFrame | None) -> dict[str, list[Head]]:
    """Returns all (layer, head) pairs that have scores by role, best first; retrieval heads those that were given, where they were."""
    if given is not None:
        given = given[given["layer"].isin(scores["layer"])]
    return ranked_by_role(scores, ROLES, given)


def role_size(settings: Settings, ranking: Mapping[str, Sequence[Head]]) -> int:
    """Returns how many heads have each role: the best of the ranking, at least one."""
    return max(1, round(len(ranking["echo"]) * settings.role_share))


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
