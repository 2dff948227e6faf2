"""One row of the census: a tiny random model is built, taken over, and checked as at load, on a longer text."""

import resource
import time
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.census.overrides import VARIANTS
from benchmarks.census.shrink import tiny_config
from interp.errors import UserError
from interp.models.check.check import check
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.loading.classes import model_class
from interp.models.loading.names import ModelEntry
from interp.models.loading.refusals import check_config

N_TOKENS = 40
"""Tokens of the texts: longer than every window and chunk of the tiny models."""
MEMORY = 6 * 2**30
"""Bytes that a process may have: a configuration that was not shrunk ends there and not the machine."""


@dataclass
class Row:
    """What became of one family: how it ended, a sentence where there is one, the verdicts by name, and how experiments ended."""

    family: str
    outcome: str
    sentence: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    limits: str = ""
    architecture: str = ""
    seconds: float = 0.0


def census_row(name: str, dtype: torch.dtype = torch.float32) -> Row:
    """Returns the row of a family or of a variant.

    Outcomes: `all` (every check holds), `some` (part of them is refused), `without heads` (read whole, by transformers'
    attention), `no attention` (a model without heads, right as such), `refused` (before its weights are loaded, or when they
    are), `not built` (no tiny model of it could be made) and `traceback`.
    """
    started = time.process_time()
    row = _row(name, dtype)
    row.seconds = time.process_time() - started
    return row


def quiet() -> None:
    """Keeps this process from taking the machine's memory, and what transformers says of odd sizes from the log."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")


def _row(name: str, dtype: torch.dtype) -> Row:
    quiet()
    family, changes = VARIANTS.get(name, (name, {}))
    try:
        config = tiny_config(family, changes)
    except Exception as error:
        return Row(name, "not built", said(error))
    try:
        check_config(ModelEntry(f"tiny-{name}", f"tiny-{name}"), config)
    except UserError as error:
        return Row(name, "refused", str(error))
    try:
        hf = random_model(config).to(dtype)
    except Exception as error:
        return Row(name, "not built", said(error))
    row = Row(name, "traceback", architecture=type(hf).__name__)
    try:
        model = LanguageModel(hf, None, ModelIdentity(f"tiny-{name}", "census", "0", "float32"))
        found = check(model, n_tokens=N_TOKENS)
    except UserError as error:
        row.outcome, row.sentence = "refused", str(error)
        return row
    except Exception as error:
        row.sentence = said(error)
        return row
    row.verdicts = {name: verdict.refused or "" for name, verdict in found.by_name.items()}
    row.limits = " ".join(found.limits)
    refused = [name for name, verdict in row.verdicts.items() if verdict]
    if model.without_heads is not None:
        row.outcome, row.sentence = "without heads", model.without_heads
    elif not model.attention_modules:
        row.outcome = "no attention"
    else:
        row.outcome = "some" if refused else "all"
    return row


def random_model(config: Any, seed: int = 0) -> Any:
    """Returns a random model of a configuration, its weights wide enough that attention is far from uniform."""
    torch.manual_seed(seed)
    model = model_class(config).from_config(config).float().eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
        elif parameter.numel() > 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def said(error: Exception) -> str:
    """Returns an error in a line: its kind, what it says, and where in our code or another's it was raised."""
    places = list(traceback.extract_tb(error.__traceback__))
    where = f"{places[-1].filename.rpartition('site-packages/')[2]}:{places[-1].lineno}" if places else ""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]} ({where})"
