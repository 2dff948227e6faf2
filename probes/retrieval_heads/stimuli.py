"""Samples: one needle in one haystack, as the token ids of a whole prompt, with the needle's place known exactly.

Prompts are put together from token ids and never decoded and encoded again, so all samples of one haystack share their
tokens up to the needle.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.language.thinking import Thinking, thinking_of
from interp.models.tokens.chat import chat_frame
from interp.models.tokens.encoding import (
    BosPolicy,
    Piece,
    beginning,
    check_single_beginning,
    covering,
    encode_piece,
    unread,
)
from interp.models.tokens.template_args import parse_template_args
from interp.stimuli.haystack import Haystack, build_haystack
from interp.stimuli.prose import news_articles, read_folder
from interp.stimuli.sentences import follows_without_a_space
from interp.words import holds_letters
from probes.retrieval_heads.needles import Needle, find_words
from probes.retrieval_heads.scores import RecallMeasure, reference_reads
from probes.retrieval_heads.settings import Settings

Cell = tuple[int, float]
"""A prompt length in tokens and a depth fraction."""
PromptFormat = Literal["auto", "chat", "plain", "reference"]

_TASK = "Read the text below, then answer the question about it.\n\n"
_CHAT_QUESTION = "\n\nQuestion: {question}\nAnswer with the exact words of the text."
_PLAIN_QUESTION = "\n\nQuestion: {question}\nAnswer:"
# The wording of the public reference script, which a comparison with its scores needs.
_REFERENCE_QUESTION = "Based on the content of the book, Question: {question}\nAnswer:"


@dataclass(frozen=True)
class Frame:
    """The tokens before and after the context in one needle's prompts."""

    head: tuple[int, ...]
    tail: tuple[int, ...]
    prompt_format: str
    has_bos: bool
    recall_measure: RecallMeasure = "words"
    """How answers to it are judged."""
    thinking: Thinking | None = None
    """Where thoughts before an answer begin and end, if it may have any."""


@dataclass(frozen=True)
class Sample:
    """One prompt. `needle_start` … are token positions in it; -1 where the prompt has no needle (the control)."""

    sample_id: str
    needle: Needle
    context_tokens: int
    depth_fraction: float
    reached_depth_fraction: float
    """Haystack tokens before the needle over all of them: what boundaries between sentences made of the depth asked for."""
    ids: tuple[int, ...]
    needle_start: int
    needle_end: int
    gold_start: int
    gold_end: int
    gold_ids: tuple[int, ...]
    frame: Frame

    @property
    def has_needle(self) -> bool:
        """Whether this is a sample, not the control without needle."""
        return self.needle_start >= 0


def build_surroundings(
    settings: Settings, model: LanguageModel, needle: Needle, n_tokens: int
) -> tuple[Frame, Haystack]:
    """Returns the prompt around a needle's contexts, and a haystack of at least n_tokens for it, as the settings ask."""
    texts = news_articles() if settings.haystack is None else read_folder(settings.haystack)
    frame = build_frame(
        model.tokenizer,
        needle,
        settings.prompt_format,
        settings.bos,
        model.identity.name,
        settings.recall_measure,
        settings.template_args,
        thinks=settings.thinking_tokens > 0,
    )
    if settings.thinking_tokens:
        frame = may_think(model.tokenizer, frame, settings, model.identity.name)
    return frame, build_haystack(model.tokenizer, texts, n_tokens, seed=settings.seed, key=needle.id)


def may_think(tokenizer: PreTrainedTokenizerBase, frame: Frame, settings: Settings, model: str) -> Frame:
    """Returns the frame with room for thoughts before an answer.

    Raises ArgumentError for a prompt that is no chat, or when the tokenizer has no marks of thoughts and none are named.
    """
    if frame.prompt_format != "chat":
        raise ArgumentError(
            f"--thinking-tokens goes with a chat prompt, and that of {model} is {frame.prompt_format}: leave it out."
        )
    thinking = thinking_of(tokenizer, frame.tail, settings.thinking_tokens, settings.thinking_marks, model)
    return replace(frame, thinking=thinking)


def news_tokens(model: LanguageModel, n_tokens: int, *, seed: int, key: str) -> tuple[int, ...]:
    """Returns the first n_tokens of news prose, in an order drawn from (seed, key)."""
    return build_haystack(model.tokenizer, news_articles(), n_tokens, seed=seed, key=key).ids[:n_tokens]


def build_frame(
    tokenizer: PreTrainedTokenizerBase,
    needle: Needle,
    prompt_format: PromptFormat,
    bos: BosPolicy,
    model: str,
    recall_measure: RecallMeasure = "words",
    template_args: Sequence[str] = (),
    *,
    thinks: bool = False,
) -> Frame:
    """Returns the prompt around a context that asks for one needle.

    `has_bos` says whether it begins with what stands before a text: <s>, or whatever the tokenizer writes there.
    "auto" is "chat" for a model with a chat template and "plain" otherwise. A chat template decides itself about the
    beginning-of-sequence token.
    Raises ArgumentError when the model cannot be prompted so, or the tokenizer does not know letters of the question.
    """
    if recall_measure == "reference" and not reference_reads(needle.real_needle):
        raise ArgumentError(
            f"The reference's recall reads a to z and 0 to 9 only, and the answer of needle {needle.id} is "
            f"{needle.real_needle!r}: use --recall-measure words."
        )
    if prompt_format == "auto":
        prompt_format = "chat" if tokenizer.chat_template else "plain"
    if prompt_format == "chat":
        head, tail = chat_frame(
            tokenizer,
            _TASK,
            _CHAT_QUESTION.format(question=needle.question),
            model,
            template_args=parse_template_args(template_args),
            may_think=thinks,
        )
    else:
        question = _PLAIN_QUESTION if prompt_format == "plain" else _REFERENCE_QUESTION
        head = beginning(tokenizer, bos)
        tail = encode_piece(tokenizer, question.format(question=needle.question)).ids
        check_single_beginning(tokenizer, head, model)
    asked = encode_piece(tokenizer, f" {needle.question}")
    _check_letters(unread(tokenizer, asked, f" {needle.question}", 0, len(needle.question) + 1), needle, "question")
    bos_id: Any = tokenizer.bos_token_id
    begins = {bos_id, *beginning(tokenizer, "auto")[:1]}
    has_bos = bool(head) and head[0] in begins
    return Frame(tuple(head), tuple(tail), prompt_format, has_bos, recall_measure)


def build_samples(
    tokenizer: PreTrainedTokenizerBase,
    needle: Needle,
    haystack: Haystack,
    frame: Frame,
    cells: Sequence[Cell],
) -> list[Sample]:
    """Returns one sample of a needle for each cell, every prompt exactly as long as the cell says.

    Raises ArgumentError when the needle and its question alone are longer than a prompt may be.
    """
    inside = encode_needle(tokenizer, needle)
    samples = []
    for n_tokens, depth in cells:
        piece = inside
        room = _room(n_tokens, len(piece.ids), needle, frame)
        context, blanks = haystack.first(room)
        index = len(context) if depth >= 1 else haystack.boundary_before(min(int(room * depth), len(context)))
        if index == 0 and frame.prompt_format != "chat":
            piece = encode_needle(tokenizer, needle, first=True)
            context, blanks = haystack.first(_room(n_tokens, len(piece.ids), needle, frame))
            index = min(index, len(context))
        gold = gold_span(piece, needle)
        start = len(frame.head) + index
        samples.append(
            Sample(
                sample_id=f"{needle.id}-{n_tokens}-{100 * depth:03.6g}",
                needle=needle,
                context_tokens=n_tokens,
                depth_fraction=depth,
                reached_depth_fraction=index / len(context) if context else depth,
                ids=(*frame.head, *context[:index], *piece.ids, *context[index:], *blanks, *frame.tail),
                needle_start=start,
                needle_end=start + len(piece.ids),
                gold_start=start + gold[0],
                gold_end=start + gold[1],
                gold_ids=tuple(piece.ids[gold[0] : gold[1]]),
                frame=frame,
            )
        )
    return samples


def build_control(
    tokenizer: PreTrainedTokenizerBase, needle: Needle, haystack: Haystack, frame: Frame, *, context_tokens: int
) -> Sample:
    """Returns the same prompt without the needle: whoever answers it right did not need the context."""
    piece = encode_needle(tokenizer, needle)
    gold = gold_span(piece, needle)
    context, blanks = haystack.first(_room(context_tokens, 0, needle, frame))
    return Sample(
        sample_id=f"{needle.id}-{context_tokens}-none",
        needle=needle,
        context_tokens=context_tokens,
        depth_fraction=float("nan"),
        reached_depth_fraction=float("nan"),
        ids=(*frame.head, *context, *blanks, *frame.tail),
        needle_start=-1,
        needle_end=-1,
        gold_start=-1,
        gold_end=-1,
        gold_ids=tuple(piece.ids[gold[0] : gold[1]]),
        frame=frame,
    )


def encode_needle(tokenizer: PreTrainedTokenizerBase, needle: Needle, *, first: bool = False) -> Piece:
    """Returns the tokens of a needle as it stands between two sentences, or `first` in a prompt.

    A space leads to it, but not in a script without spaces; first in a prompt, such a needle begins as the tokenizer begins a
    text, and one with a space as anywhere, which is the same.
    Raises ArgumentError when the tokenizer does not know its letters, or anything that is seen of its must-recall part: no
    answer could be read.
    """
    lead = _lead(needle)
    text = lead + needle.needle
    piece = encode_piece(tokenizer, text, first=first and not lead)
    place = find_words(needle.needle, needle.real_needle)
    assert place is not None
    lost = unread(tokenizer, piece, text, len(lead) + place[0], len(lead) + place[1])
    if any(unicodedata.category(sign) != "Cf" and sign not in "\ufe0e\ufe0f" for sign in lost):
        raise ArgumentError(
            f"This model's tokenizer cannot spell {needle.real_needle!r}, the answer of needle {needle.id}: use other needles, or a "
            "model of their script."
        )
    _check_letters(unread(tokenizer, piece, text, 0, len(text)), needle, "text")
    return piece


def _check_letters(lost: str, needle: Needle, part: str) -> None:
    """Raises ArgumentError where letters are lost: signs that a vocabulary lacks leave a sentence readable."""
    if holds_letters(lost):
        raise ArgumentError(
            f"This model's tokenizer cannot spell {lost!r} in the {part} of needle {needle.id}: use other needles, or a model of "
            "their script."
        )


def gold_span(piece: Piece, needle: Needle) -> tuple[int, int]:
    """Returns the tokens [first, last) of an encoded needle (with the space before it) that cover its must-recall part."""
    place = find_words(needle.needle, needle.real_needle)
    assert place is not None
    before = len(_lead(needle))
    return covering(piece, before + place[0], before + place[1])


def _lead(needle: Needle) -> str:
    """What stands between a needle and the sentence before it: a space, but not in Chinese or Japanese."""
    return "" if follows_without_a_space(needle.needle) else " "


def _room(n_tokens: int, needle_tokens: int, needle: Needle, frame: Frame) -> int:
    room = n_tokens - needle_tokens - len(frame.head) - len(frame.tail)
    if room < 0:
        raise ArgumentError(
            f"The needle {needle.id} and its question take {n_tokens - room} tokens and the context has {n_tokens}: raise "
            "--context-tokens."
        )
    return room
