"""The check at load, the ways of reading: on from a beginning, in rows that stand at different places, with padding."""

import torch
from torch import Tensor

from interp.models.check.reference import Compared, Plain, compare, plainly
from interp.models.language.architecture import first_position
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import History, Prefix

COMMON = 5
"""Tokens that both texts begin with."""


def forks(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """The common beginning read once, two continuations in two steps each."""
    first, second = texts.tolist()
    middle = (COMMON + len(first)) // 2
    trunk = model.rows(1, len(first))
    model.extend(trunk, [first[:COMMON]], logits="none")
    branches = trunk.fork(2)
    pairs = []
    for start, end in ((COMMON, middle), (middle, len(first))):
        found = model.extend(branches, [first[start:end], second[start:end]], logits="all")
        pairs.append((found, plain.logits[:, start:end]))
    return compare(pairs, plain)


def ragged(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """Rows of nothing shared that stand at different places, in two steps each."""
    first, second = texts.tolist()
    n = len(first)
    rows = model.rows(2, n)
    pairs = _read_in_steps(model, rows, (first, second), [(0, n * 5 // 8, n), (0, COMMON - 1, n - 2)], plain)
    return compare(pairs, plain)


def ragged_forks(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """The common beginning read once, and continuations that stand at different places: forks and ragged rows at once."""
    first, second = texts.tolist()
    n = len(first)
    trunk = model.rows(1, n)
    model.extend(trunk, [first[:COMMON]], logits="none")
    stops = [(COMMON, n - 2, n - 1), (COMMON, COMMON + 1, n)]
    return compare(_read_in_steps(model, trunk.fork(2), (first, second), stops, plain), plain)


def _read_in_steps(
    model: LanguageModel,
    rows: Prefix | History,
    texts: tuple[list[int], list[int]],
    stops: list[tuple[int, int, int]],
    plain: Plain,
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of found and right logits of two rows that stop twice, each at places of its own."""
    pairs = []
    for step in (0, 1):
        spans = [(stop[step], stop[step + 1]) for stop in stops]
        read = [text[start:end] for text, (start, end) in zip(texts, spans, strict=True)]
        found = model.extend(rows, read, logits="all")
        for row, (start, end) in enumerate(spans):
            pairs.append((found[row, : end - start], plain.logits[row, start:end]))
    return pairs


def padding(model: LanguageModel, texts: Tensor, plain: Plain) -> Compared:
    """One call of transformers' model with a row padded on the left and one padded on the right.

    Right is what the rows give without padding. A family that padding changes in transformers' own hands too is compared
    with these.
    """
    n = texts.shape[1]
    n_real = n - n // 3
    mask = torch.ones_like(texts)
    mask[0, : n // 3], mask[1, n_real:] = 0, 0
    tokens = texts.clone()
    tokens[0] = texts[0].roll(n // 3)
    tokens = tokens * mask
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0) + first_position(model.hf.config)
    options = {"attention_mask": mask.to(model.device), "position_ids": positions.to(model.device)}
    with torch.no_grad():
        found = model.hf(input_ids=tokens.to(model.device), use_cache=False, **options).logits.float()
    pairs = [(found[0, n // 3 :], plain.logits[0, :n_real]), (found[1, :n_real], plain.logits[1, :n_real])]
    compared = compare(pairs, plain)
    if compared.refused is None:
        return compared
    with torch.no_grad(), plainly(model):
        wanted = model.hf(input_ids=tokens.to(model.device), use_cache=False, **options).logits.float()
    real = mask.bool()
    return compare([(found[real], wanted[real])], plain)
