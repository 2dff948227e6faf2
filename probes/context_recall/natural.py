"""The recall slice of natural text: tokens that complete a bigram seen before in the window, against all others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from interp.heads.sets import Edit, editing_rows
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, encode_piece
from interp.stimuli.haystack import build_haystack
from interp.stimuli.prose import news_articles
from probes.context_recall.plan import WHOLE, NaturalUnit
from probes.context_recall.settings import Settings

REFERENCE_ARTICLES = 150
"""Articles whose bigrams are counted: the first of the corpus, in the place of a training set that is not known."""
REPLACED_PER_TEXT = 3
"""Repeated bigrams of each text whose first occurrence is replaced, each in a reading of its own."""
LEAST_GAP = 8
"""Tokens between the two occurrences."""


def hits(ids: Sequence[int]) -> list[int]:
    """Returns for every token how many tokens ago its bigram (the token before and itself) last occurred; 0 where it did not."""
    seen: dict[tuple[int, int], int] = {}
    gaps = [0]
    for place, bigram in enumerate(pairwise(ids), start=1):
        gaps.append(place - seen[bigram] if bigram in seen else 0)
        seen[bigram] = place
    return gaps


def measure_natural(settings: Settings, model: LanguageModel, unit: NaturalUnit) -> dict[str, pd.DataFrame]:
    """Returns the rows of `token_nats` and `replaced` of one text."""
    end: Any = model.tokenizer.eos_token_id
    lead = beginning(model.tokenizer, settings.bos) or [end or 0]
    n = settings.natural_tokens
    key = f"natural-{unit.number}"
    ids = build_haystack(model.tokenizer, news_articles()[REFERENCE_ARTICLES:], n, seed=settings.seed, key=key).ids[:n]
    edits: list[Edit] = [((), "zero"), *((one.heads, "zero") for one in unit.sets)]
    with editing_rows(model, edits):
        nats = model.surprisal([[*lead, *ids]] * len(edits))[:, len(lead) :]
    gaps, counts = hits(ids), _reference(model)
    named: Mapping[str, Any] = {"text_id": unit.id}
    rows = pd.DataFrame(
        {
            "position": range(1, n), "is_hit": [gap > 0 for gap in gaps[1:]], "gap_tokens": gaps[1:],
            "reference_count": [counts[bigram] for bigram in pairwise(ids)],
        }
    )  # fmt: skip
    conditions = [(WHOLE, 0), *((one.condition, one.draw) for one in unit.sets)]
    frames = [
        rows.assign(**named, condition=name, draw=draw, surprisal_nats=nats[row, 1:].numpy())
        for row, (name, draw) in enumerate(conditions)
    ]
    generator = np.random.default_rng([settings.seed, 7, unit.number])
    replaced = _replaced(model, lead, list(ids), gaps, nats[0].numpy(), generator)
    return {"token_nats": pd.concat(frames, ignore_index=True), "replaced": replaced.assign(**named)}


def _replaced(
    model: LanguageModel,
    lead: list[int],
    ids: list[int],
    gaps: Sequence[int],
    nats: np.ndarray,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Repeated bigrams read again with another token of the text where the bigram was first completed.

    Bystanders are the tokens between the two that complete no bigram: what another token there costs anything that follows.
    """
    counts = Counter(pairwise(ids))
    places = [at for at, gap in enumerate(gaps) if gap > LEAST_GAP and counts[ids[at - 1], ids[at]] == 2]
    rows = []
    for at in sorted(int(place) for place in generator.permutation(places)[:REPLACED_PER_TEXT]):
        first = at - gaps[at]
        other = next(token for token in generator.permutation(ids) if token != ids[first])
        changed = [*ids[:first], int(other), *ids[first + 1 : at + 1]]
        again = model.surprisal([[*lead, *changed]])[0, len(lead) :].numpy()
        between = [place for place in range(first + 2, at) if not gaps[place]]
        rows.append(
            {
                "position": at, "gap_tokens": gaps[at], "surprisal_nats": float(nats[at]), "replaced_nats": float(again[at]),
                "bystander_change_nats": float((again[between] - nats[between]).mean()) if between else np.nan,
            }
        )  # fmt: skip
    columns = ["position", "gap_tokens", "surprisal_nats", "replaced_nats", "bystander_change_nats"]
    return pd.DataFrame(rows, columns=columns)


def _reference(model: LanguageModel) -> Counter[tuple[int, int]]:
    return _counted(model.tokenizer, model.identity.name)


@lru_cache(maxsize=1)
def _counted(tokenizer: Any, identity: str) -> Counter[tuple[int, int]]:
    """How often every bigram occurs in the reference articles; `identity` keeps tokenizers apart that are equal."""
    del identity
    counts: Counter[tuple[int, int]] = Counter()
    for article in news_articles()[:REFERENCE_ARTICLES]:
        counts.update(pairwise(encode_piece(tokenizer, article).ids))
    return counts
