"""Tokens of the model's own vocabulary, left out and made again from their pieces: the truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.language.model import LanguageModel
from interp.models.transplant.mixtures import Vocabulary, mixture, rebuilt_rows
from interp.models.transplant.rules import Rule
from interp.models.transplant.vocabularies import without_tokens
from probes.embedding_swap.materials import Materials, materials_of
from probes.embedding_swap.plan import AFTER, CONTEXT, PiecesUnit
from probes.embedding_swap.settings import Settings

MIN_LETTERS = 3
OWN, SPELLED = "own", "spelled"


@dataclass(frozen=True)
class HeldOut:
    """A token, its pieces, and a passage around it."""

    token: int
    pieces: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]


def measure_pieces(model: LanguageModel, unit: PiecesUnit, settings: Settings) -> dict[str, pd.DataFrame]:
    """Returns the table `rebuilt` of some held-out tokens. All of the run's held-out tokens are out of reach for the rules.

    Raises ArgumentError where the texts have too few tokens that can be left out.
    """
    materials = materials_of(model, settings)
    everything = held_out(model, materials, settings)
    some = everything[unit.first : unit.last]
    old = vocabulary_of(model, materials, [one.token for one in everything])
    embedding: Any = model.hf.get_input_embeddings()
    head: Any = model.hf.get_output_embeddings()
    rows_in, rows_out = embedding.weight.data, head.weight.data
    texts = [materials.token_texts[one.token] for one in some]
    own = torch.tensor([one.token for one in some])
    base_token, base_after = _nats(model, materials, some)
    found = _rows(some, materials, OWN, base_token, base_after, None, None)
    for rule in settings.rules:
        mixed = None if rule == "random" else mixture(rule, [one.pieces for one in some], texts, old)
        new_in, new_out = (_new(rule, table, mixed, old, len(some), settings.seed) for table in (rows_in, rows_out))
        ids = own[:, None]
        with model.edit_rows(ids, new_out[:, None].float(), side="output"):
            token_nats, _ = _nats(model, materials, some, up_to_token=True)
        with model.edit_rows(ids, new_in[:, None].float(), side="input"):
            _, after_nats = _nats(model, materials, some)
        true = rows_in[own.to(rows_in.device)].float()
        mean = rows_in[old.usable.to(rows_in.device)].float().mean(dim=0)
        centred = torch.cosine_similarity(new_in.float() - mean, true - mean)
        raw = torch.cosine_similarity(new_in.float(), true)
        found += _rows(some, materials, rule, token_nats, after_nats, centred, raw)
    spelled_token, spelled_after = _nats(model, materials, some, spelled=True)
    found += _rows(some, materials, SPELLED, spelled_token, spelled_after, None, None)
    return {"rebuilt": pd.DataFrame(found)}


def held_out(model: LanguageModel, materials: Materials, settings: Settings) -> list[HeldOut]:
    """Returns tokens that are words of at least three letters, stand in the texts and have pieces, with the first passage of each."""
    words = {
        int(id)
        for id in materials.words
        if len(materials.token_texts[id].strip()) >= MIN_LETTERS and materials.counts[id] > 1
    }
    order = np.random.default_rng([settings.seed, 17]).permutation(sorted(words)).tolist()
    chosen = order[: 2 * settings.held_out_tokens]
    smaller = without_tokens(model.tokenizer, chosen)
    passages = _passages(materials, set(chosen))
    found: list[HeldOut] = []
    for token in chosen:
        pieces = _pieces(smaller, materials.token_texts[token], set(chosen), materials)
        if token in passages and len(pieces) > 1:
            found.append(HeldOut(token, pieces, *passages[token]))
    if len(found) < settings.held_out_tokens:
        raise ArgumentError(
            f"{len(found)} words of the texts can be held out of this vocabulary, and {settings.held_out_tokens} are asked for: lower "
            "--held-out-tokens, or give more --texts."
        )
    return found[: settings.held_out_tokens]


def _pieces(smaller: Any, text: str, chosen: set[int], materials: Materials) -> tuple[int, ...]:
    """What the tokenizer without the tokens writes for one of them; none where it cannot spell it, or spells something else."""
    behind = smaller.encode(f"a{text}", add_special_tokens=False).ids
    alone = smaller.encode("a", add_special_tokens=False).ids
    ids = behind[len(alone) :] if behind[: len(alone)] == alone else []
    spelled = "".join(materials.token_texts[id] for id in ids if id < len(materials.token_texts))
    return tuple(ids) if spelled == text and chosen.isdisjoint(ids) else ()


def _passages(materials: Materials, chosen: set[int]) -> dict[int, tuple[tuple[int, ...], tuple[int, ...]]]:
    """By token, what stands before and behind its first occurrence that has enough on both sides."""
    found: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for text in materials.texts:
        for place in range(CONTEXT, len(text) - AFTER):
            token = text[place]
            if token in chosen and token not in found:
                found[token] = (text[place - CONTEXT : place], text[place + 1 : place + 1 + AFTER])
    return found


def vocabulary_of(model: LanguageModel, materials: Materials, out_of_reach: Sequence[int]) -> Vocabulary:
    """Returns the old tokens as the rules see them."""
    embedding: Any = model.hf.get_input_embeddings()
    rows = embedding.weight.data
    usable = torch.zeros(len(rows), dtype=torch.bool)
    usable[torch.from_numpy(materials.ordinary)] = True
    usable[list(out_of_reach)] = False
    texts = [*materials.token_texts, *[""] * (len(rows) - len(materials.token_texts))]
    hidden = set(out_of_reach)
    return Vocabulary(rows, ["" if id in hidden else text for id, text in enumerate(texts)], usable)


def _new(
    rule: Rule, table: Tensor, mixed: sparse.csr_array | None, old: Vocabulary, n: int, seed: int
) -> Float[Tensor, "new residual"]:
    return rebuilt_rows(rule, table, mixed, old, n, seed=seed)


def _nats(
    model: LanguageModel,
    materials: Materials,
    some: Sequence[HeldOut],
    *,
    up_to_token: bool = False,
    spelled: bool = False,
) -> tuple[list[float], list[float]]:
    """Surprisal of each token (or of its pieces), and the mean of those behind it."""
    middles = [one.pieces if spelled else (one.token,) for one in some]
    ids = [
        [*materials.lead, *one.before, *middle, *(() if up_to_token else one.after)]
        for one, middle in zip(some, middles, strict=True)
    ]
    nats = model.surprisal(ids).double()
    first = len(materials.lead) + CONTEXT
    of_token = [float(nats[row, first : first + len(middle)].sum()) for row, middle in enumerate(middles)]
    ends = [first + len(middle) for middle in middles]
    return of_token, [
        float(nats[row, end : end + AFTER].mean()) if not up_to_token else 0.0 for row, end in enumerate(ends)
    ]


def _rows(
    some: Sequence[HeldOut],
    materials: Materials,
    rule: str,
    token_nats: Sequence[float],
    after_nats: Sequence[float],
    centred: Tensor | None,
    raw: Tensor | None,
) -> list[dict[str, Any]]:
    return [
        {
            "token_id": one.token, "token": materials.token_texts[one.token], "rule": rule, "n_pieces": len(one.pieces),
            "pieces": "|".join(materials.token_texts[id] for id in one.pieces),
            "cosine": float("nan") if centred is None else float(centred[row]),
            "raw_cosine": float("nan") if raw is None else float(raw[row]),
            "token_nats": token_nats[row], "after_nats": after_nats[row],
        }
        for row, one in enumerate(some)
    ]  # fmt: skip
