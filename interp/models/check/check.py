"""The check at load: a short text read in every way that the toolkit reads, against transformers' own eager attention.

Each way gets a verdict by name (interp.models.check.verdicts). What fails is refused where it is asked for, in one sentence, and
whatever does not need it stays usable. Two texts that begin alike are read; their logits where they are alike also show
whether the model sees the future, which no way of reading could put right.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import RunError, UserError
from interp.models.check import reading_ways, ways
from interp.models.check.reference import Compared, Plain, compare, plain_pass
from interp.models.check.verdicts import WAYS_OUT, Verdict, Verdicts, keep_verdicts, kept_verdicts
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History
from interp.models.language.replay import few_tokens
from interp.models.language.states import Limit

N = 10
"""Tokens of each text."""

Found = TypeVar("Found")

FOREIGN = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError, AssertionError, UserError)
"""What a family raises when it is read in a way that it was not written for."""


def check_at_load(model: LanguageModel) -> None:
    """Gives the model its verdicts: those kept of an earlier check of the same weights, or those of one made now.

    Raises RunError for a model that sees the future.
    """
    device = str(model.device)
    verdicts = kept_verdicts(model.identity, device)
    if verdicts is None:
        verdicts = check(model)
        keep_verdicts(model.identity, device, verdicts)
    model.obey(verdicts)


def check(model: LanguageModel, n_tokens: int = N) -> Verdicts:
    """Returns the verdicts on a model as it stands, from two texts of that many tokens.

    A model that is not read right through the toolkit's attention call is handed back to transformers' own and read whole.
    Raises RunError for a model that sees the future.
    """
    texts = _texts(model, n_tokens)
    try:
        plain = plain_pass(model, texts)
    except FOREIGN as error:
        raise RunError(
            f"{model.identity.name} ({model.hf.config.model_type}) cannot be read by transformers itself ({_said(error)}): name another "
            "model."
        ) from error
    _check_causal(model, plain)
    if model.attention_modules:
        found, whole = _check_with_heads(model, texts, plain)
        if found["reading"].refused is None:
            limits = model.layout.limits | ({"whole"} if whole else set())
            return Verdicts(_in_order(found), limits=tuple(sorted(limits)))
        model.let_go_of_heads(
            f"{model.identity.name} ({model.hf.config.model_type}) is not read right through this toolkit's attention call "
            f"({found['reading'].refused}), so its heads cannot be looked at: name another model."
        )
        plain = plain_pass(model, texts)
    return Verdicts(_in_order(_check_without_heads(model, texts, plain)), model.without_heads)


def _in_order(verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
    return {name: verdicts[name] for name in WAYS_OUT}


def _texts(model: LanguageModel, n_tokens: int) -> Int[Tensor, "two token"]:
    n = min(n_tokens, model.context_window or n_tokens)
    first, second = (few_tokens(model, n, step)[0].cpu() for step in (37, 53))
    return torch.stack([first, torch.cat([first[: reading_ways.COMMON], second[reading_ways.COMMON :]])])


def _check_causal(model: LanguageModel, plain: Plain) -> None:
    first, second = plain.logits[:, : reading_ways.COMMON - 1]
    error = compare([(first, second)], plain)
    if error.refused is not None and bool(plain.logits.isfinite().all()):
        raise RunError(
            f"{model.identity.name} ({model.hf.config.model_type}) sees the future: what it predicts changes with the tokens that come "
            "after (in its configuration this is use_bidirectional_attention, is_causal or is_decoder), so name a causal language model."
        )


def _verdict(way: Callable[[], Compared]) -> Verdict:
    compared = _tried(way)
    if isinstance(compared, str):
        return Verdict(refused=compared)
    return Verdict(compared.refused, compared.error, compared.tolerance)


def _tried(way: Callable[[], Found]) -> Found | str:
    """What a way finds, or why it cannot be gone."""
    try:
        return way()
    except FOREIGN as error:
        return _said(error)


def _said(error: Exception) -> str:
    first_line = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
    return (first_line if isinstance(error, UserError) else f"{type(error).__name__}: {first_line}")[:200]


def _check_with_heads(model: LanguageModel, texts: Tensor, plain: Plain) -> tuple[dict[str, Verdict], bool]:
    """The verdicts, and whether every text has to be read whole.

    One pass looks and changes at once; only where that is not right is each way gone by itself, and at last by texts that are
    read whole.
    """
    silent = _tried(lambda: ways.silent(model))
    directions = None if isinstance(silent, str) else silent.directions
    looked = _tried(lambda: ways.look(model, texts, directions, edited=True))
    edited, whole, kept = looked, False, Verdict()
    reading = _verdict(lambda: _read(looked, plain))
    if reading.refused is not None:
        reading = kept = _verdict(lambda: _prefixes(model, texts, plain))
        whole = kept.refused is not None
        if whole:
            reading = _verdict(lambda: _whole(model, texts, plain))
        if reading.refused is not None:
            return dict.fromkeys(WAYS_OUT, Verdict(reading.refused)) | {"reading": reading}, whole
        looked = _tried(lambda: ways.look(model, texts, directions, edited=False, whole=whole))
        edited = ""
    verdicts = {"reading": reading}
    if whole:
        refused = kept.refused or ""
        own = kept.error is None and "cache" in refused  # transformers' code says so where it looks at the class
        why = "takes no cache but its own" if own else f"cannot go on from keys that are kept ({refused})"
        verdicts["forks"] = verdicts["ragged"] = Verdict(
            f"{model.hf.config.model_type} {why}, so every text is read whole"
        )
    else:
        verdicts |= _check_reading_on(model, texts, plain)
    verdicts["padding"] = _verdict(lambda: reading_ways.padding(model, texts, plain))
    seen_edits = None if isinstance(edited, str) else edited
    verdicts["edits"] = _verdict(lambda: ways.edits(model, texts, seen_edits, plain, whole=whole))
    if isinstance(looked, str):
        return verdicts | dict.fromkeys(("heads", "head_outputs", "contributions"), Verdict(looked)), whole
    seen = looked
    verdicts["heads"] = _verdict(lambda: ways.heads(model, seen, plain))
    verdicts["head_outputs"] = _verdict(lambda: ways.head_outputs(model, seen, plain))
    verdicts["contributions"] = _contributions(model, texts, silent, seen, plain, whole=whole)
    return verdicts, whole


def _contributions(
    model: LanguageModel, texts: Tensor, silent: ways.Silent | str, looked: ways.Looked, plain: Plain, *, whole: bool
) -> Verdict:
    between = _verdict(lambda: ways.mixed(model, looked, plain))
    if between.refused is None and bool((looked.gate[list(model.geometry.layers)] != 1).any()):
        between = _verdict(lambda: ways.gates(model, texts, looked, plain, whole=whole))
    if between.refused is not None:
        # Contributions take a head's output apart by the keys that it attends to.
        return Verdict(
            "what enters the output projection is not attention times values, nor a multiple of that number by number"
        )
    if isinstance(silent, str):
        return Verdict(silent)
    return _verdict(lambda: ways.contributions(model, silent, looked, plain))


def _check_reading_on(model: LanguageModel, texts: Tensor, plain: Plain) -> dict[str, Verdict]:
    """Forks and ragged rows at once, under the fewest limits that they are right under; else each by itself."""
    plainest = model.layout
    both = Verdict("not tried")
    for limits in _LIMITS if plainest.has_states else _LIMITS[:4]:
        model.layout = replace(plainest, limits=plainest.limits | limits)
        both = _verdict(lambda: reading_ways.ragged_forks(model, texts, plain))
        if both.refused is None:
            return {"forks": both, "ragged": both}
    model.layout = plainest
    forks = _verdict(lambda: reading_ways.forks(model, texts, plain))
    ragged = _verdict(lambda: reading_ways.ragged(model, texts, plain))
    return {"forks": forks, "ragged": both if forks.refused is None and ragged.refused is None else ragged}


_LIMITS: tuple[frozenset[Limit], ...] = (
    frozenset(),
    frozenset(("copies",)),
    frozenset(("level",)),
    frozenset(("copies", "level")),
    frozenset(("single",)),
    frozenset(("level", "single")),
)
"""What is tried where reading on is not right, one after the other."""


def _read(looked: ways.Looked | str, plain: Plain) -> Compared:
    if isinstance(looked, str):
        raise UserError(looked)
    return compare([(looked.logits[:1], plain.logits[:1])], plain)


def _prefixes(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """The texts read at once as rows that keep what they read, with nothing open."""
    return compare([(model.extend(model.rows(2), texts.tolist(), logits="all"), plain.logits)], plain)


def _whole(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """The texts read with nothing kept and nothing open."""
    return compare([(model.extend(History([[], []]), texts.tolist(), logits="all"), plain.logits)], plain)


def _check_without_heads(model: LanguageModel, texts: Tensor, plain: Plain) -> dict[str, Verdict]:
    """Reading, forks and ragged rows of a model that is read whole; the rest has no heads to look at."""
    verdicts = {
        "reading": _verdict(lambda: _whole(model, texts, plain)),
        "forks": _verdict(lambda: reading_ways.forks(model, texts, plain)),
        "ragged": _verdict(lambda: reading_ways.ragged(model, texts, plain)),
        "padding": Verdict(),  # its attention is transformers' own
    }
    reason = "its attention is left to transformers" if model.without_heads else "it has no attention heads"
    return verdicts | {name: Verdict(reason) for name in WAYS_OUT if name not in verdicts}
