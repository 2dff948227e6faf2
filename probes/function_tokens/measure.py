"""What each unit of work measures: classes and checks, pairs of tokens and features, losses; prompts are measured elsewhere."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from interp.experiments.experiment import WorkUnit
from interp.models.dictionary.windows import Windows
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import read_residuals
from probes.function_tokens import plan
from probes.function_tokens.activations import Tally, active_features, joined, to_masks
from probes.function_tokens.causes import measure_reactivation, measure_steering
from probes.function_tokens.inputs import Inputs, document_slices, parts_of, set_up, special_positions
from probes.function_tokens.settings import Settings
from probes.function_tokens.token_classes import CONTENT, FUNCTION, is_function

SAMPLED_FEATURES, CONTEXTS_PER_BLOCK = 20, 3
SWEEP = (0.2, 0.3, 0.4, 0.5)
"""Thresholds of the sweep, beside the run's own."""
Frames = Mapping[str, pd.DataFrame]


def measure_unit(settings: Settings, model: LanguageModel, unit: WorkUnit) -> Frames:
    """Returns the unit's rows."""
    inputs = set_up(settings, model)
    if isinstance(unit, plan.CheckUnit):
        return measure_check(inputs)
    if isinstance(unit, plan.GraphUnit):
        return measure_graph(inputs, unit.block)
    if isinstance(unit, plan.LossUnit):
        return {"pair_loss_documents": measure_losses(inputs, unit.block)}
    assert isinstance(unit, plan.PromptUnit)
    loaded = inputs.loaded[unit.dictionary]
    prompts = range(unit.first_prompt, unit.first_prompt + unit.n_prompts)
    steering = isinstance(unit, plan.SteeringUnit)
    table = (measure_steering if steering else measure_reactivation)(inputs, loaded, prompts)
    table = table.assign(dictionary=loaded.dictionary.name, layer=loaded.dictionary.layer)
    return {"steering_prompts" if steering else "reactivation_prompts": table} if len(table) else {}


def measure_check(inputs: Inputs) -> Frames:
    """Returns `token_classes`, `blocks` and `dictionary_check`."""
    corpus, windows = inputs.corpus, inputs.corpus.windows
    rows = []
    for loaded in inputs.loaded.values():
        dictionary, fidelity = loaded.dictionary, loaded.fidelity
        rows.append(
            {
                "dictionary": dictionary.name,
                "layer": dictionary.layer,
                "architecture": dictionary.architecture,
                "width": dictionary.n_features,
                "l0": fidelity.l0,
                "published_l0": inputs.settings.expected_l0 or dictionary.published_l0,
                "explained_variance": fidelity.explained_variance,
                "published_explained_variance": dictionary.published_explained_variance,
                "cross_entropy_recovered": dictionary.card.get("cross_entropy_recovered"),
                "never_active_share": fidelity.dead_share,
                "n_vectors": fidelity.n_vectors,
                "norm_limit": loaded.norm_limit,
                "neuronpedia_id": dictionary.neuronpedia_id or "",
            }
        )
    blocks = pd.DataFrame(
        {"block": corpus.block[windows.document], "document": windows.document, "tokens": windows.lengths.numpy()}
    )
    blocks = blocks.groupby("block", as_index=False).agg(
        documents=("document", "nunique"), windows=("document", "size"), tokens=("tokens", "sum")
    )
    blocks = blocks.assign(classes_in_sample=corpus.in_sample, texts_left_out=corpus.left_out)
    frames = {"token_classes": corpus.classes.assign(threshold=inputs.settings.threshold), "blocks": blocks}
    return {**frames, "dictionary_check": pd.DataFrame(rows)} if rows else frames


def measure_graph(inputs: Inputs, block: int) -> Frames:
    """Returns the pairs, first ranks, left-out positions and contexts of one block, for all dictionaries."""
    settings, corpus = inputs.settings, inputs.corpus
    windows = corpus.block_windows(block)
    rank = corpus.rank()
    special = special_positions(windows, inputs.model)
    ids = windows.ids.numpy()
    with tempfile.TemporaryDirectory() as spill:
        tallies = []
        for index, loaded in enumerate(inputs.loaded.values()):
            folder = Path(spill) / str(index)
            folder.mkdir()
            sample = np.random.default_rng([settings.seed, 5]).choice(
                loaded.dictionary.n_features, min(SAMPLED_FEATURES, loaded.dictionary.n_features), replace=False
            )
            tallies.append(Tally(loaded, rank, folder, sample))
        for rows in document_slices(windows):
            text = windows[rows]
            present = text.present()
            width = present.shape[1]
            found = [[] for _ in tallies]
            first = 0
            for part in parts_of(text):
                residuals = read_residuals(inputs.model, part.ids, inputs.layers)
                at = slice(first, first + len(part))
                first += len(part)
                for own, tally in zip(found, tallies, strict=True):
                    stream = residuals[tally.loaded.dictionary.layer]
                    kinds = to_masks(tally.loaded, stream, present[at], special[rows][at, :width], settings.skip_first)
                    own.append((active_features(tally.loaded, stream, present[at]), kinds))
            for own, tally in zip(found, tallies, strict=True):
                events, masks = joined(own)
                kept = tally.add(events, masks, ids[rows, :width], int(text.document[0]))
                decode = inputs.model.tokenizer.decode
                tally.note_contexts(kept, ids[rows, :width], text.lengths.numpy(), decode, CONTEXTS_PER_BLOCK)
        for tally in tallies:
            tally.shuffle(windows, settings.shuffles, (settings.seed, 20, block))
        frames = [_frames(tally, block) for tally in tallies]
    return {table: pd.concat([frame[table] for frame in frames], ignore_index=True) for table in frames[0]}


def _frames(tally: Tally, block: int) -> Frames:
    dictionary = tally.loaded.dictionary
    ids = {"dictionary": dictionary.name, "layer": dictionary.layer, "block": block}
    ranks = [
        {"labels": labels, "positions": positions, "replicate": replicate, "first_rank": first}
        for (labels, positions, replicate), first in tally.first_rank.items()
    ]
    contexts = pd.DataFrame(tally.contexts, columns=["feature_id", "activation", "before", "token", "after"])
    left_out = {f"{name}_positions": count for name, count in tally.left_out.items()}
    positions = {"documents": tally.documents, "positions": int(tally.occurrences.sum()), **left_out}
    frames = {
        "block_pairs": tally.pairs(),
        "block_first_ranks": pd.DataFrame(ranks),
        "block_positions": pd.DataFrame([positions]),
        "feature_contexts": contexts,
    }
    return {name: frame.assign(**ids) for name, frame in frames.items()}


def measure_losses(inputs: Inputs, block: int) -> pd.DataFrame:
    """Returns losses per text and pair of classes, for the run's threshold and those of the sweep."""
    corpus, settings = inputs.corpus, inputs.settings
    windows = corpus.block_windows(block)
    budget = settings.loss_tokens / (int(corpus.block.max()) + 1)
    n_ids = inputs.model.hf.config.get_text_config(decoder=True).vocab_size
    bigrams = Bigrams(corpus.other_texts, n_ids)
    tables, read = [], 0
    counted = inputs.counted(windows).numpy()
    for rows in document_slices(windows):
        if read >= budget:
            break
        text = windows[rows]
        read += text.n_tokens
        surprisal = _surprisal(inputs, text)
        ids = text.ids.numpy()
        scored = counted[rows, : ids.shape[1]][:, :-1] & text.present().numpy()[:, 1:]
        current, following = ids[:, :-1][scored], ids[:, 1:][scored]
        loss = surprisal[:, 1:][scored].astype(np.float64)
        document = np.full(len(loss), int(text.document[0]))
        bigram = bigrams.surprisal(current, following)
        for threshold in sorted({*SWEEP, settings.threshold}):
            function = is_function(corpus.classes["cumulative_share"].to_numpy(), threshold)
            function_ids = corpus.classes["token_id"].to_numpy()[function]
            table = pair_table(current, following, loss, bigram, document, function_ids)
            tables.append(table.assign(threshold=threshold, block=block))
    return pd.concat(tables, ignore_index=True)


def _surprisal(inputs: Inputs, text: Windows) -> NDArray[np.float32]:
    """Surprisal [window, token] of one text, in nats, as wide as its windows."""
    found = np.full(text.ids.shape, np.nan, dtype=np.float32)
    first = 0
    for part in parts_of(text):
        rows = [ids[:n] for ids, n in zip(part.ids.tolist(), part.lengths.tolist(), strict=True)]
        values = inputs.model.surprisal(rows).numpy()
        found[first : first + len(part), : values.shape[1]] = values
        first += len(part)
    return found


def pair_table(
    current: NDArray[np.int64],
    following: NDArray[np.int64],
    loss: NDArray[np.float64],
    bigram: NDArray[np.float64],
    document: NDArray[np.int64],
    function_ids: NDArray[np.int64],
) -> pd.DataFrame:
    """Returns sums per document and pair of classes: of predictions, their losses and bigram losses (in nats).

    The class pair of a prediction is (class of the token it is made at, class of the token that comes next).
    """
    names = np.array([FUNCTION, CONTENT])
    frame = pd.DataFrame(
        {
            "document": document,
            "current_class": names[(~np.isin(current, function_ids)).astype(int)],
            "next_class": names[(~np.isin(following, function_ids)).astype(int)],
            "n": np.ones(len(loss), dtype=np.int64),
            "loss_sum_nats": np.asarray(loss, dtype=np.float64),
            "bigram_sum_nats": np.asarray(bigram, dtype=np.float64),
        }
    )
    return frame.groupby(["document", "current_class", "next_class"], as_index=False).sum()


class Bigrams:
    """A bigram model with Witten–Bell interpolation, counted in texts that are not measured.

    p(b | a) = (c(ab) + T(a) p(b)) / (c(a) + T(a)), T(a) the number of distinct tokens after a; p(b) with one added to every count.
    """

    def __init__(self, texts: Sequence[Sequence[int]], n_ids: int) -> None:
        self.n_ids = n_ids
        joined = [np.asarray(text, dtype=np.int64) for text in texts]
        current = np.concatenate([text[:-1] for text in joined])
        following = np.concatenate([text[1:] for text in joined])
        self._pairs, self._counts = np.unique(current * n_ids + following, return_counts=True)
        self._before = np.bincount(current, minlength=n_ids)
        self._distinct = np.bincount(self._pairs // n_ids, minlength=n_ids)
        counts = np.bincount(np.concatenate(joined), minlength=n_ids) + 1.0
        self._unigram = counts / counts.sum()

    def surprisal(self, current: NDArray[np.int64], following: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns −ln p(following | current) in nats."""
        wanted = current * self.n_ids + following
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        count = np.where(self._pairs[place] == wanted, self._counts[place], 0)
        distinct = self._distinct[current]
        total = self._before[current] + distinct
        interpolated = (count + distinct * self._unigram[following]) / np.maximum(total, 1)
        return -np.log(np.where(total > 0, interpolated, self._unigram[following]))
