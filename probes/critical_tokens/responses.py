"""Responses of a model to a problem: how they are written and when they end, the prompt's tokens, the text.

Tokens are ids throughout: texts are decoded to be graded, never encoded again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd

from interp.errors import ArgumentError
from interp.experiments.bounds import flag_of
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import Prefix
from interp.models.language.sampling import BATCH_ROWS, Job, Policy, Rollout, StopRule, sample
from interp.models.language.thinking import Thinking, Thought, cut, thinking_of
from interp.models.language.vllm_sampling import sample_with_vllm
from interp.models.tokens.chat import chat_prompt
from interp.models.tokens.encoding import beginning, encode_piece, stop_ids
from interp.models.tokens.template_args import TemplateArgs, parse_template_args
from probes.critical_tokens.problems import Outcome, Problem
from probes.critical_tokens.settings import Settings

STOP_STRINGS = ("\n\nQuestion:", "\n\nProblem:", "\n\nQ:")
"""What a base model writes when it goes on to a problem of its own."""


class Response(NamedTuple):
    """One sampled response: its tokens, whether it ended by itself, and whether it is right."""

    token_ids: list[int]
    ended: bool
    outcome: Outcome
    draw_probability: list[float]
    """The probability that each token was drawn with."""
    thought: Thought | None = None
    """What the model wrote before it; None where it may not think."""


@dataclass(frozen=True)
class Setting:
    """How responses are written and when they end: the same for every rollout of a run."""

    policy: Policy
    stop: StopRule
    max_new_tokens: int
    seed: int
    batch_rows: int = BATCH_ROWS
    sampler: Callable[..., list[Rollout]] = sample
    """What writes rollouts: interp.models.language.sampling.sample, or another engine with the same interface."""

    chat: TemplateArgs | None = None
    """Arguments of the model's chat template, which prompts are put through; None where they are plain text."""
    thinking: Thinking | None = None
    """How the model thinks before it responds; None where it may not."""

    def write(self, model: LanguageModel, spine: Prefix, jobs: Sequence[Job]) -> list[Rollout]:
        """Returns what each job writes on from its part of the spine."""
        return self.sampler(model, spine, jobs, self.policy, self.stop, batch_rows=self.batch_rows)


def prompt_ids(model: LanguageModel, text: str, setting: Setting | None = None) -> list[int]:
    """Returns the tokens of a prompt: as one user message where the setting says so, else with the beginning-of-sequence token if
    the tokenizer adds one. Where the model thinks, they end in the mark that begins a thought.
    """
    if setting is not None and setting.chat is not None:
        ids = chat_prompt(model.tokenizer, text, model.identity.name, template_args=setting.chat, may_think=True)
        thinking = setting.thinking
        return ids if thinking is None or thinking.begun else [*ids, *thinking.begin]
    return [*beginning(model.tokenizer, "auto"), *encode_piece(model.tokenizer, text, first=True).ids]


def respond(model: LanguageModel, problem: Problem, setting: Setting, n_draws: int) -> list[Response]:
    """Returns that many independent responses to a problem, draw r with the stream of (seed, problem, "response", r)."""
    ids = prompt_ids(model, problem.prompt, setting)
    spine = model.prefix(ids[:-1]).fork(1)
    thoughts = _think(model, spine, ids, problem, setting, n_draws)
    asked = [(ids[-1], *(thought.token_ids if thought else ())) for thought in thoughts]
    jobs = [
        Job(
            len(ids) - 1,
            pending,
            setting.max_new_tokens,
            (setting.seed, problem.id, "response", index),
            lead=len(pending) if setting.thinking else 0,
        )
        for index, pending in enumerate(asked)
    ]
    return [
        Response(r.token_ids, r.ended, problem.outcome(decode(model, r.token_ids)), r.draw_probability, thought)
        for r, thought in zip(setting.write(model, spine, jobs), thoughts, strict=True)
    ]


def _think(
    model: LanguageModel, spine: Prefix, ids: Sequence[int], problem: Problem, setting: Setting, n_draws: int
) -> list[Thought] | list[None]:
    """A thought of its own for each response, drawn as the response is; draw r with the stream of (seed, problem, "thought", r)."""
    thinking = setting.thinking
    if thinking is None:
        return [None] * n_draws
    keys = [(setting.seed, problem.id, "thought", index) for index in range(n_draws)]
    jobs = [Job(len(ids) - 1, (ids[-1],), thinking.budget, key, lead=1) for key in keys]
    stop = StopRule([*thinking.closes, *setting.stop.ids])
    written = setting.sampler(model, spine, jobs, setting.policy, stop, batch_rows=setting.batch_rows)
    begun = replace(thinking, begun=True)  # the mark is part of the prompt
    return [cut(rollout.token_ids, begun, setting.stop.ids) for rollout in written]


def thought_rows(model: LanguageModel, problem: Problem, responses: Sequence[Response]) -> pd.DataFrame:
    """Returns the rows of `thoughts`: what was written before each response of a model that thinks."""
    return pd.DataFrame(
        [
            {
                "trajectory_id": f"{problem.id}-{index}",
                "problem_id": problem.id,
                "thinking_tokens": len(thought.token_ids),
                "closed": thought.closed,
                "thought_text": str(model.tokenizer.decode(thought.token_ids, skip_special_tokens=False)),
                "token_ids": thought.token_ids,
            }
            for index, response in enumerate(responses)
            if (thought := response.thought) is not None
        ]
    )


def decode(model: LanguageModel, token_ids: Sequence[int]) -> str:
    """Returns the text of a response, special tokens left out."""
    text = model.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def error_position(model: LanguageModel, problem: Problem, token_ids: Sequence[int]) -> int:
    """Returns the first token whose text leaves the right solution; −1 where none does or no solution is known."""
    character = problem.first_error(decode(model, token_ids))
    if character is None:
        return -1
    ends = [len(decode(model, token_ids[: kept + 1])) for kept in range(len(token_ids))]
    return next((kept for kept, end in enumerate(ends) if end > character), len(token_ids) - 1)


# ---------------------------------------------------------------------- as a run's settings have it


def setting_of(settings: Settings, model: LanguageModel) -> Setting:
    """Returns how responses are written: generated problems have answers of one line, those of files end at a blank one."""
    one_line = settings.task_file is None
    chat = chat_of(settings, model)
    configured: Any = getattr(model.hf.generation_config, "eos_token_id", None)
    ends = _ends(model, str((configured, model.tokenizer.eos_token_id)), one_line)
    strings = () if one_line else STOP_STRINGS
    return Setting(
        policy=Policy(settings.temperature, settings.top_p, settings.top_k),
        stop=StopRule(ends, strings, model.tokenizer),
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
        batch_rows=settings.batch_rows,
        chat=chat,
        thinking=thinking_in(settings, model, chat) if settings.thinking_tokens else None,
        sampler=sample_with_vllm if settings.sampler == "vllm" else sample,
    )


def chat_of(settings: Settings, model: LanguageModel) -> TemplateArgs | None:
    """Returns the arguments of the chat template that problems of a file are put through; None for plain text."""
    wanted = settings.prompt_format == "chat" or (settings.prompt_format == "auto" and model.tokenizer.chat_template)
    return parse_template_args(settings.template_args) if settings.task_file is not None and wanted else None


def thinking_in(settings: Settings, model: LanguageModel, chat: TemplateArgs | None) -> Thinking:
    """Returns how the model thinks before it responds.

    Raises ArgumentError where it has no chat template, or no marks of a thought that can be told.
    """
    name = model.identity.name
    if chat is None:
        raise ArgumentError(
            f"--thinking-tokens goes with a chat prompt, and {name} has no chat template: leave it out."
        )
    tail = chat_prompt(model.tokenizer, "?", name, template_args=chat, may_think=True)
    return thinking_of(model.tokenizer, tail, settings.thinking_tokens, settings.thinking_marks, name)


def own_sampling(model: LanguageModel) -> str:
    """Returns the sampling that a model's generation_config asks for, "" where it asks for none."""
    config = model.hf.generation_config
    found = {name: getattr(config, name, None) for name in ("temperature", "top_p", "top_k")}
    return ", ".join(f"{flag_of(name)} {value:g}" for name, value in found.items() if value is not None)


@lru_cache(maxsize=2)
def _ends(model: LanguageModel, _configured: str, one_line: bool) -> list[int]:
    return stop_ids(model.tokenizer, model.hf.generation_config, at_newline=one_line)
