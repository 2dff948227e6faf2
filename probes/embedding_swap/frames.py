"""Parts of speech from frames: what a model does with a word, and what can be read from its states, known or not.

Behaviour: a frame with the word in its slot, then the beginning of a sentence that wants a part of speech; ln P of the word there.
Readout: the state at the word, up to its first occurrence, classified by a readout trained on known words in other frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import layer_modules, read_residuals
from interp.models.tokens.encoding import beginning, encode_piece
from interp.tables import empty
from probes.embedding_swap.ciphers import gaussian_rows, rows_open
from probes.embedding_swap.materials import materials_of
from probes.embedding_swap.plan import FramesUnit
from probes.embedding_swap.scores import readout
from probes.embedding_swap.settings import SLOT, PartOfSpeech, Settings
from probes.embedding_swap.tables import Readouts

N_BEHAVIOUR_FRAMES = 2
"""Frames of each part of speech that behaviour is measured behind."""
KNOWN_IN_BEHAVIOUR = 4
N_SHUFFLES = 5
N_FOLDS = 3
"""Known words are held out of the readout in as many parts; frames in two."""


@dataclass(frozen=True)
class Word:
    """A word that is put into slots: one token, which may have a drawn row."""

    name: str
    kind: str
    token: int
    word_class: int | None = None
    row: Tensor | None = field(default=None, compare=False)
    row_out: Tensor | None = field(default=None, compare=False)
    """On the way out, where that is another one."""


def measure_frames(model: LanguageModel, unit: FramesUnit, settings: Settings) -> dict[str, pd.DataFrame]:
    """Returns the tables `behaviour` and `readouts` of one checkpoint; no readouts where states between layers cannot be read.

    Raises ArgumentError where fewer than four words of a part of speech are one token.
    """
    classes = settings.read_frames()
    words = words_of(model, classes, settings)
    revision = unit.revision or "own"
    return {
        "behaviour": pd.DataFrame(_behaviour(model, classes, words)).assign(revision=revision),
        "readouts": _all_readouts(model, classes, words, settings).assign(revision=revision),
    }


def _all_readouts(
    model: LanguageModel, classes: Sequence[PartOfSpeech], words: Sequence[Word], settings: Settings
) -> pd.DataFrame:
    try:
        layer_modules(model)
    except UserError:  # a warning of the run says so
        return empty(Readouts).drop(columns=["model", "revision"])
    return pd.DataFrame(_readouts(model, classes, words, settings))


def words_of(model: LanguageModel, classes: Sequence[PartOfSpeech], settings: Settings) -> list[Word]:
    """Returns known words that are one token, rare tokens, and Gaussian rows (under tokens that no text has)."""
    tokenizer, words = model.tokenizer, []
    for number, one in enumerate(classes):
        ids = [(word, encode_piece(tokenizer, f" {word}", first=False).ids) for word in one.words]
        own = [
            Word(word, "known", found[0], number)
            for word, found in ids
            if len(found) == 1 and found[0] not in _unknown(tokenizer)
        ]
        if len(own) < N_FOLDS:
            raise ArgumentError(
                f"{len(own)} words of {one.name} are one token of this vocabulary, and {N_FOLDS} are needed: give others with --frames, "
                "or leave frames out of --parts."
            )
        words += own[: max(N_FOLDS, settings.words_per_class)]
    materials = materials_of(model, settings)
    unread = materials.unread()[: 2 * settings.nonce_words]
    if len(unread) < 2 * settings.nonce_words:
        raise ArgumentError(
            f"{len(unread)} words of this vocabulary occur in none of the texts, and {2 * settings.nonce_words} are needed: "
            "lower --nonce-words."
        )
    generators = [np.random.default_rng([settings.seed, 11])]
    rows, rows_out = gaussian_rows(model, materials, settings.nonce_words, generators)
    for place, token in enumerate(unread.tolist()):
        name = materials.token_texts[token].strip()
        if place < settings.nonce_words:
            words.append(Word(name, "rare", token))
        else:
            number = place - settings.nonce_words
            row_out = None if rows_out is None else rows_out[0, number]
            words.append(Word(f"drawn {number}", "gaussian", token, row=rows[0, number], row_out=row_out))
    return words


def _unknown(tokenizer: Any) -> set[int]:
    return {tokenizer.unk_token_id} - {None}


# ---------------------------------------------------------------------- behaviour


def _behaviour(
    model: LanguageModel, classes: Sequence[PartOfSpeech], words: Sequence[Word]
) -> Iterator[dict[str, Any]]:
    """One row for every word, frame and test."""
    known: dict[int | None, int] = {}
    tests = [
        (number, place, encode_piece(model.tokenizer, f" {test}", first=False).ids)
        for number, one in enumerate(classes)
        for place, test in enumerate(one.tests)
    ]
    chosen = []
    for word in words:
        known[word.word_class] = known.get(word.word_class, 0) + 1
        if word.kind != "known" or known[word.word_class] <= KNOWN_IN_BEHAVIOUR:
            chosen.append(word)
    for one in classes:
        for place, frame in enumerate(one.frames[:N_BEHAVIOUR_FRAMES]):
            before, after = _around(model, frame)
            texts = [[*before, word.token, *after] for word in chosen]
            log_p = _log_p_of_words(model, texts, chosen, [ids for _, _, ids in tests])
            for word, row in zip(chosen, log_p.tolist(), strict=True):
                for (test_class, test, _), value in zip(tests, row, strict=True):
                    yield {
                        "kind": word.kind, "word": word.name,
                        "word_class": "none" if word.word_class is None else classes[word.word_class].name,
                        "frame_class": one.name, "frame": place, "test_class": classes[test_class].name, "test": test, "log_p": value,
                    }  # fmt: skip


def _log_p_of_words(
    model: LanguageModel, texts: list[list[int]], words: Sequence[Word], tests: list[list[int]]
) -> Float[Tensor, "word test"]:
    """Ln P of each row's word behind its text and each test; every text is read once."""
    found = torch.empty(len(texts), len(tests))
    with _rows_open(model, words):
        read = model.rows(len(texts), len(texts[0]) + max(map(len, tests)))
        model.extend(read, texts, logits="none")
        for column, test in enumerate(tests):
            logits = model.extend(read, [test] * len(texts))[:, -1]
            log_p = torch.log_softmax(logits, dim=-1)
            found[:, column] = log_p[range(len(texts)), [word.token for word in words]].cpu()
            read.crop(len(texts[0]))
    return found


def _rows_open(model: LanguageModel, words: Sequence[Word]) -> Any:
    """The edit that gives words their drawn rows: the same for every row of the batch, since each has a token of its own."""
    drawn = [word for word in words if word.row is not None]
    ids = torch.tensor([[word.token for word in drawn]])
    rows, rows_out = (
        [row for row in side if row is not None] for side in zip(*((w.row, w.row_out) for w in drawn), strict=True)
    )
    return rows_open(model, ids, torch.stack(rows)[None], torch.stack(rows_out)[None] if rows_out else None)


def _around(model: LanguageModel, frame: str) -> tuple[list[int], list[int]]:
    """The tokens before and behind the slot; the blank before the slot belongs to the word."""
    before, _, after = frame.partition(SLOT)
    lead = beginning(model.tokenizer, "auto")
    behind = encode_piece(model.tokenizer, after, first=False).ids if after else []
    return [*lead, *encode_piece(model.tokenizer, before.rstrip(), first=True).ids], behind


# ---------------------------------------------------------------------- readout


def _readouts(
    model: LanguageModel, classes: Sequence[PartOfSpeech], words: Sequence[Word], settings: Settings
) -> Iterator[dict[str, Any]]:
    """One row for every word, frame, layer and place, from readouts that saw neither this frame nor this word."""
    named, states = _states(model, classes, words)
    frame_class, half, fold = (named[column].to_numpy() for column in ("frame_class", "half", "fold"))
    own = (named["word_class"] == named["frame_class"]).to_numpy()
    rng = np.random.default_rng([settings.seed, 13])
    for (layer, place), x in states.items():
        for left_half in (0, 1):
            for left_fold in range(N_FOLDS):
                train = own & (half != left_half) & (fold != left_fold)
                # Words that are nobody's known ones are tested once, by the readouts of the first fold.
                test = (half == left_half) & ((fold == left_fold) | ((fold < 0) & (left_fold == 0)))
                labels = frame_class[train]
                said = readout(x[train], labels, x[test], len(classes))
                shuffled = np.stack(
                    [readout(x[train], rng.permutation(labels), x[test], len(classes)) for _ in range(N_SHUFFLES)]
                )
                of_rows = named[test]
                for row, answer, chance in zip(of_rows.itertuples(), said, shuffled.T, strict=True):
                    kind = "conflict" if row.kind == "known" and row.word_class != row.frame_class else str(row.kind)
                    yield {
                        "kind": kind, "word": row.word, "frame_class": classes[int(row.frame_class)].name, "frame": int(row.frame),  # type: ignore[arg-type]
                        "layer": layer, "place": place, "is_frame_class": bool(answer == row.frame_class),
                        "is_word_class": bool(answer == row.word_class), "shuffled_share": float((chance == row.frame_class).mean()),
                    }  # fmt: skip


def _states(
    model: LanguageModel, classes: Sequence[PartOfSpeech], words: Sequence[Word]
) -> tuple[pd.DataFrame, dict[tuple[int, str], Float[np.ndarray, "row residual"]]]:
    """What each row is (word, frame), and the residual stream at the word and at the token before it, by layer and place."""
    named, parts = [], []
    for number, one in enumerate(classes):
        for place, frame in enumerate(one.frames):
            before, _ = _around(model, frame)
            with _rows_open(model, words):
                streams = read_residuals(
                    model, torch.tensor([[*before, word.token] for word in words]), range(model.n_layers)
                )
            parts.append(
                {
                    (layer, at): s[:, column].float().cpu().numpy()
                    for layer, s in streams.items()
                    for column, at in _COLUMNS
                }
            )
            of_class: dict[int | None, int] = {}
            for word in words:
                of_class[word.word_class] = of_class.get(word.word_class, -1) + 1
                fold = -1 if word.word_class is None else of_class[word.word_class] % N_FOLDS
                named.append(
                    (
                        word.name,
                        word.kind,
                        -1 if word.word_class is None else word.word_class,
                        number,
                        place,
                        place % 2,
                        fold,
                    )
                )
    columns = ["word", "kind", "word_class", "frame_class", "frame", "half", "fold"]
    return pd.DataFrame(named, columns=columns), {
        key: np.concatenate([part[key] for part in parts]) for key in parts[0]
    }


_COLUMNS = ((-1, "word"), (-2, "before"))
