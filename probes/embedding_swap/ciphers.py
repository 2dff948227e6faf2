"""Texts under ciphers: some tokens have other rows, in and out, and which ones differs from text to text.

A model that reads x with the rows E∘π and U∘π does what it does when it reads π(x): the text is enciphered by changing rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UserError
from interp.models.language.logit_directions import LogitDirections
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import read_residuals
from interp.tables import empty
from probes.embedding_swap.materials import Materials, materials_of
from probes.embedding_swap.plan import CipherUnit
from probes.embedding_swap.scores import changed_places, derangement, seen_before
from probes.embedding_swap.settings import Settings
from probes.embedding_swap.tables import Lens

N_CONTROLS = 16
"""Tokens of the class whose mean logit a lens is compared with."""
NEGLIGIBLE = 1e-6
"""Variance, as a share of the mean one, that is added to every direction of a joint covariance."""
ROWS_AT_ONCE = 4096
"""Vectors drawn at one time; changes no number."""
ELSEWHERE = ", of another place"
"""What the lens says of a token of the same text that belongs elsewhere: frequent tokens stand high whatever is predicted."""


@dataclass(frozen=True)
class Key:
    """Which tokens have other rows in each text, and whose: ids, or vectors."""

    ids: Int[np.ndarray, "text changed"]
    rows: Int[Tensor, "text changed"] | Float[Tensor, "text read residual"]
    rows_out: Float[Tensor, "text changed residual"] | None = None
    """Vectors on the way out; None where they are those on the way in."""
    ids_in: Int[np.ndarray, "text read"] | None = None
    """The tokens whose rows on the way in these are; None where they are all."""


def measure_cipher(model: LanguageModel, unit: CipherUnit, settings: Settings) -> dict[str, pd.DataFrame]:
    """Returns the tables `places` and `lens` of one cipher on all texts.

    Raises ArgumentError where the texts or the vocabulary do not offer what is asked for.
    """
    materials = materials_of(model, settings)
    texts = materials.passages(settings.texts_per_cipher, settings.text_tokens)
    ids = [[*materials.lead, *text] for text in texts]
    first = len(materials.lead)
    if unit.kind == "plain":
        members = materials.members(unit.among)
        key = Key(np.tile(members, (len(ids), 1)), torch.from_numpy(np.tile(members, (len(ids), 1))))
        nats = model.surprisal(ids)
        lens = _lens(model, unit, ids, first, key, settings, plain=True)
    else:
        key = key_of(model, materials, unit, settings, len(ids), ids)
        with rows_open(model, torch.from_numpy(key.ids), key.rows, key.rows_out, key.ids_in):
            nats = model.surprisal(ids)
            lens = _lens(model, unit, ids, first, key, settings, plain=False)
    rows: list[dict[str, Any]] = []
    for text, row in enumerate(ids):
        seen, changed = seen_before(row), changed_places(row, key.ids[text])
        rows += [
            {
                "text_id": text, "kind": unit.kind, "among": unit.among, "share": unit.share, "position": place - first,
                "token_id": row[place], "token": materials.token_texts[row[place]], "is_changed": bool(changed[place]),
                "seen": seen[place], "surprisal_nats": float(nats[text, place]),
            }
            for place in range(max(1, first), len(row))
        ]  # fmt: skip
    return {"places": pd.DataFrame(rows), "lens": lens}


def key_of(
    model: LanguageModel,
    materials: Materials,
    unit: CipherUnit,
    settings: Settings,
    n_texts: int,
    texts: Sequence[Sequence[int]] | None = None,
) -> Key:
    """Returns a key of its own for every text, drawn from (seed, share, class, text): kinds of rows change the same tokens.

    Where the texts are given, vectors on the way in are those of the tokens that they have, in models that have others on the way out.
    """
    members = materials.members(unit.among)
    n = max(2, round(unit.share * len(members)))
    named = [settings.seed, len(members), n]
    chosen = np.stack(
        [np.random.default_rng([*named, text]).choice(members, n, replace=False) for text in range(n_texts)]
    )
    generators = [np.random.default_rng([*named, text, 1]) for text in range(n_texts)]
    if unit.kind == "gaussian" and texts is not None and len(tables := _tables(model)) == 2:
        read = [np.isin(own, text) for own, text in zip(chosen, texts, strict=True)]
        first = max(1, *(int(one.sum()) for one in read))  # as many of every text: tokens that it has, then others
        wanted = [np.argsort(~one, kind="stable")[:first] for one in read]
        rows = _word_rows(tables, materials)
        into, out = joint_rows(rows, tables[1].shape[1], wanted, n, generators)
        return Key(chosen, into, out, np.stack([own[places] for own, places in zip(chosen, wanted, strict=True)]))
    if unit.kind == "gaussian":
        return Key(chosen, *gaussian_rows(model, materials, n, generators))
    if unit.kind == "rare":
        pool = materials.unread()
        rows = np.stack([generator.choice(pool, n, replace=n > len(pool)) for generator in generators])
    else:
        rows = np.stack([own[derangement(n, generator)] for own, generator in zip(chosen, generators, strict=True)])
    return Key(chosen, torch.from_numpy(rows))


def gaussian_rows(
    model: LanguageModel, materials: Materials, n: int, generators: list[np.random.Generator]
) -> tuple[Float[Tensor, "text changed residual"], Float[Tensor, "text changed residual_out"] | None]:
    """Returns vectors for the way in and for the way out, with the mean and covariance of the rows of the vocabulary's words.

    Where the model has two tables the two vectors of a token are drawn together, from the words' rows in both; None on the way out where
    it has one. Raises UserError for a model without a language-model head.
    """
    tables = _tables(model)
    rows = _word_rows(tables, materials)
    if len(tables) == 2:
        return joint_rows(rows, tables[1].shape[1], [np.arange(n)] * len(generators), n, generators)
    mean, centred = rows.mean(dim=0), rows - rows.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    root = vectors * values.clamp(min=0).sqrt()
    noise = np.stack([generator.standard_normal((n, rows.shape[1])) for generator in generators])
    return (mean + torch.from_numpy(noise) @ root.T).float(), None


def _tables(model: LanguageModel) -> list[Tensor]:
    """The embedding, and the head's table where that is another."""
    embedding: Any = model.hf.get_input_embeddings()
    head: Any = model.hf.get_output_embeddings()
    if head is None:
        raise UserError(
            f"{model.identity.name} has no language-model head whose rows could be drawn: name another model."
        )
    is_tied = head.weight is embedding.weight or torch.equal(head.weight, embedding.weight)
    return [embedding.weight.data] if is_tied else [embedding.weight.data, head.weight.data]


def _word_rows(tables: list[Tensor], materials: Materials) -> Float[Tensor, "word residuals"]:
    """The rows of the vocabulary's words, of all tables side by side: in double precision of one table, in single precision of two."""
    words, dtype = torch.from_numpy(materials.words), torch.float64 if len(tables) == 1 else torch.float32
    return torch.cat([table[words.to(table.device)].to(dtype).cpu() for table in tables], dim=1)


def joint_rows(
    rows: Float[Tensor, "word residuals"],
    width_out: int,
    wanted: Sequence[Int[np.ndarray, " wanted"]],
    n: int,
    generators: Sequence[np.random.Generator],
) -> tuple[Float[Tensor, "text wanted residual"], Float[Tensor, "text changed residual_out"]]:
    """Returns n vectors a text, drawn with the mean and covariance of rows of two tables side by side: those `wanted` in, all out.

    All go out, as every token may be predicted, and few come in: a draw of both for all takes hours in wide models. So the part that goes
    out has noise of its own (a triangular root of the covariance), and the other is drawn given it.
    """
    mean, centred = rows.mean(dim=0), rows - rows.mean(dim=0)
    width_in = rows.shape[1] - width_out
    ordered = torch.cat([centred[:, width_in:], centred[:, :width_in]], dim=1) / len(rows) ** 0.5
    n_out, n_more = len(rows), 0
    root = ordered  # normal weights of the words' rows have their covariance
    if min(n * len(generators), len(rows)) > rows.shape[1]:
        covariance = (ordered.T @ ordered).double()
        covariance.diagonal().add_(
            NEGLIGIBLE * float(covariance.diagonal().mean())
        )  # single precision may leave a negative root
        root, n_out, n_more = torch.linalg.cholesky(covariance).T.float(), width_out, width_in
    into, out = [], torch.empty(len(generators), n, width_out)
    for text, (generator, own) in enumerate(zip(generators, wanted, strict=True)):
        seed, found = int(generator.integers(2**63)), torch.empty(len(own), width_in)
        for first in range(0, n, ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, n)
            drawn = torch.from_numpy(generator.standard_normal((last - first, n_out), dtype=np.float32))
            torch.addmm(mean[width_in:], drawn, root[:n_out, :width_out], out=out[text, first:last])
            here = (own >= first) & (own < last)
            given = drawn[own[here] - first]
            found[torch.from_numpy(here)] = (
                mean[:width_in] + torch.cat([given, _noise(seed, own[here], n_more)], dim=1) @ root[:, width_out:]
            )
        into.append(found)
    return torch.stack(into), out


def _noise(seed: int, rows: Int[np.ndarray, " row"], n: int) -> Float[Tensor, "row noise"]:
    """Normal numbers of some rows, the same whichever others are drawn."""
    drawn = [np.random.default_rng([seed, int(row)]).standard_normal(n, dtype=np.float32) for row in rows]
    return torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(0, n)


@contextmanager
def rows_open(
    model: LanguageModel, ids: Tensor, rows: Tensor, rows_out: Tensor | None, ids_in: np.ndarray | None = None
) -> Iterator[None]:
    """Gives tokens these rows in and out, or others on the way out; on the way in some of the tokens alone where these are given."""
    if rows_out is None:
        with model.edit_rows(ids, rows):
            yield
    else:
        entering = ids if ids_in is None else torch.from_numpy(ids_in)
        with model.edit_rows(entering, rows, side="input"), model.edit_rows(ids, rows_out, side="output"):
            yield


# ---------------------------------------------------------------------- the lens


def _lens(
    model: LanguageModel,
    unit: CipherUnit,
    ids: list[list[int]],
    first: int,
    key: Key,
    settings: Settings,
    *,
    plain: bool,
) -> pd.DataFrame:
    """By layer, how far the residual stream says the plain token, and the one in its place, above other tokens of the class.

    Where the token is to be predicted and where it is read. Empty where the unit has no lens, or the logits cannot be taken apart.
    """
    if not unit.with_lens or key.rows.is_floating_point():
        return empty(Lens).drop(columns="model")
    try:
        directions = LogitDirections(model)
    except UserError:  # a recurrent model, or logits that are no sum: the finding says so
        return empty(Lens).drop(columns="model")
    places = _lens_places(ids, first, key)
    if not len(places):
        return empty(Lens).drop(columns="model")
    rng = np.random.default_rng([settings.seed, 7])
    controls = torch.from_numpy(
        np.stack([rng.choice(own, min(N_CONTROLS, len(own)), replace=False) for own in key.ids])
    )
    control_rows = directions.frozen(controls).mean(dim=1)
    swapped = [
        dict(zip(own.tolist(), taken, strict=True)) for own, taken in zip(key.ids, key.rows.tolist(), strict=True)
    ]
    wanted = {
        "plain": torch.tensor([ids[text][place] for text, place in places]),
        "in its place": torch.tensor([swapped[text][ids[text][place]] for text, place in places]),
    }
    elsewhere = torch.tensor(_other_places([text for text, _ in places]))
    wanted |= {f"{which}{ELSEWHERE}": tokens[elsewhere] for which, tokens in wanted.items()}
    rows_of = {
        which: directions.frozen(tokens) for which, tokens in wanted.items() if not plain or which.startswith("plain")
    }
    text_of, place_of = (torch.tensor([one[axis] for one in places]) for axis in (0, 1))
    named = pd.DataFrame(places, columns=["text_id", "place"])
    named["seen"] = [seen_before(ids[text])[place] for text, place in places]
    found = []
    streams = read_residuals(model, torch.tensor(ids), range(model.n_layers))
    for layer, stream in streams.items():
        for where, offset in (("predicting", 1), ("reading", 0)):
            at = stream.cpu()[text_of, place_of - offset].float()
            scale = directions.final_norm.scale(at)
            for which, of_tokens in rows_of.items():
                margin = (at * (of_tokens - control_rows[text_of]).cpu()).sum(dim=-1) / scale
                one = named.assign(margin=margin.numpy()).groupby(["text_id", "seen"])["margin"].agg(["mean", "size"])
                one = one.reset_index().rename(columns={"mean": "margin_nats", "size": "n_places"})
                found.append(one.assign(kind=unit.kind, layer=layer, where=where, which=which))
    return pd.concat(found, ignore_index=True)


def _other_places(texts: list[int]) -> list[int]:
    """For every place, the number of another one of the same text, half of the text's places further on; its own where it is alone."""
    of_text: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        of_text.setdefault(text, []).append(number)
    found = list(range(len(texts)))
    for numbers in of_text.values():
        for at, number in enumerate(numbers):
            found[number] = numbers[(at + len(numbers) // 2) % len(numbers)]
    return found


def _lens_places(ids: list[list[int]], first: int, key: Key) -> list[tuple[int, int]]:
    """Text and place of every token with another row, but for what stands first."""
    return [
        (text, int(place))
        for text, row in enumerate(ids)
        for place in np.flatnonzero(changed_places(row, key.ids[text]))
        if place >= max(1, first)
    ]
