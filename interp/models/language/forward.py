"""The one way a model reads: forward passes in bounded chunks, rows at their own positions, logits only where asked.

What is made of it: surprisal of the tokens that are read, and greedy text.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UserError, check_choice
from interp.models.language.architecture import first_position, rotary_grows, rotary_switch
from interp.models.language.attention_function import QUERY_POSITIONS
from interp.models.language.hooks import Phase, check_begun
from interp.models.language.kept_logits import Kept, check_numbers, columns_to_keep, head_at
from interp.models.language.positions import MOVED, check_window
from interp.models.language.prefix import History, Prefix
from interp.models.language.read_again import read_again
from interp.models.language.wrapped import WrappedModel

CHUNK_TOKENS = 2048
"""Tokens of one row read in one forward pass: bounds the memory of masks and of the feed-forward layers."""
LOGITS_AT_ONCE = 2**26
"""Vocabulary scores held at one time (256 MB in float32): memory does not grow with text length times vocabulary."""


@torch.inference_mode()
def read_on(
    model: WrappedModel, prefix: Prefix | History, ids: Sequence[Sequence[int]], *, kept: Kept, phase: Phase
) -> Float[Tensor, "row kept vocabulary"]:
    """Reads on, in place: row i of the prefix reads ids[i] (lengths may differ).

    Returns float32 next-token logits after the `last` token of each row (kept = 1), after `all` of them (kept = the
    longest; rows that read fewer hold garbage behind their end) or after `none` (kept = 0). A row may read nothing unless
    its last logits are asked for. `phase` is what head edits with a phase of their own go by.
    Raises UserError when a row outgrows the context window, or reads past the point where a model changes its rotary
    embedding with the length of the text; for what failed the check at load; and where logits are not numbers.
    """
    model.check_ids(ids)
    _check_verdicts(model, prefix, ids)
    check_choice("phase", phase, get_args(Phase))
    check_choice("kind of logits to keep", kept, get_args(Kept))
    n_read = [len(row) for row in ids]
    if len(ids) != prefix.n_rows or max(n_read) == 0 or (kept == "last" and min(n_read) == 0):
        raise ValueError(f"{prefix.n_rows} rows cannot read {n_read} tokens")
    ends = [before + read for before, read in zip(prefix.lengths, n_read, strict=True)]
    check_window(model, max(ends))
    if isinstance(prefix, History):
        logits = read_again(model, prefix, ids, kept, phase)
    else:
        if not model.attention_modules:
            raise ValueError(f"{model.identity.name} keeps no keys and values: begin with model.rows")
        prefix.check_unshared()
        in_groups = prefix.cache.layout.has_states or "level" in prefix.cache.layout.limits
        logits = (_read_with_states if in_groups else _read_level)(model, prefix, ids, kept, phase)
    check_numbers(model, logits, torch.tensor(n_read)[:, None] > torch.arange(logits.shape[1]))
    return logits


def _read_level(
    model: WrappedModel, prefix: Prefix, ids: Sequence[Sequence[int]], kept: Kept, phase: Phase
) -> Float[Tensor, "row kept vocabulary"]:
    """Reads on in passes of bounded length; rows with fewer tokens than the longest are padded on the right."""
    n_read = [len(row) for row in ids]
    ends = [before + read for before, read in zip(prefix.lengths, n_read, strict=True)]
    chunk = _chunk_tokens(model, prefix, ends)
    if "single" in prefix.cache.layout.limits:
        chunk = 1 if any(prefix.lengths) else max(n_read)
    prefix.rotated_for = max(prefix.rotated_for, *ends)
    prefix.cache.reserve(max(prefix.lengths) + max(n_read))
    logits = []
    for first in range(0, max(n_read), chunk):
        part = [list(row[first : first + chunk]) for row in ids]
        logits.append(_pass(model, prefix, part, columns_to_keep(kept, n_read, first, part), phase))
    if kept != "last":
        return torch.cat(logits, dim=1)
    return torch.cat([logits[(read - 1) // chunk][row : row + 1] for row, read in enumerate(n_read)])


def _read_with_states(
    model: WrappedModel, prefix: Prefix, ids: Sequence[Sequence[int]], kept: Kept, phase: Phase
) -> Float[Tensor, "row kept vocabulary"]:
    """Reads on where layers keep states, through which padding would run, or where rows at different places cannot be read together:
    rows that read as many tokens, from the same place if need be, are read together.

    What a crop left unread is read first.
    """
    edits = tuple(model.hooks.edits)
    by_phase = any(edit.phase != "both" for edit in edits)
    if any(prefix.unread):
        _in_groups(model, prefix, prefix.take_unread((*edits, "prefill") if by_phase else edits), "none", "prefill")
    prefix.note_reading((*edits, phase) if by_phase else edits)
    logits = _in_groups(model, prefix, ids, kept, phase)
    if phase == "prefill":
        prefix.keep_states()
    return logits


def _in_groups(
    model: WrappedModel, prefix: Prefix, ids: Sequence[Sequence[int]], kept: Kept, phase: Phase
) -> Float[Tensor, "row kept vocabulary"]:
    n_read = [len(row) for row in ids]
    limits = prefix.cache.layout.limits
    starts = prefix.lengths if "level" in limits else [min(start, "single" in limits) for start in prefix.lengths]
    alike = list(zip(n_read, starts, strict=True))
    if len({*alike}) == 1:
        return _read_level(model, prefix, ids, kept, phase)
    width = {"none": 0, "last": 1, "all": max(n_read)}[kept]
    whole: Tensor | None = None
    for group in sorted({*alike}):
        if group[0] == 0:
            continue
        rows = [row for row, one in enumerate(alike) if one == group]
        part = prefix.select(rows)
        found = _read_level(model, part, [ids[row] for row in rows], kept, phase)
        prefix.take(rows, part)
        if whole is None:
            whole = found.new_zeros((len(ids), width, found.shape[-1]))
        whole[rows, : found.shape[1]] = found
    assert whole is not None
    return whole


def _check_verdicts(model: WrappedModel, prefix: Prefix | History, ids: Sequence[Sequence[int]]) -> None:
    model.needs("reading")
    if isinstance(prefix, Prefix) and model.verdicts is not None:
        if "whole" in model.layout.limits or any(prefix.lengths) or max(len(row) for row in ids) > CHUNK_TOKENS:
            model.needs("forks")
        if len({*prefix.lengths}) > 1 or len({len(row) for row in ids}) > 1:
            model.needs("ragged")


def _chunk_tokens(model: WrappedModel, prefix: Prefix, ends: list[int]) -> int:
    """How many tokens to read at once: all of them where the rotary embedding depends on how long the text is."""
    switch = rotary_switch(model.hf.config)
    if switch is None:
        return CHUNK_TOKENS
    starts = prefix.lengths
    stays_short = max(ends) <= switch and (prefix.rotated_for <= switch or not any(starts))
    grows = rotary_grows(model.hf.config)
    if stays_short or (min(starts) > switch and not grows):
        return CHUNK_TOKENS
    if grows:
        if not any(starts) and len(set(ends)) == 1:
            return max(ends)
    elif min(ends) > switch and all(start == 0 or start > switch for start in starts):
        return max(ends)
    raise UserError(
        f"{model.identity.name} changes its rotary embedding at {switch} tokens, so what was read for {max(prefix.rotated_for, *starts)} "
        f"tokens cannot go on to {max(ends)} beside {min(ends)}: keep prompts and answers below {switch} tokens."
    )


def _pass(
    model: WrappedModel, prefix: Prefix, ids: list[list[int]], keep: Int[Tensor, "row kept"], phase: Phase
) -> Float[Tensor, "row kept vocabulary"]:
    """One forward pass; rows with fewer tokens than the longest are padded on the right."""
    width = max(len(row) for row in ids)
    tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=model.device)
    starts = torch.tensor(prefix.lengths, device=model.device)
    positions = starts[:, None] + torch.arange(width, device=model.device)
    ends = starts + torch.tensor([len(row) for row in ids], device=model.device)
    # Padding stands where its row ends: past the window, or past a switch of rotary embedding, it would count.
    position_ids = torch.minimum(positions, (ends - 1).clamp(min=0)[:, None]) + first_position(model.hf.config)
    by = MOVED.get()
    if by is not None:
        position_ids = position_ids + by.to(model.device)[torch.tensor(prefix.rows, device=model.device), None]
    level = len(set(prefix.lengths)) == 1
    cache = prefix.cache
    cache.begin(width)
    try:
        with _standing_at(model, starts, prefix, phase, None if level else positions), head_at(model, keep):
            output = model.hf(input_ids=tokens, position_ids=position_ids, past_key_values=cache, use_cache=True)
    except BaseException:
        cache.abandon()
        raise
    cache.end([len(row) for row in ids])
    for read, row in zip(prefix.ids, ids, strict=True):
        read.extend(row)
    return output.logits.float()


@contextmanager
def _standing_at(
    model: WrappedModel, starts: Int[Tensor, " row"], prefix: Prefix, phase: Phase, positions: Tensor | None
) -> Iterator[None]:
    """Tells the attention calls of a pass where its rows stand and what they share."""
    hooks = model.hooks
    begun = hooks.begin()
    begun.starts, begun.phase, begun.cache = starts, phase, prefix.cache
    begun.rows = torch.tensor(prefix.rows, device=starts.device)
    check_begun(begun, prefix.n_batch)
    if begun.observers and len(set(prefix.rows)) < prefix.n_rows:
        raise UserError(
            "A row of this batch was selected more than once, and a recording has one row for each: record before `select`, or fork a "
            "single row."
        )
    token = QUERY_POSITIONS.set(positions)
    try:
        with hooks.reading(begun):
            yield
        hooks.check_arrived(begun)
    finally:
        QUERY_POSITIONS.reset(token)


# ---------------------------------------------------------------------- surprisal


@torch.inference_mode()
def token_surprisal(
    model: WrappedModel, ids: Sequence[Sequence[int]], prefix: Prefix | History | None = None
) -> Float[Tensor, "row token"]:
    """Returns -ln p(token | everything before it) in nats, float32 on the CPU.

    Each row's first token is read but not scored (NaN): without a prefix nothing stands before it, and with one (as many
    rows as ids; it reads on in place) give as first token the last one of the context. Shorter rows end in NaN.
    """
    if prefix is None:
        prefix = model.rows(len(ids), max(len(row) for row in ids))
    surprisals = torch.full((len(ids), max(len(row) for row in ids)), torch.nan)
    vocabulary = model.hf.config.get_text_config(decoder=True).vocab_size
    step = max(1, LOGITS_AT_ONCE // (len(ids) * vocabulary))
    for first in range(0, surprisals.shape[1], step):
        part = [list(row[first : first + step]) for row in ids]
        log_p = torch.log_softmax(read_on(model, prefix, part, kept="all", phase="prefill"), dim=-1)
        following = [list(row[first + 1 : first + 1 + len(read)]) for row, read in zip(ids, part, strict=True)]
        for row, targets in enumerate(following):
            index = torch.tensor(targets, dtype=torch.long, device=log_p.device)
            found = -log_p[row, : len(targets)].gather(-1, index[:, None]).squeeze(-1)
            surprisals[row, first + 1 : first + 1 + len(targets)] = found.cpu()
    return surprisals


# ---------------------------------------------------------------------- greedy text


@torch.inference_mode()
def greedy(
    model: WrappedModel,
    prefix: Prefix,
    pending: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Sequence[int] = (),
) -> list[list[int]]:
    """Returns each row's most likely next tokens after it has read its pending tokens (at least one each).

    A row ends with the first of the stop ids (kept in the result) or after max_new_tokens tokens. Reading the pending
    tokens and every step after it is the `decode` phase. Equal logits go to the lowest token id. The prefix reads on in
    place, for as long as at least half of its rows are being written: crop it before using it again.
    """
    stop = set(stop_ids)
    written: list[list[int]] = [[] for _ in pending]
    prefix.cache.reserve(max(prefix.lengths) + max(len(row) for row in pending) + max_new_tokens)
    rows = list(range(len(pending)))
    step = [list(row) for row in pending]
    while rows:
        chosen = read_on(model, prefix, step, kept="last", phase="decode")[:, -1].argmax(dim=-1).tolist()
        for row, token in zip(rows, chosen, strict=True):
            if not _ended(written[row], max_new_tokens, stop):
                written[row].append(token)
        step = [[token] for token in chosen]
        still = [place for place, row in enumerate(rows) if not _ended(written[row], max_new_tokens, stop)]
        window = model.context_window
        full = window is not None and max(prefix.lengths) >= window
        if len(still) <= len(rows) // 2 or full:  # ended rows cost as much as open ones: leave them behind
            prefix, rows, step = prefix.select(still), [rows[i] for i in still], [step[i] for i in still]
    return written


def _ended(written: list[int], max_new_tokens: int, stop: set[int]) -> bool:
    return len(written) == max_new_tokens or bool(written and written[-1] in stop)
