"""Function and content tokens: by cumulative frequency, as the paper has it, with how evenly a token is spread beside it."""

import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.models.tokens.encoding import token_texts
from interp.words import attaches, begins_word, holds_letters

Kind = Literal["word", "part of word", "number", "punctuation", "whitespace", "other"]
FUNCTION, CONTENT = "function", "content"
SHARE_ROUNDING = 1e-12


def count_tokens(
    texts: Sequence[Sequence[int]], n_ids: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Returns per token id: occurrences, texts that contain it, and the deviation of proportions of its spread.

    DP = ½ Σ_texts |share of the token's occurrences in the text − share of all tokens in the text| (Gries 2008): 0 for a
    token spread as evenly as the texts are long, near 1 for one that lives in a single short text.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ids = np.concatenate([np.asarray(text, dtype=np.int64) for text in texts])
    document = np.repeat(np.arange(len(texts)), lengths)
    pair, in_text = np.unique(ids * len(texts) + document, return_counts=True)
    token, text = np.divmod(pair, len(texts))
    counts = np.bincount(ids, minlength=n_ids)
    documents = np.bincount(token, minlength=n_ids)
    expected = lengths / lengths.sum()
    # Σ|v − s| over all texts = Σ over texts with the token of (|v − s| − s) + Σ s, and Σ s is 1.
    deviation = np.abs(in_text / counts[token] - expected[text]) - expected[text]
    dispersion = 0.5 * (np.bincount(token, weights=deviation, minlength=n_ids) + 1)
    return counts, documents, np.where(counts > 0, dispersion, np.nan)


def classify(texts: Sequence[Sequence[int]], threshold: float, tokenizer: Any, n_ids: int) -> pd.DataFrame:
    """Returns every token id that occurs, most frequent first, and its class; its text is what it adds to a text it continues.

    Function tokens are those added from the top until they cover `threshold` of all occurrences; the token that reaches the
    threshold is the last one in (the paper's list ends at 39.99% of 40%, before it). Equal counts are in id order.
    arXiv:2510.08203, section 2.2; coverage of texts and DP are reported beside and are not part of the rule.
    """
    counts, documents, dispersion = count_tokens(texts, n_ids)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    share = counts[order] / counts.sum()
    cumulative = np.cumsum(counts[order]) / counts.sum()
    added = token_texts(tokenizer, map(int, order))
    return pd.DataFrame(
        {
            "token_id": order,
            "token": [text or tokenizer.decode([int(token)]) for token, text in zip(order, added, strict=True)],
            "kind": [kind_of(text) for text in added],
            "rank": np.arange(1, len(order) + 1),
            "count": counts[order],
            "share": share,
            "cumulative_share": cumulative,
            "document_coverage": documents[order] / len(texts),
            "dispersion": dispersion[order],
            "token_class": np.where(is_function(cumulative, threshold), FUNCTION, CONTENT),
        }
    )


def is_function(cumulative_share: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Returns which tokens, most frequent first, are needed to cover `threshold` of the occurrences."""
    before = np.concatenate([[0.0], cumulative_share[:-1]])
    return before < threshold - SHARE_ROUNDING


def token_ranks(classes: pd.DataFrame, largest_id: int) -> NDArray[np.int32]:
    """Returns each token id's frequency rank (1 is the most frequent); ids that never occurred come after all others, in id order."""
    size = int(max(classes["token_id"].max(), largest_id)) + 1
    ranks = len(classes) + 1 + np.arange(size)
    ranks[classes["token_id"]] = classes["rank"]
    return ranks.astype(np.int32)


def kind_of(token: str) -> Kind:
    """Returns what a token is made of, by what it adds to a text: the beginning of a word, part of a word, a number, signs, blanks.

    A word begins behind a space, and with any letter of a script without spaces between words. Marks and joiners count with the
    sign they belong to; marks alone are part of a word. A special token, which adds "", and parts of characters are "other".
    """
    text = token.strip()
    if not text:
        return "whitespace" if token else "other"
    if "\ufffd" in text:
        return "other"
    kinds = {unicodedata.category(sign)[0] for sign in text if not attaches(sign)}
    if kinds and kinds <= {"N"}:
        return "number"
    if kinds and kinds <= {"P", "S"}:
        return "punctuation"
    if not holds_letters(text):
        return "other"
    return "word" if begins_word(token) else "part of word"
