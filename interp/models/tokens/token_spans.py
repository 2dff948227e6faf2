"""Which tokens spell which words: from a phrase of a text, over character offsets, to positions of an encoder's block."""

import itertools
import re
import unicodedata
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from interp.errors import ArgumentError
from interp.words import attaches, begins_word

Role = Literal["bos", "text", "eos", "pad"]
Padding = Literal["right", "left", "none", "left16"]


@dataclass(frozen=True)
class Token:
    """One position of a conditioning: `position` counts on its sequence axis, the characters are those of the text as given.

    A token that stands for no characters (beginning, end, padding) has `char_start == char_end`.
    """

    encoder: str
    position: int
    token_id: int
    token: str
    role: Role
    char_start: int
    char_end: int
    unknown: bool = False
    """Whether the tokenizer has no token for these characters: all that it does not know is one and the same."""


def read_tokens(
    text: str,
    tokenizer: Any,
    encoder: str,
    start: int,
    n_positions: int,
    convert: Callable[[str, Any], str] = lambda text, tokenizer: text,
    before: str = "",
    after: str = "",
    *,
    padding: Padding = "right",
    special: bool = True,
) -> list[Token]:
    """Returns the token at each of an encoder's positions, which begin at `start`, when it reads the text.

    Offsets are into the text as given, also where the tokenizer lower-cases, composes characters or drops spaces, and where
    `convert` (the pipeline's maybe_convert_prompt) writes one placeholder of textual inversion as several tokens.
    `before` and `after` stand around every text: their tokens belong to the beginning and to the end. Padding is on the right
    ("none" reads as that), on the "left", or ("left16") on the left up to a multiple of 16; `special` says whether the tokenizer
    adds a beginning and an end of its own.
    Raises ArgumentError when the text is longer than the encoder takes.
    """
    written, places = _with_placeholders(text, tokenizer, convert(text, tokenizer))
    places = [(0, 0)] * len(before) + places
    options = {} if special else {"add_special_tokens": False}
    read = tokenizer(before + written + after, return_offsets_mapping=True, verbose=False, **options)
    ids, offsets = read["input_ids"], read["offset_mapping"]
    if len(ids) > n_positions:
        n_own = len(tokenizer(before + after, **options)["input_ids"]) if before + after else 0
        raise ArgumentError(
            f"The text is {len(ids) - n_own} tokens long for the encoder {encoder}, which takes {n_positions - n_own}: shorten it "
            f"(nothing is cut). It begins {text[:40]!r}."
        )
    # CLIP and BERT have a beginning and an end, T5 an end, and language models a beginning or nothing.
    around = tokenizer("", **options)["input_ids"]
    with_letter = tokenizer("x", **options)["input_ids"]
    n_before = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(around, with_letter, strict=False))))
    n_after = len(around) - n_before
    n_pads = n_positions - len(ids)
    n_left = {"left": n_pads, "left16": -len(ids) % 16}.get(padding, 0)
    tokens = []
    for place, id in enumerate([*ids, *[tokenizer.pad_token_id] * n_pads]):
        role = _role(place, len(ids), n_before, n_after)
        if role == "text" and offsets[place][1] <= len(before):
            role = "bos"
        if role == "text" and offsets[place][0] >= len(before) + len(written):
            role = "eos"
        begin, end = _in_text(places, *offsets[place]) if role == "text" else (0, 0)
        unknown = role == "text" and id == tokenizer.unk_token_id and id != tokenizer.eos_token_id
        at = start + (place + n_left) % n_positions
        tokens.append(Token(encoder, at, id, tokenizer.convert_ids_to_tokens(id), role, begin, end, unknown))
    return sorted(tokens, key=lambda token: token.position)


def _with_placeholders(text: str, tokenizer: Any, written: str) -> tuple[str, list[tuple[int, int]]]:
    """The text as the pipeline passes it on, each placeholder of several vectors written out, and the characters that each of
    its own stands for.

    `written` is what the pipeline makes of it. Raises ArgumentError when that is something else.
    """
    if written == text:
        return text, [(place, place + 1) for place in range(len(text))]
    if written == text.lower().strip():  # as pipelines clean a text; some letters are several in lower case
        lower = [(sign, (place, place + 1)) for place, letter in enumerate(text) for sign in letter.lower()]
        start = len(text.lower()) - len(text.lower().lstrip())
        return written, [place for _, place in lower[start : start + len(written)]]
    known = tokenizer.get_added_vocab()
    several = sorted((token for token in known if f"{token}_1" in known), key=len, reverse=True)
    expanded, places, last = "", [], 0
    for match in re.finditer("|".join(map(re.escape, several)) or r"(?!)", text):
        places += [(place, place + 1) for place in range(last, match.start())]
        vectors = _vectors(match[0], known)
        expanded += text[last : match.start()] + vectors
        places += [match.span()] * len(vectors)
        last = match.end()
    places += [(place, place + 1) for place in range(last, len(text))]
    expanded += text[last:]
    if expanded != written:
        raise ArgumentError(
            f"The placeholders in {text!r} are written out as {written!r}, in which no position can be told: use placeholders "
            "whose names are not part of each other."
        )
    return expanded, places


def _vectors(placeholder: str, known: Container[str]) -> str:
    """A placeholder's vectors as the pipeline writes them: "<cat> <cat>_1 <cat>_2"."""
    further = itertools.takewhile(known.__contains__, (f"{placeholder}_{n}" for n in itertools.count(1)))
    return " ".join([placeholder, *further])


def _in_text(places: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    return (places[start][0], places[end - 1][1]) if start < end else (0, 0)


def _role(place: int, n_ids: int, n_before: int, n_after: int) -> Role:
    if place >= n_ids:
        return "pad"
    return "eos" if place >= n_ids - n_after else "bos" if place < n_before else "text"


def spelling(tokens: Sequence[Token], start: int, end: int) -> tuple[int, ...]:
    """Returns the positions of the text tokens that hold any of the characters start … end - 1."""
    inside = [t for t in tokens if t.role == "text" and t.char_start < end and t.char_end > start]
    return tuple(token.position for token in inside)


def spelling_apart(text: str, tokens: Sequence[Token], start: int, end: int) -> tuple[int, ...]:
    """Returns the positions of the tokens that spell the characters start … end - 1, which are those of a phrase alone.

    Raises ArgumentError where a token spells letters of the text around it too, or the tokenizer does not know a character: then
    no position stands for the phrase.
    """
    inside = [t for t in tokens if t.role == "text" and t.char_start < end and t.char_end > start]
    phrase = text[start:end]
    for token in inside:
        around = text[token.char_start : min(token.char_end, start)] + text[max(token.char_start, end) : token.char_end]
        if any(sign.isalnum() for sign in around):
            raise ArgumentError(
                f"{phrase!r} shares the token {text[token.char_start : token.char_end]!r} of the encoder {token.encoder} with the text "
                "around it: name all of that."
            )
        if token.unknown:
            raise ArgumentError(
                f"The encoder {token.encoder} does not know {text[token.char_start : token.char_end]!r} in {phrase!r}: name an item "
                "in characters that it reads."
            )
    return tuple(token.position for token in inside)


def find_phrase(text: str, phrase: str, occurrence: int | None = None) -> tuple[int, int]:
    """Returns the characters [start, end) at which the phrase stands in the text, in any case, spacing and composition.

    It begins and ends where letters do not go on (`begins_word` tells scripts without spaces), so "blue" is in "blue-eyed" and
    not in "bluer"; a Korean phrase may have particles after it. `occurrence` counts from 0.
    Raises ArgumentError when the phrase is not there (with the nearest words that are), when it is there several times and
    none was chosen, or fewer times than that.
    """
    words = composed(phrase)[0].split()
    if not words:
        raise ArgumentError("The phrase to look for is empty: name a word of the text.")
    plain, origin = composed(text)
    matches = re.finditer(r"(?=(" + r"\s+".join(map(re.escape, words)) + r"))", plain, re.IGNORECASE)
    spans = [match.span(1) for match in matches if _stands_apart(plain, *match.span(1))]
    found = [(origin[start], origin[end]) for start, end in _without_overlaps(spans)]
    if not found:
        raise ArgumentError(f"{phrase!r} is not in {text!r}.{_nearest(text, words)}")
    if occurrence is None and len(found) > 1:
        raise ArgumentError(
            f"{phrase!r} is {len(found)} times in {text!r}: say which with occurrence, from 0 to {len(found) - 1}."
        )
    if occurrence is not None and not 0 <= occurrence < len(found):
        raise ArgumentError(
            f"{phrase!r} is in {text!r} {len(found)} times, so there is no occurrence {occurrence}: count from 0."
        )
    return found[occurrence or 0]


def composed(text: str) -> tuple[str, list[int]]:
    """Returns the text with composed characters (NFC), and where each of its characters, and its end, is in the text as given.

    Variation selectors, which choose the looks of a sign, are left out.
    """
    plain, origin, start = [], [], 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not (attaches(text[end]) or _composes(text[start:end], text[end])):
            cluster = unicodedata.normalize("NFC", text[start:end]).translate(_NO_VARIATIONS)
            plain.append(cluster)
            # Characters that one cluster composes to begin where it does; only its end is after it.
            origin += [start] * len(cluster) if len(cluster) != end - start else range(start, end)
            start = end
    return "".join(plain), [*origin, len(text)]


_NO_VARIATIONS = dict.fromkeys(map(ord, "\ufe0e\ufe0f"))


def _composes(cluster: str, sign: str) -> bool:
    """Whether a character becomes part of the one before it: the letters of a Korean syllable do."""
    return unicodedata.normalize("NFC", cluster + sign) != unicodedata.normalize("NFC", cluster) + sign


def _stands_apart(text: str, start: int, end: int) -> bool:
    """Whether no word of the text goes on over the borders of the span; a Korean one may have its particles after it."""
    if _goes_over(text, start):
        return False
    return not _goes_over(text, end) or _is_before_particles(text, end)


def _goes_over(text: str, border: int) -> bool:
    if not 0 < border < len(text):
        return False
    before, after = text[border - 1], text[border]
    # A mark goes with its letter, an emoji with its joiner.
    if attaches(after) or before == "\u200d" or _is_within_a_run(text, border):
        return True
    if _is_flag_letter(after):  # two of them are a flag
        run = itertools.takewhile(_is_flag_letter, reversed(text[:border]))
        return len(list(run)) % 2 == 1
    return _word_goes_on(before, after)


def _word_goes_on(before: str, after: str) -> bool:
    if not (before.isalnum() or attaches(before) or before == "_") or not (after.isalnum() or after == "_"):
        return False
    return not begins_word(after) and (unicodedata.category(after) == "Lo" or not begins_word(before))


_NUMBER = re.compile(r"\d(?:[.,:/⁄'’٫٬]|[\u00a0\u2009\u202f](?=\d{3}(?!\d)))\d")
"""Where a number goes on: 2.5, 10,000, 1/2; not behind a blank that is none of its own."""


def _is_within_a_run(text: str, border: int) -> bool:
    """Whether a number goes on over the border, or a word in katakana, such as カメラ, which is no カメ."""
    if _is_katakana(text[border - 1]) and _is_katakana(text[border]):
        return True
    return any(_NUMBER.match(text, max(0, place)) is not None for place in (border - 1, border - 2))


def _is_katakana(sign: str) -> bool:
    return (
        ("\u30a1" <= sign <= "\u30fe" and sign != "・") or "\u31f0" <= sign <= "\u31ff" or "\uff66" <= sign <= "\uff9f"
    )


def _is_flag_letter(sign: str) -> bool:
    return "\U0001f1e6" <= sign <= "\U0001f1ff"


def _is_before_particles(text: str, place: int) -> bool:
    """Whether all that a Korean word goes on with is particles, in the form that follows its last syllable."""
    if not "가" <= text[place - 1] <= "힣":
        return False
    closed = (ord(text[place - 1]) - ord("가")) % 28 != 0  # it ends in a consonant
    return re.match(rf"(?:{_AFTER_CONSONANT if closed else _AFTER_VOWEL})(?![가-힣])", text[place:]) is not None


_ALWAYS = "들?(?:의|에|에서|에게|에는|에도|께|께서|도|만|부터|까지|처럼|보다|하고|마다|한테|밖에|조차)"
_PLURAL = "들(?:은|이|을|과|으로|이랑|이나)?"
_AFTER_CONSONANT = f"{_ALWAYS}|{_PLURAL}|은|이|을|과|으로|로|이랑|이나"  # 로 too, after its l
_AFTER_VOWEL = f"{_ALWAYS}|{_PLURAL}|는|가|를|와|로|랑|나"


def _without_overlaps(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for start, end in spans:
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def _nearest(text: str, words: Sequence[str]) -> str:
    """' Did you mean X?' for the run of as many words of the text that looks most like the phrase, or nothing."""
    import difflib

    known = [word.strip(".,;:!?\"'()").lower() for word in text.split()]
    runs = [" ".join(known[first : first + len(words)]) for first in range(len(known) - len(words) + 1)]
    wanted = " ".join(words).lower()
    near = difflib.get_close_matches(wanted, runs, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
