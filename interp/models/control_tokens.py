"""Control tokens: texts such as `</s>` or `<|im_end|>` that steer a model, and how to write them as mere text."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase


class Controls(NamedTuple):
    """What steers a model: `texts` matches any of it; `others` those that are not declared as special tokens.

    `ids` are the special tokens that a text never holds (the one for unknown letters may stand in any text).
    """

    texts: re.Pattern[str]
    others: re.Pattern[str]
    ids: frozenset[int]


def controls_of(tokenizer: PreTrainedTokenizerBase) -> Controls:
    """Returns a tokenizer's control tokens: its special tokens, and added tokens that its chat template writes."""
    return _controls(tokenizer, str(tokenizer.chat_template or ""), len(tokenizer))


@lru_cache(maxsize=16)
def _controls(tokenizer: Any, template: str, n_tokens: int) -> Controls:
    added = [token for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()]
    special = {token.content for token in added if token.special} | set(map(str, tokenizer.all_special_tokens))
    others = {token.content for token in added if token.content in template} - special
    return Controls(
        _any_of(special | others), _any_of(others), frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    )


def _any_of(texts: set[str]) -> re.Pattern[str]:
    longest_first = sorted((text for text in texts if len(text) > 1), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def cuts(pattern: re.Pattern[str], text: str) -> list[int]:
    """Returns the places behind the first character of every match, overlapping ones too: cut there, none is left."""
    places, start = [], 0
    while match := pattern.search(text, start):
        start = match.start() + 1
        places.append(start)
    return places
