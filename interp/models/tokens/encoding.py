"""From text to token ids: beginning-of-sequence policy, pieces of a text, spans. Works on any fast tokenizer.

Control tokens are texts such as `</s>` or `<|im_end|>` that steer a model; in a text that a user wrote they are mere text.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError, UserError, check_choice

BosPolicy = Literal["auto", "always", "never"]

_ANCHORS = ("a", "~", "\n")


class Piece(NamedTuple):
    """A part of a text as tokens: ids, and the characters [start, end) of the part that each token covers."""

    ids: list[int]
    offsets: list[tuple[int, int]]


def encode_piece(
    tokenizer: PreTrainedTokenizerBase, text: str, *, first: bool = False, by_template: bool = False
) -> Piece:
    """Returns the tokens of a text that continues another one: no special tokens, no invented leading space.

    What looks like a control token is text, unless a chat template wrote it (`by_template`).
    SentencePiece tokenizers put a space before whatever they are given; here the text is encoded behind a character and that
    character's tokens are dropped. A text that comes `first`, with nothing but special tokens before it, is encoded as the
    tokenizer writes a whole text, with that space.
    Raises UserError for a slow tokenizer, which does not tell which characters a token covers; ArgumentError for a character that
    the tokenizer reads as a control token, and for what is no text.
    """
    _check_fast(tokenizer)
    if by_template:
        return _behind_anchor(tokenizer, text, first=first, as_text=False)
    controls = controls_of(tokenizer)
    piece = _in_parts(tokenizer, text, cuts(controls.others, text), first=first)
    if controls.ids.isdisjoint(piece.ids):
        return piece
    places = set(cuts(controls.texts, text))  # the vocabulary itself spells a control token
    piece = _in_parts(tokenizer, text, sorted(places), first=first)
    while inside := _inside_controls(tokenizer, controls, text, piece):  # other characters are made into one (NFKC)
        places |= inside
        piece = _in_parts(tokenizer, text, sorted(places), first=first)
    return piece


def _check_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} does not report character offsets: use the model's fast tokenizer."
        )


def _inside_controls(tokenizer: PreTrainedTokenizerBase, controls: "Controls", text: str, piece: Piece) -> set[int]:
    """The places behind the first character of each control token among a text's tokens."""
    ids = controls.ids - _unknown_ids(tokenizer)  # what the tokenizer does not know is no control token: see `unread`
    found = [(id, *offset) for id, offset in zip(piece.ids, piece.offsets, strict=True) if id in ids]
    for id, start, end in found:
        if end - start < 2:
            raise ArgumentError(
                f"This tokenizer reads {text[start:end]!r} as its control token {tokenizer.convert_ids_to_tokens(id)}: leave it out of "
                "the text."
            )
    return {start + 1 for _, start, _ in found}


def _in_parts(tokenizer: PreTrainedTokenizerBase, text: str, places: list[int], *, first: bool) -> Piece:
    whole = Piece([], [])
    for begin, end in pairwise([0, *places, len(text)]):
        part = _behind_anchor(tokenizer, text[begin:end], first=first and begin == 0, as_text=True)
        whole.ids.extend(part.ids)
        whole.offsets.extend((begin + start, begin + stop) for start, stop in part.offsets)
    return whole


def _behind_anchor(tokenizer: PreTrainedTokenizerBase, text: str, *, first: bool, as_text: bool) -> Piece:
    kept: list[tuple[int, tuple[int, int]]] = []
    for anchor in ("",) if first else (*_ANCHORS, ""):  # a text may merge with an anchor
        try:
            encoded: Any = tokenizer(
                anchor + text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=as_text
            )
        except TypeError as error:  # half of a surrogate pair, which tokenizers do not take for text
            raise ArgumentError(
                f"This is no text that can be encoded: {text[:40]!r}. Leave out what is no character."
            ) from error
        pairs = list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
        kept = [(id, (start - len(anchor), end - len(anchor))) for id, (start, end) in pairs if end > len(anchor)]
        if all(start >= 0 for _, (start, _) in kept):
            break
    return Piece([id for id, _ in kept], _with_composed(tokenizer, text, [offset for _, offset in kept]))


def _with_composed(
    tokenizer: PreTrainedTokenizerBase, text: str, offsets: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The characters of tokens with the marks that the tokenizer composes with them (NFC, NFKC): it reports the first alone.

    A mark without which the text would be written alike is not spelled, and stays in no token.
    """
    backend: Any = tokenizer.backend_tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    if backend.normalizer is None:
        return offsets
    longer: dict[int, int] = {}
    end = 0
    for start, stop in [*offsets, (len(text), len(text))]:
        if end and text[end:start].strip():
            longer[end] = _composed_end(backend.normalizer, text, end, start)
        end = max(end, stop)
    return [(start, longer.get(stop, stop)) for start, stop in offsets] if longer else offsets


def _composed_end(normalizer: Any, text: str, end: int, following: int) -> int:
    """Where the character that ends at a place, and the marks behind it that change how it is written, end."""
    written = normalizer.normalize_str(text[end - 1 : end])
    reached = end
    for place in range(end, following):
        again = normalizer.normalize_str(text[end - 1 : place + 1])
        if text[place].isspace():
            break
        if again.rstrip() != written.rstrip():
            written, reached = again, place + 1
    return reached


def covering(piece: Piece, start: int, end: int) -> tuple[int, int]:
    """Returns the range [first, last) of a piece's tokens that cover its characters [start, end).

    Raises ValueError when no token does.
    """
    inside = [index for index, (a, b) in enumerate(piece.offsets) if a < end and b > start]
    if not inside:
        raise ValueError(f"no token covers characters {start} to {end}")
    return inside[0], inside[-1] + 1


def unread(tokenizer: PreTrainedTokenizerBase, piece: Piece, text: str, start: int, end: int) -> str:
    """Returns the characters of text[start:end], except blanks, that a piece's tokens lose: unknown, or in no token.

    What an unknown token covers is lost, though another one may cover it too: T5's "▁" has the place of the letter behind it.
    """
    unknown = _unknown_ids(tokenizer)
    kept: set[int] = set()
    lost: set[int] = set()
    for id, offset in zip(piece.ids, piece.offsets, strict=True):
        (lost if id in unknown else kept).update(range(*offset))
    kept -= lost
    return "".join(text[place] for place in range(start, end) if place not in kept and not text[place].isspace())


def _unknown_ids(tokenizer: Any) -> set[int]:
    """The token for what a vocabulary lacks, as the tokenizer declares it and as its model has it."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    named = getattr(backend.model, "unk_token", None) if backend else None
    return {tokenizer.unk_token_id, backend.token_to_id(named) if named else None} - {None}


def beginning(tokenizer: PreTrainedTokenizerBase, policy: BosPolicy) -> list[int]:
    """Returns the special tokens a plain text starts with: the beginning of a sequence, or nothing.

    "auto" does what the tokenizer does by itself: what it writes before a text, be it <s>, </s> or [CLS].
    Raises ArgumentError when "always" is asked of a tokenizer that has none, and for another policy.
    """
    check_choice("policy", policy, get_args(BosPolicy))
    bos: Any = tokenizer.bos_token_id
    if policy == "never":
        return []
    if policy == "always" and bos is not None:
        return [bos]
    own = _written_before(tokenizer)
    if policy == "always" and not own:
        raise ArgumentError("This tokenizer has no beginning-of-sequence token: use --bos auto or never.")
    return own


def _written_before(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before a text: the tokens of a whole text up to where those of the bare one begin."""
    for text in _ANCHORS:
        whole: Any = tokenizer(text)["input_ids"]
        bare: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
        places = range(len(whole) - len(bare) + 1) if bare else ()
        for place in places:
            if whole[place : place + len(bare)] == bare:
                return list(whole[:place])
    return []


def check_single_beginning(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], model: str) -> None:
    """Raises UserError when a text begins with the beginning-of-sequence token twice, which shifts attention."""
    bos: Any = tokenizer.bos_token_id
    begins = {bos, *_written_before(tokenizer)[:1]} - {None}
    if len(ids) > 1 and ids[0] == ids[1] and ids[0] in begins:
        raise UserError(f"The prompt of {model} begins with two beginning-of-sequence tokens: use --bos never.")


def stop_ids(tokenizer: PreTrainedTokenizerBase, generation_config: Any, *, at_newline: bool) -> list[int]:
    """Returns the tokens that end an answer: the model's end tokens and, if asked, every token with a line break in it."""
    configured = getattr(generation_config, "eos_token_id", None)
    own: Any = tokenizer.eos_token_id
    ends: set[int] = {own, *(configured if isinstance(configured, list) else [configured])} - {None}
    if at_newline:
        texts = tokenizer.batch_decode([[id] for id in range(len(tokenizer))])
        ends |= {id for id, text in enumerate(texts) if "\n" in text}
    return sorted(ends)


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int] | None = None) -> list[str]:
    """Returns what each token (all, or those named) adds to a text that it continues; "" for special tokens.

    A leading space is included, whether the vocabulary writes it as Ġ, as ▁ or as the lack of ##. A token that holds some bytes of
    a character only adds U+FFFD.
    """
    wanted = list(range(len(tokenizer)) if ids is None else ids)  # type: ignore[arg-type]
    anchor: Any = tokenizer(_ANCHORS[0], add_special_tokens=False)["input_ids"]
    before = str(tokenizer.decode(anchor))
    texts = tokenizer.batch_decode([[*anchor, id] for id in wanted], clean_up_tokenization_spaces=False)
    special = set(tokenizer.all_special_ids)
    return ["" if id in special else text[len(before) :] for id, text in zip(wanted, texts, strict=True)]


# ---------------------------------------------------------------------- control tokens


class Controls(NamedTuple):
    """Control tokens of a model: `texts` matches any of them; `others` those that are not declared as special tokens.

    `ids` are those that a text never holds: not the one for unknown letters, which may stand in any text, nor a single sign.
    """

    texts: re.Pattern[str]
    others: re.Pattern[str]
    ids: frozenset[int]


def controls_of(tokenizer: PreTrainedTokenizerBase) -> Controls:
    """Returns a tokenizer's control tokens: its special tokens, and added tokens that its chat template writes."""
    special = frozenset(map(str, tokenizer.all_special_tokens))
    return _controls(tokenizer, str(tokenizer.chat_template or ""), special, len(tokenizer))


@lru_cache(maxsize=16)
def _controls(tokenizer: Any, template: str, declared: frozenset[str], _n_tokens: int) -> Controls:
    added = [token for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()]
    special = {token.content for token in added if token.special} | declared
    others = {token.content for token in added if token.content in template} - special
    ids = {tokenizer.convert_tokens_to_ids(text) for text in special | others if len(text) > 1 and not text.isspace()}
    return Controls(_any_of(special | others), _any_of(others), frozenset(ids - {tokenizer.unk_token_id, None}))


def _any_of(texts: set[str]) -> re.Pattern[str]:
    longest_first = sorted((text for text in texts if len(text) > 1), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def control_spans(tokenizer: PreTrainedTokenizerBase, text: str) -> list[tuple[int, int]]:
    """Returns where a text would hold control tokens if a template wrote it: as they are spelled, or what is made into one.

    Raises UserError for a slow tokenizer.
    """
    _check_fast(tokenizer)
    controls = controls_of(tokenizer)
    piece = _behind_anchor(tokenizer, text, first=False, as_text=False)
    read = [offset for id, offset in zip(piece.ids, piece.offsets, strict=True) if id in controls.ids]
    spans: list[tuple[int, int]] = []
    for start, end in sorted([*(match.span() for match in controls.texts.finditer(text)), *read]):
        if spans and start < spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def cuts(pattern: re.Pattern[str], text: str) -> list[int]:
    """Returns the positions after the first character of every match, overlapping ones too: cutting there leaves no match."""
    places, start = [], 0
    while match := pattern.search(text, start):
        start = match.start() + 1
        places.append(start)
    return places
