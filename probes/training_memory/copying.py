"""Heads that copy what stands in the window, found in the checkpoint itself, and random heads to hold them against."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from interp.errors import ArgumentError
from interp.heads.finding import BLOCK_TOKENS, REPEATS, copied_share, ranked_by_role, repeat_weights, role_rows
from interp.heads.sets import Head, matched_draws
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.prose import news_articles
from probes.training_memory.plan import ROLES, random_name
from probes.training_memory.settings import Settings

RANDOM_DRAWS = 2
ARTICLES = 6
"""News articles a part of which stands a second time at the end: there retrieval heads copy."""
ARTICLE_TOKENS, COPIED = 96, slice(16, 40)


@dataclass(frozen=True)
class HeadsOff:
    """Heads that are switched off: none, those of a role, or as many random ones of the same layers."""

    off: str
    draw: int
    heads: tuple[Head, ...]


def sets_of(model: LanguageModel, settings: Settings) -> list[HeadsOff]:
    """Returns what is switched off in turn, beginning with nothing.

    Raises ArgumentError when the layers of these heads have too few others.
    """
    found = [HeadsOff("none", 0, ())]
    if not settings.heads_off:
        return found
    ranking = ranked_by_role(_scores(model, settings), ROLES, None)
    for role in ROLES:
        top = tuple(ranking[role][: settings.heads_off])
        found.append(HeadsOff(role, 0, top))
        try:
            drawn = matched_draws(top, model.geometry.n_heads, (settings.seed, role), RANDOM_DRAWS)
        except ValueError as error:
            raise ArgumentError(f"{error}: lower --heads-off.") from error
        found += [HeadsOff(random_name(role), draw, heads) for draw, heads in enumerate(drawn)]
    return found


def tokens_needed() -> int:
    """Returns how many tokens a model must read so that heads can be found, without the beginning of a sequence."""
    return max(BLOCK_TOKENS * REPEATS, ARTICLE_TOKENS + COPIED.stop - COPIED.start)


def _scores(model: LanguageModel, settings: Settings) -> pd.DataFrame:
    """By how much each head copies: a part of an article that comes again, and random tokens that are repeated."""
    tokenizer: Any = model.tokenizer
    lead = beginning(tokenizer, "auto")
    parts = []
    for number, article in enumerate(news_articles()[-ARTICLES:]):
        ids = encode_piece(tokenizer, article, first=True).ids[:ARTICLE_TOKENS]
        again = ids[COPIED]
        source = len(lead) + COPIED.start + 1, len(lead) + COPIED.stop  # nothing says that the first token comes again
        begin = len(lead) + len(ids)
        queries = list(range(begin, begin + len(again) - 1))
        share = copied_share(model, [*lead, *ids, *again], queries, source)
        parts.append(role_rows(model, f"article-{number}", "retrieval", share))
    weights = repeat_weights(model, lead, (settings.seed, 6))
    parts.append(role_rows(model, "repeats", "induction", weights["induction"]))
    return pd.concat(parts, ignore_index=True)
