"""Thoughts before an answer: where they begin and end, a budget for them, and prompts that the answer then follows.

A thought becomes part of the prompt, so whatever scores answers scores the tokens after it alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from interp.errors import ArgumentError
from interp.models.tokens.chat import begins_thought
from interp.models.tokens.encoding import encode_piece

if TYPE_CHECKING:
    from interp.models.language.model import LanguageModel
    from interp.models.language.prefix import Prefix


@dataclass(frozen=True)
class Thinking:
    """How a model's thoughts are marked, as tokens, and how many of them it may write before the mark is written for it."""

    begin: tuple[int, ...]
    end: tuple[int, ...]
    budget: int
    begun: bool
    """Whether the prompt already ends in the mark that begins a thought."""

    @property
    def most_tokens(self) -> int:
        """The most tokens that a thought adds to a prompt."""
        return self.budget + len(self.end)

    @property
    def closes(self) -> tuple[int, ...]:
        """The token at which a thought has ended, where one token tells: the end of a longer mark may stand alone."""
        return self.end if len(self.end) == 1 else ()


class Thought(NamedTuple):
    """The tokens that come before an answer, marks included; whether the model ended them itself."""

    token_ids: list[int]
    closed: bool


def thinking_of(tokenizer: Any, tail: Sequence[int], budget: int, marks: Sequence[str], model: str) -> Thinking:
    """Returns how a model thinks after a prompt that ends in the tokens `tail`.

    `marks` are the two that a user names; without them, a pair of added tokens such as <think> and </think> is looked for.
    Raises ArgumentError when there is no such pair, or several.
    """
    pairs = [tuple(marks)] if marks else _marks_in(tokenizer)
    if len(pairs) != 1 or len(pairs[0]) != 2:
        found = "several pairs" if len(pairs) > 1 else "no pair"
        raise ArgumentError(
            f"The tokenizer of {model} has {found} of tokens that mark a thought: name them, as in --thinking-marks '<think>' "
            "'</think>', or leave out --thinking-tokens."
        )
    begin, end = (tuple(encode_piece(tokenizer, mark, by_template=True).ids) for mark in pairs[0])
    ending = str(tokenizer.decode(list(tail)[-24:])).rstrip()
    return Thinking(begin, end, budget, ending.endswith(pairs[0][0]))


def _marks_in(tokenizer: Any) -> list[tuple[str, str]]:
    """The pairs of added tokens, one of which begins a thought and the other of which is that one closed."""
    added = set(tokenizer.get_added_vocab())
    pairs = []
    for mark in sorted(added):
        if begins_thought(mark):
            closed = {f"{mark[:1]}/{mark[1:]}", mark.replace("START", "END"), mark.replace("begin", "end")} - {mark}
            pairs += [(mark, other) for other in sorted(closed & added)]
    return pairs


def think(
    model: "LanguageModel",
    rows: "Prefix",
    prompts: Sequence[Sequence[int]],
    thinking: Thinking,
    stop_ids: Sequence[int],
) -> tuple[list[Thought], list[list[int]]]:
    """Returns each row's thought, and the tokens that are still to be read before its answer.

    The rows have read every prompt but its last token; afterwards, they have read prompt and thought but for those tokens. A
    thought that the budget does not close is closed with the mark. A row that begins no thought has none.
    """
    written = model.generate(
        rows,
        [[prompt[-1]] for prompt in prompts],
        max_new_tokens=thinking.budget,
        stop_ids=[*thinking.closes, *stop_ids],
    )
    thoughts = [cut(tokens, thinking, stop_ids) for tokens in written]
    asked = [[*prompt, *thought.token_ids] for prompt, thought in zip(prompts, thoughts, strict=True)]
    kept = [_shared(before, now) for before, now in zip(rows.ids, asked, strict=True)]
    rows.crop(kept)
    return thoughts, [now[n:] for now, n in zip(asked, kept, strict=True)]


def _shared(read: Sequence[int], asked: Sequence[int]) -> int:
    """How many tokens a row has read of what is asked, the last of which is always left to be read."""
    pairs = enumerate(zip(read, asked[:-1], strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(read), len(asked) - 1))


def cut(written: Sequence[int], thinking: Thinking, stop_ids: Collection[int]) -> Thought:
    """Returns the thought in what was written, up to and with its closing mark, which is added where it is missing."""
    if not thinking.begun and tuple(written[: len(thinking.begin)]) != thinking.begin:
        return Thought([], True)
    size = len(thinking.end)
    for start in range(len(written) - size + 1):
        if tuple(written[start : start + size]) == thinking.end:
            return Thought(list(written[: start + size]), True)
    open_ = written[:-1] if written[-1] in stop_ids else written
    return Thought([*open_, *thinking.end], False)
