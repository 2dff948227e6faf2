"""The texts: prose that goes on, a list of words that comes back, and a question about a sentence of the prompt."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.tokens.encoding import beginning, covering, encode_piece
from interp.stimuli.haystack import build_haystack
from interp.stimuli.prose import news_articles
from probes.kv_policies.settings import Material, Scope, Settings

WORDS = Path(__file__).with_name("words.toml")
DEPTHS = (0.2, 0.4, 0.6, 0.8)
"""Where needles go, one after the other."""
_LIST_LEAD = " Mary wrote down a list of words:"
_LIST_AGAIN = " When she got back, she read the list again:"
_LIST_FIRST_SHARE = 0.25
"""How much of the prose stands before the list."""


@dataclass(frozen=True)
class Text:
    """A prompt and what follows it, as token ids. The continuation's first token is read and not scored."""

    text_id: str
    material: Material
    scope: Scope
    prompt: tuple[int, ...]
    continuation: tuple[int, ...]
    scored: tuple[int, ...]
    """Places in the continuation whose surprisal counts."""
    source: tuple[int, int]
    """Token range [start, end) of the prompt that the scored tokens are a copy of; (0, 0) in prose."""
    cue: tuple[int, int] = (0, 0)
    """Token range of the sentence it stands in."""


@cache
def _words() -> tuple[tuple[str, ...], tuple[str, ...]]:
    found = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    places = "".join(found["places"].splitlines()).split("|")
    return tuple(dict.fromkeys(found["nouns"].split())), tuple(place.strip() for place in places)


def build_text(settings: Settings, model: LanguageModel, material: Material, number: int, scope: Scope) -> Text:
    """Returns one text; the same number gives the same text whatever the policies.

    Raises ArgumentError where the prompt has no room for it.
    """
    if material == "prose":
        return _prose(settings, model, number)
    return _list(settings, model, number) if material == "lists" else _needle(settings, model, number, scope)


def _prose(settings: Settings, model: LanguageModel, number: int) -> Text:
    lead = beginning(model.tokenizer, settings.bos)
    n_after = settings.prose_tokens + 1
    n = settings.prompt_tokens - len(lead)
    ids = _news(settings, model, f"prose-{number}", n + n_after)
    return Text(
        f"prose-{number:03d}",
        "prose",
        "context_only",
        (*lead, *ids[:n]),
        ids[n : n + n_after],
        tuple(range(1, n_after)),
        (0, 0),
    )


def _list(settings: Settings, model: LanguageModel, number: int) -> Text:
    tokenizer = model.tokenizer
    lead = beginning(tokenizer, settings.bos)
    nouns, _ = _words()
    generator = np.random.default_rng([settings.seed, 1, number])
    if settings.list_words > len(nouns):
        raise ArgumentError(f"There are {len(nouns)} words for lists: lower --list-words.")
    chosen = [str(word) for word in generator.choice(nouns, size=settings.list_words, replace=False)]
    written = f" {', '.join(chosen)}."
    first, again = (encode_piece(tokenizer, part) for part in (_LIST_LEAD + written, _LIST_AGAIN + written))
    n_lead = len(_LIST_AGAIN)
    start = next(place for place, (begin, _) in enumerate(again.offsets) if begin >= n_lead)
    room = settings.prompt_tokens - len(lead) - len(first.ids) - (start - 1)
    _check_room(room, settings.prompt_tokens, f"A list of {settings.list_words} words", "--list-words")
    prose = _news(settings, model, f"list-{number}", room)
    before = int(room * _LIST_FIRST_SHARE)
    prompt = (*lead, *prose[:before], *first.ids, *prose[before:], *again.ids[: start - 1])
    where = len(lead) + before
    source = covering(first, len(_LIST_LEAD), len(_LIST_LEAD + written) - 1)
    continuation = again.ids[start - 1 : -1]
    return Text(
        f"lists-{number:03d}",
        "lists",
        "context_only",
        prompt,
        tuple(continuation),
        tuple(range(1, len(continuation))),
        (where + source[0], where + source[1]),
        (where, where + len(first.ids)),
    )


def _needle(settings: Settings, model: LanguageModel, number: int, scope: Scope) -> Text:
    tokenizer = model.tokenizer
    lead = beginning(tokenizer, settings.bos)
    sentence, question, cue, answer = needle_words(settings.seed, number)
    needle = encode_piece(tokenizer, f" {sentence} {answer}.")
    before = f"\n\nQuestion: {question}\nAnswer: {cue}"
    asked = encode_piece(tokenizer, f"{before} {answer}")
    begin, end = covering(asked, len(before) + 1, len(before) + 1 + len(answer))
    n_asked = begin - 1 if scope == "context_and_question" else 0
    room = settings.prompt_tokens - len(lead) - len(needle.ids) - n_asked
    _check_room(room, settings.prompt_tokens, "The needle and its question", "")
    haystack = build_haystack(tokenizer, news_articles(), room, seed=settings.seed, key=f"needle-{number}")
    prose = haystack.ids[:room]
    place = haystack.boundary_before(int(room * DEPTHS[number % len(DEPTHS)]))
    prompt = (*lead, *prose[:place], *needle.ids, *prose[place:], *asked.ids[:n_asked])
    where = len(lead) + place
    source = covering(needle, len(f" {sentence} "), len(f" {sentence} {answer}"))
    return Text(
        f"needles-{number:03d}",
        "needles",
        scope,
        prompt,
        tuple(asked.ids[n_asked:end]),
        tuple(range(begin - n_asked, end - n_asked)),
        (where + source[0], where + source[1]),
        (where, where + len(needle.ids)),
    )


def needle_words(seed: int, number: int) -> tuple[str, str, str, str]:
    """Returns a needle up to its answer, its question, how the answer begins, and the answer: two nouns drawn by chance."""
    nouns, places = _words()
    order = np.random.default_rng([seed, 2]).permutation(len(places))
    place = places[int(order[number % len(places)])]
    generator = np.random.default_rng([seed, 3, number])
    answer = " ".join(str(word) for word in generator.choice(nouns, size=2, replace=False))
    begun = f"The secret code of the {place} is"
    return begun, f"What is the secret code of the {place}?", begun, answer


def _news(settings: Settings, model: LanguageModel, key: str, n_tokens: int) -> tuple[int, ...]:
    haystack = build_haystack(model.tokenizer, news_articles(), n_tokens, seed=settings.seed, key=key)
    return haystack.ids[:n_tokens]


def _check_room(room: int, n_tokens: int, what: str, flag: str) -> None:
    if room < 0:
        lower = f" or lower {flag}" if flag else ""
        raise ArgumentError(
            f"{what} need {n_tokens - room} tokens and prompts have {n_tokens}: raise --prompt-tokens{lower}."
        )
