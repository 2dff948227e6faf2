"""Responses of a model to a problem: how they are written and when they end, the prompt's tokens, the text.

Tokens are ids throughout: texts are decoded to be graded, never encoded again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from interp.models.language.model import LanguageModel
from interp.models.language.prefix import Prefix
from interp.models.language.sampling import BATCH_ROWS, Job, Policy, Rollout, StopRule, sample
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

    def write(self, model: LanguageModel, spine: Prefix, jobs: Sequence[Job]) -> list[Rollout]:
        """Returns what each job writes on from its part of the spine."""
        return self.sampler(model, spine, jobs, self.policy, self.stop, batch_rows=self.batch_rows)


def prompt_ids(model: LanguageModel, text: str, setting: Setting | None = None) -> list[int]:
    """Returns the tokens of a prompt: as one user message where the setting says so, else with the beginning-of-sequence token if
    the tokenizer adds one.
    """
    if setting is not None and setting.chat is not None:
        return chat_prompt(model.tokenizer, text, model.identity.name, template_args=setting.chat, may_think=True)
    return [*beginning(model.tokenizer, "auto"), *encode_piece(model.tokenizer, text, first=True).ids]


def respond(model: LanguageModel, problem: Problem, setting: Setting, n_draws: int) -> list[Response]:
    """Returns that many independent responses to a problem, draw r with the stream of (seed, problem, "response", r)."""
    ids = prompt_ids(model, problem.prompt, setting)
    spine = model.prefix(ids[:-1]).fork(1)
    keys = [(setting.seed, problem.id, "response", index) for index in range(n_draws)]
    jobs = [Job(len(ids) - 1, (ids[-1],), setting.max_new_tokens, key) for key in keys]
    rollouts = setting.write(model, spine, jobs)
    return [
        Response(r.token_ids, r.ended, problem.outcome(decode(model, r.token_ids)), r.draw_probability)
        for r in rollouts
    ]


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
    ends = _ends(model, one_line)
    strings = () if one_line else STOP_STRINGS
    return Setting(
        policy=Policy(settings.temperature, settings.top_p, settings.top_k),
        stop=StopRule(ends, strings, model.tokenizer),
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
        batch_rows=settings.batch_rows,
        chat=chat_of(settings, model),
        sampler=sample_with_vllm if settings.sampler == "vllm" else sample,
    )


def chat_of(settings: Settings, model: LanguageModel) -> TemplateArgs | None:
    """Returns the arguments of the chat template that problems of a file are put through; None for plain text."""
    wanted = settings.prompt_format == "chat" or (settings.prompt_format == "auto" and model.tokenizer.chat_template)
    return parse_template_args(settings.template_args) if settings.task_file is not None and wanted else None


def own_sampling(model: LanguageModel) -> str:
    """Returns the sampling that a model's generation_config asks for, "" where it asks for none."""
    config = model.hf.generation_config
    found = {name: getattr(config, name, None) for name in ("temperature", "top_p", "top_k")}
    return ", ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in found.items() if value is not None)


@lru_cache(maxsize=2)
def _ends(model: LanguageModel, one_line: bool) -> list[int]:
    return stop_ids(model.tokenizer, model.hf.generation_config, at_newline=one_line)
