"""Chat prompts from a model's own chat template: independent of today's date, with user text always encoded as plain text.

Every prompt in a chat format goes through here: `render_chat` gives the text, `chat_frame` the tokens before and after a
context inside one message, `chat_prompt` the tokens of a whole one.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from interp.errors import ArgumentError, UserError
from interp.models.tokens.encoding import control_spans, encode_piece
from interp.models.tokens.template_args import TemplateArgs

CHAT_DATE = "2024-07-26"
"""The day on which every chat takes place, for templates that write today's date (Llama 3's own default)."""
SYSTEM = "system_message"
"""The template argument that is not handed to the template but becomes a system message."""

Message = dict[str, Any]

_MARK = "\u2042"
_PLACEHOLDER = '\u2042The "context":\n\n  it\'s  1 < 2 & m\u00e1s\u2042'
"""Stands for a context while a template is rendered: with what templates are known to rewrite."""
_THOUGHT = r"(?<![a-z])(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|inner_prefix)(?![a-z])"
_NOT_BEGUN = r"(?![^<>\[\]◁▷]*(?:/|(?<![a-z])(?:end|no|not|off|stop|close)(?![a-z])))"
_THOUGHT_BEGINS = re.compile(
    rf"""[<\[◁]{_NOT_BEGUN}[^<>\[\]◁▷\n]*{_THOUGHT}[^<>\[\]◁▷\n]*[>\]▷]\s*$    # <think>, [THINK], <|START_THINKING|>
    |(?:>|^|\n)[\s#*]*{_THOUGHT}\s*:?\**:?(?:\s*<[^<>]*(?:message|header|middle)[^<>]*>)?\s*$    # <|channel|>analysis<|message|>
    """,
    re.VERBOSE | re.IGNORECASE,
)


def writes_date(template: str) -> bool:
    """Returns whether a template writes today's date."""
    return "strftime_now" in template


def chat_date(template: Any) -> str | None:
    """Returns the date that a tokenizer's chat template (a text, several by name, or none) writes into chats; None if it writes none."""
    return CHAT_DATE if template and writes_date(str(template)) else None


def render_chat(
    tokenizer: Any, messages: Sequence[Message], model: str, *, template_args: TemplateArgs | None = None
) -> str:
    """Returns the text of a chat, up to where the model's answer begins.

    `tokenizer` may be a processor. The day is CHAT_DATE. `template_args` are given to the template, but for
    `system_message`, which comes as a system message before the others.
    Raises ArgumentError when the model has no chat template, when it knows no such argument, or when it needs a system
    message; UserError when it cannot write these messages, or writes something else each time.
    """
    arguments = dict(template_args or {})
    template = _template_of(tokenizer, model)
    system = arguments.pop(SYSTEM, None)
    for name in arguments:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise ArgumentError(f"The chat template of {model} has no {name}: leave it out of --template-args.")
    if re.search(r"\|\s*random\b|\blipsum\b", template):
        raise UserError(f"The chat template of {model} draws at random: use --prompt-format plain.")
    before = [] if system is None else [{"role": "system", "content": str(system)}]
    try:
        text = _rendered(tokenizer, template, [*before, *messages], arguments)
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        if system is None and _writes(tokenizer, template, [{"role": "system", "content": "a"}, *messages], arguments):
            raise ArgumentError(
                f"The chat template of {model} needs a system message ({error}): add --template-args "
                f"'{SYSTEM}=You are a helpful assistant.', or use --prompt-format plain."
            ) from error
        raise UserError(
            f"The chat template of {model} cannot write this message ({error}): use --prompt-format plain."
        ) from error
    if system is not None and str(system).strip() not in text:
        raise ArgumentError(
            f"The chat template of {model} writes no system message: leave {SYSTEM} out of --template-args."
        )
    return text


def _template_of(tokenizer: Any, model: str) -> str:
    template = tokenizer.chat_template
    if not template:
        raise ArgumentError(f"{model} has no chat template: use --prompt-format plain.")
    if isinstance(template, Mapping):
        if "default" not in template:
            names = ", ".join(sorted(template))
            raise UserError(f"{model} has several chat templates ({names}) and no default: use --prompt-format plain.")
        template = template["default"]
    return str(template)


def _rendered(tokenizer: Any, template: str, messages: list[Message], arguments: dict[str, Any]) -> str:
    written = tokenizer.apply_chat_template(
        messages,
        chat_template=_on_a_fixed_day(template),
        tokenize=False,
        add_generation_prompt=True,
        **arguments,
    )
    return str(written)


def _writes(tokenizer: Any, template: str, messages: list[Message], arguments: dict[str, Any]) -> bool:
    try:
        _rendered(tokenizer, template, messages, arguments)
    except (TemplateError, TypeError, ValueError, KeyError):
        return False
    return True


def _on_a_fixed_day(template: str) -> str:
    """A template with its own `strftime_now`: the one that transformers offers reads the clock."""
    if not writes_date(template):
        return template
    noon = datetime.fromisoformat(f"{CHAT_DATE}T12:00:00")
    codes = [*"aAbBcdDeFGhHIjklmMnpPrRSTtuUVwWxXyYzZ", *(f"-{code}" for code in "deHIjklmMSUWy")]
    filters = "".join(f"|replace({'%' + code!r},{noon.strftime('%' + code)!r})" for code in codes)
    # The line break behind a block is not written, and what follows still begins a line.
    return (
        "{%- macro strftime_now(format) -%}{{ format|replace('%%','\x00')"
        + filters
        + "|replace('\x00','%') }}{%- endmacro %}\n"
        + template
    )


def chat_frame(
    tokenizer: PreTrainedTokenizerBase,
    before: str,
    after: str,
    model: str,
    *,
    template_args: TemplateArgs | None = None,
    may_think: bool = False,
) -> tuple[list[int], list[int]]:
    """Returns the tokens before and after a context inside one user message: everything the chat template adds included.

    Control tokens are those that the template writes; what looks like one in `before`, `after` and `template_args` stays text.
    Raises ArgumentError when the model has no chat template, or when it would think before it answers and `may_think` is
    False; UserError when the template drops, repeats or rewrites the message; and what `render_chat` raises.
    """
    guard = _Guard(tokenizer)
    message = guard.hide(before) + _PLACEHOLDER + guard.hide(after)
    arguments = guard.hide_all(template_args)
    head, tail = _render_kept(tokenizer, message, model, arguments, may_think).split(_PLACEHOLDER)
    head_ids = guard.encode(head, begins=True)
    _check_single_beginning(tokenizer, head_ids, model)
    return head_ids, guard.encode(tail, begins=False)


def chat_prompt(
    tokenizer: PreTrainedTokenizerBase,
    message: str,
    model: str,
    *,
    template_args: TemplateArgs | None = None,
    may_think: bool = False,
) -> list[int]:
    """Returns the tokens of one user message and of what the chat template puts around it; raises as `chat_frame`."""
    guard = _Guard(tokenizer)
    arguments = guard.hide_all(template_args)
    ids = guard.encode(_render_kept(tokenizer, guard.hide(message), model, arguments, may_think), begins=True)
    _check_single_beginning(tokenizer, ids, model)
    return ids


def _render_kept(tokenizer: Any, content: str, model: str, template_args: TemplateArgs | None, may_think: bool) -> str:
    """A message as its template writes it, given as a text or, for templates that want it so, as a list of parts."""
    failure: UserError | None = None
    for form in (content, [{"type": "text", "text": content}]):
        try:
            text = render_chat(tokenizer, [{"role": "user", "content": form}], model, template_args=template_args)
        except UserError as error:
            failure = error if form is content else failure
            continue
        if text.count(content.strip()) == 1:
            if not may_think:
                _check_thoughts(tokenizer, text.partition(content.strip())[2], model)
            return text
    raise failure or UserError(
        f"The chat template of {model} does not keep a message as it is: use --prompt-format plain."
    )


def begins_thought(text: str) -> bool:
    """Returns whether a text ends in what begins a thought: <think>, [THINK], <|START_THINKING|>, …"""
    return _THOUGHT_BEGINS.search(text) is not None


def _check_thoughts(tokenizer: Any, after: str, model: str) -> None:
    """Raises ArgumentError when what comes next in a chat, where the template writes `after` behind the message, is a thought."""
    if not begins_thought(after):
        return
    switch = re.search(r"\benable_thinking\b|\bthinking(?= is defined)", _template_of(tokenizer, model))
    way = f"add --template-args {switch[0]}=false" if switch else "give its thoughts room with --thinking-tokens 512"
    raise ArgumentError(
        f"The chat template of {model} makes it think before it answers, which would be read as the answer: {way}, or "
        "use --prompt-format plain."
    )


def _check_single_beginning(tokenizer: Any, ids: list[int], model: str) -> None:
    if tokenizer.bos_token_id is not None and ids[:2] == [tokenizer.bos_token_id] * 2:
        raise UserError(
            f"The chat template of {model} begins with two beginning-of-sequence tokens, which shift attention: use "
            "--prompt-format plain."
        )


class _Guard:
    """Keeps what a user wrote apart from what a template writes: control tokens in it are hidden, then encoded as text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.hidden: list[str] = []

    def hide(self, text: str) -> str:
        """Returns the text with a numbered mark in place of each control token, and of each sign that marks are made of."""
        shown, last = [], 0
        marks = [match.span() for match in re.finditer(_MARK, text)]
        for start, end in sorted([*control_spans(self.tokenizer, text), *marks]):
            if start >= last:
                shown.append(f"{text[last:start]}{_MARK}{len(self.hidden)}{_MARK}")
                self.hidden.append(text[start:end])
                last = end
        return "".join(shown) + text[last:]

    def hide_all(self, arguments: TemplateArgs | None) -> dict[str, Any]:
        """Returns a template's arguments with their texts hidden so, but for those that are named as tokens: `bos_token`."""
        named = (arguments or {}).items()
        return {name: value if name.endswith("_token") else self._hide_in(value) for name, value in named}

    def _hide_in(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {name: self._hide_in(part) for name, part in value.items()}
        return [self._hide_in(part) for part in value] if isinstance(value, list) else value

    def encode(self, text: str, *, begins: bool) -> list[int]:
        """Returns the tokens of a rendered text; `begins` where nothing stands before it."""
        first, *rest = re.split(rf"{_MARK}(\d+){_MARK}", text)
        if begins:
            ids: Any = list(self._plainly(first))
        else:
            ids = encode_piece(self.tokenizer, first, by_template=True).ids
        for number, written in zip(rest[::2], rest[1::2], strict=True):
            ids += encode_piece(self.tokenizer, self.hidden[int(number)]).ids
            ids += encode_piece(self.tokenizer, written, by_template=True).ids
        return ids

    def _plainly(self, text: str) -> list[int]:
        encoded: Any = self.tokenizer(text, add_special_tokens=False)
        return encoded["input_ids"]
