"""Finding retrieval and induction heads, on contexts of their own."""

import numpy as np
import pandas as pd

from interp.heads.finding import copied_share, repeat_weights, role_rows
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning
from interp.stimuli.haystack import build_haystack
from interp.stimuli.prose import news_articles
from probes.context_recall.draft import Draft
from probes.context_recall.settings import Settings
from probes.context_recall.words import words_of

CONTEXT_TOKENS = 192
ANSWER_WORDS = 4


def measure_heads(settings: Settings, model: LanguageModel) -> pd.DataFrame:
    """Returns the rows of `head_scores`: copied shares on needles of their own, and weights on repeated random tokens."""
    lead = beginning(model.tokenizer, settings.bos)
    words = words_of(model.tokenizer, settings.words)
    parts = []
    for number in range(settings.finding_needles):
        generator = np.random.default_rng([settings.seed, 5, number])
        draft = Draft(model.tokenizer, words, settings.read_frames(), generator, lead)
        ids, queries, source = _needle(draft, number / settings.finding_needles)
        parts.append(role_rows(model, f"needle-{number:03d}", "retrieval", copied_share(model, ids, queries, source)))
    weights = repeat_weights(model, lead, (settings.seed, 6))
    parts.append(role_rows(model, "repeats", "induction", weights["induction"]))
    return pd.concat(parts, ignore_index=True)


def _needle(draft: Draft, depth: float) -> tuple[list[int], list[int], tuple[int, int]]:
    """A password of several words in prose, its question and answer: the tokens, the positions before the answer's, its source."""
    (key,), values = draft.keys(1), draft.values(ANSWER_WORDS)
    haystack = build_haystack(
        draft.tokenizer, news_articles(), CONTEXT_TOKENS, seed=0, key=str(draft.generator.integers(2**31))
    )
    place = haystack.boundary_before(int(depth * CONTEXT_TOKENS))
    draft.put_ids(haystack.ids[:place])
    number = draft.pair(draft.frames["needle"], key, "".join(values))
    draft.put_ids(haystack.ids[place:CONTEXT_TOKENS])
    other, wrong = (draft.put(word) for word in draft.values(2))
    draft.bind(other, wrong)  # a question needs a wrong value
    draft.ask(draft.frames["needle_question"], [number], words={"key": key})
    sample = draft.finished()
    question, pair = sample.questions[0], sample.pairs[number]
    begin = len(sample.ids) + len(question.ids) - 1
    ids = [*sample.ids, *question.ids, *question.right[0]]
    return ids, list(range(begin, begin + len(question.right[0]))), pair.value
