"""Passages of prose to read: the beginnings of news articles in a random order."""

from typing import Any

import numpy as np

from interp.errors import ArgumentError
from interp.prose import news_articles
from probes.joined.class_mass import Text

LETTERS_PER_TOKEN = 8
"""An article is cut to so many letters per token before it is read; fewer than this many tokens come of it almost never."""


def prose_texts(tokenizer: Any, n: int, n_tokens: int, seed: int) -> list[Text]:
    """Returns n passages of n_tokens tokens each, every position but the first a query; they begin as the tokenizer has it.

    Raises ArgumentError when there are not so many articles of that length.
    """
    articles = news_articles()
    texts: list[Text] = []
    for index in np.random.default_rng(seed).permutation(len(articles)):
        ids = tokenizer(articles[index][: n_tokens * LETTERS_PER_TOKEN], verbose=False)["input_ids"]
        if len(ids) >= n_tokens:
            texts.append(Text(f"article-{index:04d}", "prose", list(map(int, ids[:n_tokens])), range(1, n_tokens)))
        if len(texts) == n:
            return texts
    raise ArgumentError(
        f"Only {len(texts)} articles have {n_tokens} tokens: use fewer --n-passages or shorter --passage-tokens."
    )
