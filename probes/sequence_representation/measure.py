"""From a model, an encoder and texts to the measured tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.experiments.experiment import WorkUnit
from interp.models.encoder import load_encoder
from interp.models.language.model import LanguageModel
from probes.sequence_representation import plan
from probes.sequence_representation.pairs import Pair, texts_of, word_overlap
from probes.sequence_representation.prepending import Prompted, read_arm
from probes.sequence_representation.readers import EncoderReader, ModelReader, Read, Reader, States, pooled
from probes.sequence_representation.retrieval import retrieve
from probes.sequence_representation.scores import anisotropy, cosines
from probes.sequence_representation.settings import Settings
from probes.sequence_representation.words import decode_words

POSITIONS = 12


def measure_unit(model: LanguageModel, unit: WorkUnit, settings: Settings) -> Mapping[str, pd.DataFrame]:
    """Returns the rows of one unit, by table.

    Raises ArgumentError for a text that a reader cannot read, and for layers that the model does not have.
    """
    if isinstance(unit, plan.ArmUnit):
        return _measure_arm(ModelReader(model), unit, settings)
    if isinstance(unit, plan.EncoderUnit):
        return _measure_encoder(_encoder(model, settings), settings)
    if isinstance(unit, plan.ShiftUnit):
        return {"shifts": _measure_shifts(ModelReader(model), settings)}
    assert isinstance(unit, plan.WordsUnit | plan.TokensUnit)
    reader = ModelReader(model) if unit.reader == "model" else _encoder(model, settings)
    if isinstance(unit, plan.WordsUnit):
        return {"words": decode_words(reader, settings.prose_sentences, settings.seed)}
    tokens, documents = retrieve(reader, settings.read_pairs(), settings)
    return {"tokens": tokens, "documents": documents}


def _encoder(model: LanguageModel, settings: Settings) -> EncoderReader:
    return EncoderReader(load_encoder(settings.encoder, str(model.device)))


def _measure_arm(reader: ModelReader, unit: plan.ArmUnit, settings: Settings) -> Mapping[str, pd.DataFrame]:
    pairs = settings.read_pairs()
    texts = texts_of(pairs)
    seed = [settings.seed, *unit.id.encode()]
    last, mean, rows = [], [], []
    for row, states in read_arm(reader, texts, unit.arm, start=settings.start, exit=unit.exit, seed=seed):
        last.append(states[:, -1].copy())  # a view would keep the whole batch
        mean.append(states[:, list(row.read.own)].mean(axis=1))
        rows.append(row)
    named = {"reader": reader.name, "arm": unit.arm, "exit": unit.exit}
    pools = {"last": np.stack(last), "mean": np.stack(mean)} if unit.arm == "plain" else {"last": np.stack(last)}
    found = _pair_tables(pairs, texts, pools, named)
    return found | {"texts": _text_rows(reader, texts, rows)} if unit.arm == "plain" else found


def _measure_encoder(reader: EncoderReader, settings: Settings) -> Mapping[str, pd.DataFrame]:
    pairs = settings.read_pairs()
    texts = texts_of(pairs)
    reads = [reader.encode(text) for text in texts]

    def both(states: States, _: Read) -> np.ndarray:
        return np.stack([states[:, 0], states.mean(axis=1)])

    found = pooled(reader, reads, both)
    pools = {"first": found[:, 0], "mean": found[:, 1]}
    named = {"reader": reader.name, "arm": "encoder", "exit": 0}
    rows = [Prompted(read, None) for read in reads]
    return _pair_tables(pairs, texts, pools, named) | {"texts": _text_rows(reader, texts, rows)}


def _text_rows(reader: Reader, texts: tuple[str, ...], rows: list[Prompted]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "reader": reader.name, "text_id": range(len(texts)), "text": list(texts),
            "n_tokens": [len(row.read.own) for row in rows],
            "unread_characters": [row.read.unread_characters for row in rows],
        }
    )  # fmt: skip


def _pair_tables(
    pairs: tuple[Pair, ...], texts: tuple[str, ...], pools: Mapping[str, np.ndarray], named: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """`pairs` has a row for each pool, layer and pair; `spreads` one for each pool and layer. `pools` are [text, layer, residual]."""
    place = {text: number for number, text in enumerate(texts)}
    first, second = ([place[getattr(pair, side)] for pair in pairs] for side in ("first", "second"))
    about = {
        "pair_id": [pair.id for pair in pairs], "cluster": [pair.cluster for pair in pairs],
        "kind": [pair.kind for pair in pairs], "grade": [pair.grade for pair in pairs],
        "word_overlap": [word_overlap(pair.first, pair.second) for pair in pairs],
        "length_difference": [abs(len(pair.first) - len(pair.second)) for pair in pairs],
    }  # fmt: skip
    rows, spreads = [], []
    for pool, vectors in pools.items():
        for layer in range(vectors.shape[1]):
            here = vectors[:, layer].astype(np.float64)
            here_named = {**named, "pool": pool, "layer": layer}
            both = {
                "cosine": cosines(here, first, second, centred=False),
                "cosine_centred": cosines(here, first, second, centred=True),
            }
            rows.append(pd.DataFrame({**here_named, **about, **both}))
            spreads.append({**here_named, "n_layers": vectors.shape[1], "anisotropy": anisotropy(here)})
    return {"pairs": pd.concat(rows, ignore_index=True), "spreads": pd.DataFrame(spreads)}


def _measure_shifts(reader: ModelReader, settings: Settings) -> pd.DataFrame:
    """‖state − state where nothing is written‖ over the latter's norm, for the first tokens of the first texts."""
    texts, exit = texts_of(settings.read_pairs())[: settings.shifted_texts], max(settings.exits)
    layers = sorted({exit - 1, reader.n_layers // 2, reader.n_layers - 1})
    options = {"start": settings.start, "exit": exit, "seed": [settings.seed, 0]}
    plain = [states for _, states in read_arm(reader, texts, "slot", **options)]
    rows: list[dict[str, Any]] = []
    for arm in ("prepend", "other"):
        for number, (row, states) in enumerate(read_arm(reader, texts, arm, **options)):
            for position, place in enumerate(row.read.own[:POSITIONS]):
                for layer in layers:
                    before, after = plain[number][layer, place], states[layer, place]
                    change = float(np.linalg.norm(after - before) / np.linalg.norm(before))
                    rows.append(
                        {"arm": arm, "layer": layer, "position": position, "text_id": number, "relative_change": change}
                    )
    return pd.DataFrame(rows)
