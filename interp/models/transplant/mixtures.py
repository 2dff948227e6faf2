"""Rows for new tokens as mixtures of old rows: which old tokens, and how much of each (TokenAdapt, arXiv:2505.09738).

TokenAdapt compares tokens in the space of a separate text encoder. Here the only spaces are the model's own: rows of its embedding,
and the spelling of its tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import sparse
from torch import Tensor

from interp.errors import ArgumentError, check_choice
from interp.models.transplant.rules import RULES, Rule

TEMPERATURE = 0.3
GLOBAL_SHARE, GLOBAL_NEIGHBOURS = 0.3, 3
SPELLING_SHARE, SPELLING_NEIGHBOURS = 0.7, 5
GRAMS = (2, 3, 4, 5)
"""Lengths of the runs of characters that spellings are compared by."""
_COMMON_GRAMS = 2000
"""Runs that more tokens have tell little apart and are left out."""
_AT_ONCE = 512
Pieces = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Vocabulary:
    """The old tokens: their rows on the way in, what each adds to a text, and which of them may be taken."""

    rows: Float[Tensor, "old residual"]
    texts: Sequence[str]
    usable: Bool[Tensor, " old"]

    @cached_property
    def directions(self) -> Float[Tensor, "old residual"]:
        """The rows at length one."""
        return torch.nn.functional.normalize(self.rows.float(), dim=1)

    @cached_property
    def spellings(self) -> tuple[dict[str, int], np.ndarray, sparse.csr_array]:
        """Runs of characters by column, their weights (rare ones weigh more), and each token's as a vector of length one."""
        columns: dict[str, int] = {}
        counts = _gram_counts(self.texts, columns, grow=True)
        n_tokens = np.bincount(counts.indices, minlength=len(columns))
        weights = np.where(n_tokens > _COMMON_GRAMS, 0.0, np.log(len(self.texts) / np.maximum(n_tokens, 1)))
        weighted = _unit_rows(counts @ sparse.diags_array(weights))
        return columns, weights, sparse.diags_array(self.usable.cpu().numpy().astype(float)) @ weighted


def mixture(rule: Rule, pieces: Pieces, texts: Sequence[str], old: Vocabulary) -> sparse.csr_array:
    """Returns how much of every old row each new one is made of, [new, old]; rows sum to 1, those without pieces are empty.

    Raises ArgumentError for an unknown rule and for random, which takes nothing of any row.
    """
    check_choice("rule", rule, RULES)
    if rule == "random":
        raise ArgumentError('Rows of the rule "random" are drawn and mix nothing: use rebuilt_rows.')
    n_old = len(old.rows)
    if rule in ("mean", "first", "last"):
        chosen = {"mean": slice(None), "first": slice(0, 1), "last": slice(-1, None)}[rule]
        return _sparse(
            [(ids, np.full(len(ids), 1 / max(1, len(ids)))) for ids in (row[chosen] for row in pieces)], n_old
        )
    local = _sparse([_local(ids, old) for ids in pieces], n_old)
    if rule == "local":
        return local
    near, share = (
        (_near_rows(pieces, old), GLOBAL_SHARE)
        if rule == "local+global"
        else (_near_spellings(texts, old), SPELLING_SHARE)
    )
    near = _sparse(near, n_old)
    has_local, has_near = (np.asarray(part.sum(axis=1)) > 0 for part in (local, near))
    of_near = np.asarray(np.where(has_local, np.where(has_near, share, 0.0), 1.0), dtype=float)
    return sparse.csr_array(sparse.diags_array(1.0 - of_near) @ local + sparse.diags_array(of_near) @ near)


def rebuilt_rows(
    rule: Rule,
    table: Float[Tensor, "old *residual"],
    mixed: sparse.csr_array | None,
    old: Vocabulary,
    n_new: int,
    *,
    seed: int = 0,
) -> Float[Tensor, "new *residual"]:
    """Returns new rows of a table (input, output or bias): drawn where nothing is mixed; the mean row where there are no pieces."""
    known = table[old.usable.to(table.device)].float()
    if rule == "random" or mixed is None:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((n_new, *table.shape[1:]), generator=generator).to(table.device)
        return (known.mean(dim=0) + known.std(dim=0) * noise).to(table.dtype)
    wide = table.float().reshape(len(table), -1).cpu().numpy()
    found = torch.from_numpy(mixed @ wide).float().reshape(n_new, *table.shape[1:]).to(table.device)
    bare = torch.from_numpy(np.asarray(mixed.sum(axis=1)) == 0).to(table.device)
    found[bare] = known.mean(dim=0)
    return found.to(table.dtype)


# ---------------------------------------------------------------------- weights


Weighted = tuple[Sequence[int], np.ndarray]


def _local(ids: Sequence[int], old: Vocabulary) -> Weighted:
    if not ids:
        return ids, np.zeros(0)
    rows = old.rows[list(ids)].float()
    alike = torch.cosine_similarity(rows, rows.mean(dim=0, keepdim=True)).cpu().double()
    lengths = torch.tensor([max(1, len(old.texts[id])) for id in ids]).double()
    weights = torch.softmax(alike / TEMPERATURE, dim=0) * lengths
    return ids, (weights / weights.sum()).numpy()


def _near_rows(pieces: Pieces, old: Vocabulary) -> list[Weighted]:
    """The old tokens whose rows are nearest to the mean of the pieces' rows, the pieces left out."""
    found: list[Weighted] = []
    for first in range(0, len(pieces), _AT_ONCE):
        part = [list(ids) for ids in pieces[first : first + _AT_ONCE]]
        means = torch.stack([old.rows[ids].float().mean(dim=0) if ids else old.rows[0].float() * 0 for ids in part])
        alike = torch.nn.functional.normalize(means, dim=1) @ old.directions.T
        alike[:, ~old.usable] = -torch.inf
        for row, ids in enumerate(part):
            alike[row, ids] = -torch.inf
        best = alike.topk(min(GLOBAL_NEIGHBOURS, alike.shape[1]), dim=1)
        weights = torch.softmax(best.values / TEMPERATURE, dim=1).cpu().double().numpy()
        found += [
            (near, weight) if ids else ([], np.zeros(0))
            for ids, near, weight in zip(part, best.indices.tolist(), weights, strict=True)
        ]
    return found


def _near_spellings(texts: Sequence[str], old: Vocabulary) -> list[Weighted]:
    """The old tokens that share most runs of characters with each text; fewer where fewer share any."""
    columns, weights, theirs = old.spellings
    ours = _unit_rows(_gram_counts(texts, columns, grow=False) @ sparse.diags_array(weights))
    found: list[Weighted] = []
    for first in range(0, len(texts), _AT_ONCE):
        alike = sparse.csr_array(ours[first : first + _AT_ONCE] @ theirs.T)
        for begin, end in zip(alike.indptr[:-1], alike.indptr[1:], strict=True):
            values, ids = np.asarray(alike.data[begin:end], dtype=float), alike.indices[begin:end]
            best = np.lexsort((ids, -values))[:SPELLING_NEIGHBOURS]
            best = best[values[best] > 0]
            share = np.exp(values[best] / TEMPERATURE)
            found.append((ids[best].tolist(), share / share.sum() if len(best) else share))
    return found


def _gram_counts(texts: Sequence[str], columns: dict[str, int], *, grow: bool) -> sparse.csr_array:
    """Which runs of characters each text has, [text, run]; new runs get columns of their own if they may."""
    ends, found = [0], []
    for text in texts:
        framed = f"\x02{text}\x03"
        runs = {framed[at : at + size] for size in GRAMS for at in range(len(framed) - size + 1)} if text else set()
        if grow:
            found += [columns.setdefault(run, len(columns)) for run in sorted(runs)]
        else:
            found += [columns[run] for run in sorted(runs) if run in columns]
        ends.append(len(found))
    return sparse.csr_array((np.ones(len(found)), found, ends), shape=(len(texts), len(columns)))


def _unit_rows(rows: sparse.csr_array) -> sparse.csr_array:
    squares = np.asarray(rows.multiply(rows).sum(axis=1), dtype=float)
    return sparse.csr_array(sparse.diags_array(np.maximum(squares, 1e-24) ** -0.5) @ rows)


def _sparse(rows: Sequence[Weighted], n_old: int) -> sparse.csr_array:
    ends = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    ids = np.array([id for ids, _ in rows for id in ids], dtype=int)
    weights = np.concatenate([np.zeros(0), *(weight for _, weight in rows)])
    found = sparse.csr_array((weights, ids, ends), shape=(len(rows), n_old))
    found.sum_duplicates()
    return found
