"""From text to token ids: beginning-of-sequence policy, pieces of a text, spans. Works on any fast tokenizer."""

from itertools import pairwise
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError, UserError
from interp.models.control_tokens import controls_of, cuts

BosPolicy = Literal["auto", "always", "never"]

_ANCHORS = ("a", "~", "\n")


class Piece(NamedTuple):
    """A part of a text as tokens: ids, and the characters [start, end) of the part that each token covers."""

    ids: list[int]
    offsets: list[tuple[int, int]]


def encode_piece(tokenizer: PreTrainedTokenizerBase, text: str, *, by_template: bool = False) -> Piece:
    """Returns the tokens of a text that continues another one: no special tokens, no invented leading space.

    What looks like a control token is text, unless a chat template wrote it (`by_template`).
    SentencePiece tokenizers put a space before whatever they are given; here the text is encoded behind a character and that
    character's tokens are dropped.
    Raises UserError for a slow tokenizer, which does not tell which characters a token covers.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} does not report character offsets: use the model's fast tokenizer."
        )
    if by_template:
        return _behind_anchor(tokenizer, text, as_text=False)
    controls = controls_of(tokenizer)
    piece = _in_parts(tokenizer, text, cuts(controls.others, text))
    if controls.ids.isdisjoint(piece.ids):
        return piece
    return _in_parts(tokenizer, text, cuts(controls.texts, text))  # the vocabulary itself spells a control token


def _in_parts(tokenizer: PreTrainedTokenizerBase, text: str, places: list[int]) -> Piece:
    whole = Piece([], [])
    for first, end in pairwise([0, *places, len(text)]):
        part = _behind_anchor(tokenizer, text[first:end], as_text=True)
        whole.ids.extend(part.ids)
        whole.offsets.extend((first + start, first + stop) for start, stop in part.offsets)
    return whole


def _behind_anchor(tokenizer: PreTrainedTokenizerBase, text: str, *, as_text: bool) -> Piece:
    kept: list[tuple[int, tuple[int, int]]] = []
    for anchor in (*_ANCHORS, ""):  # a text may merge with an anchor
        encoded: Any = tokenizer(
            anchor + text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=as_text
        )
        pairs = list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))
        kept = [(id, (start - len(anchor), end - len(anchor))) for id, (start, end) in pairs if end > len(anchor)]
        if all(start >= 0 for _, (start, _) in kept):
            break
    return Piece([id for id, _ in kept], [offset for _, offset in kept])


def covering(piece: Piece, start: int, end: int) -> tuple[int, int]:
    """Returns the range [first, last) of a piece's tokens that cover its characters [start, end).

    Raises ValueError when no token does.
    """
    inside = [index for index, (a, b) in enumerate(piece.offsets) if a < end and b > start]
    if not inside:
        raise ValueError(f"no token covers characters {start} to {end}")
    return inside[0], inside[-1] + 1


def beginning(tokenizer: PreTrainedTokenizerBase, policy: BosPolicy) -> list[int]:
    """Returns the beginning-of-sequence token a plain text starts with, or nothing.

    "auto" does what the tokenizer does by itself.
    Raises ArgumentError when "always" is asked of a tokenizer that has none.
    """
    bos: Any = tokenizer.bos_token_id
    if policy == "never":
        return []
    if policy == "always":
        if bos is None:
            raise ArgumentError("This tokenizer has no beginning-of-sequence token: use --bos auto or never.")
        return [bos]
    own: Any = tokenizer("a")["input_ids"]
    return [bos] if bos is not None and own and own[0] == bos else []


def check_single_beginning(tokenizer: PreTrainedTokenizerBase, ids: list[int], model: str) -> None:
    """Raises UserError when a text begins with the beginning-of-sequence token twice, which shifts attention."""
    bos: Any = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
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


def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Returns what each token adds to a text that it continues, its leading space included; "" for special tokens."""
    anchor: Any = tokenizer(_ANCHORS[0], add_special_tokens=False)["input_ids"]
    before = str(tokenizer.decode(anchor))
    texts = tokenizer.batch_decode([[*anchor, id] for id in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    special = set(tokenizer.all_special_ids)
    return ["" if id in special else text[len(before) :] for id, text in enumerate(texts)]
