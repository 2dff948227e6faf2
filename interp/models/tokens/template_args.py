"""Variables for a model's chat template: `--template-args enable_thinking=false`. Imports nothing heavy."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from interp.errors import ArgumentError

TemplateArgs = Mapping[str, Any]

_TAKEN = frozenset(
    """self messages conversation tools documents chat_template add_generation_prompt continue_final_message tokenize padding
    truncation max_length return_tensors return_dict return_assistant_tokens_mask tokenizer_kwargs
    sanitize_control_tokens""".split()
)


def parse_template_args(words: Sequence[str]) -> dict[str, Any]:
    """Returns the variables in words such as enable_thinking=false, effort=low: values parsed as JSON, else as text.

    Raises ArgumentError for a word that is not NAME=VALUE, a name given twice or one that is not the user's to set.
    """
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ArgumentError(f"--template-args takes NAME=VALUE, such as enable_thinking=false, not {word}.")
        if name in arguments:
            raise ArgumentError(f"--template-args gives {name} twice: leave one out.")
        if name in _TAKEN:
            raise ArgumentError(f"--template-args cannot set {name}: name a variable of the model's chat template.")
        arguments[name] = _as_value(value)
    return arguments


def _as_value(text: str) -> Any:
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
