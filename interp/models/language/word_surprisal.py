"""The surprisal of words in a text that a model reads, in the modes of `word_probability`."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language.history import History
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import Prefix
from interp.models.language.spellings import Vocabulary, exact_probabilities
from interp.models.language.word_probability import (
    EncodedWords,
    WordSurprisal,
    boundary_log_probability,
    token_log_probabilities,
    word_surprisal,
)


def read_words(
    model: LanguageModel,
    rows: Prefix | History,
    before: Float[Tensor, "row one vocabulary"],
    texts: Sequence[EncodedWords],
    vocabulary: Vocabulary,
    *,
    exact_rows: Sequence[int] = (),
    exact_threshold: float = 1e-3,
) -> list[list[WordSurprisal]]:
    """Reads one text per row, in place, and returns the surprisal of its words.

    `before` are the logits after what the rows have read so far. Rows named in `exact_rows` get the exact mode too.
    """
    ids = [list(one.ids) for one in texts]
    starts = rows.lengths
    logits = model.extend(rows, ids, logits="all")
    log_p = torch.log_softmax(torch.cat([before, logits], dim=1), dim=-1)  # column i predicts token i of the text
    taken = token_log_probabilities(log_p, ids)
    ends = boundary_log_probability(log_p, vocabulary.boundary).cpu()
    words = [
        [
            word_surprisal(float(taken[row, first:last].sum()), float(ends[row, first]), float(ends[row, last]))
            for first, last in one.spans
        ]
        for row, one in enumerate(texts)
    ]
    if exact_rows:
        found = exact_probabilities(model, rows, starts, texts, log_p, vocabulary, list(exact_rows), exact_threshold)
        for (row, word), (log_probability, left_out) in found.items():
            begins = float(ends[row, texts[row].spans[word][0]])
            modes = {**words[row][word].surprisal_nats, "exact": begins - log_probability}
            words[row][word] = WordSurprisal(modes, left_out)
    return words
