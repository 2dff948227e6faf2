"""What streaming counts save: `python -m benchmarks function_tokens`.

Three ways count the same pairs of tokens and features in the same texts, for each dictionary that ships:
  toolkit   forward only to the dictionary's layer, features in column chunks, sorted runs;
  script    TransformerLens and SAELens used well: run_with_cache that stops at the layer, encode, nonzero, and numpy's unique;
  obvious   what one writes first: run_with_cache of the one hook through all layers, and a Python loop over the events.
Then the counting alone, and the toolkit's cost by features (dictionaries drawn at random), by tokens of text, and by tokens of
drawn events at a million features (encoding so many would take days here).
"""

import copy
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import norm

from benchmarks.tables import Difference, Results, compare, grow, results
from interp.models.dictionary.dictionary import Dictionary, shipped_dictionaries
from interp.models.dictionary.windows import Windows, cut_windows, tokenize
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import read_residuals
from interp.models.loading.language import load
from interp.stimuli.prose import news_articles
from probes.function_tokens.counts import PairCounter
from probes.function_tokens.inputs import document_slices

NAME, MODEL = "function_tokens", "smollm2-135m"
CONTEXT, SKIP, TOKENS_PER_TEXT = 128, 4, 512
WIDE, L0, VOCABULARY = 1 << 20, 32, 49152
TOLERANCE = 1e-3
"""Share of pairs: a feature may be within rounding of its threshold."""
Counts = dict[tuple[int, int], int]


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    n_texts: int
    n_dictionaries: int
    repetitions: int
    texts_counted: int
    features: tuple[int, ...]
    vectors: int
    texts: tuple[int, ...]
    drawn_tokens: tuple[int, ...]
    wide: int
    repetitions_of_growth: int


FULL = Sizes(
    2, 3, 2, 40, (1 << 14, 1 << 16, 1 << 18, 1 << 20), 256, (1, 2, 4, 8), (50_000, 100_000, 200_000, 400_000), WIDE, 3
)
QUICK = Sizes(1, 1, 1, 2, (1 << 10, 1 << 11), 64, (1, 2), (1024, 2048), 1 << 12, 1)


def run(sizes: Sizes) -> Results:
    """Returns the seconds of all ways, of the counting alone, and growth."""
    model = load(MODEL)
    folders = shipped_dictionaries(MODEL)[: sizes.n_dictionaries]
    dictionaries = [Dictionary.from_folder(folder) for folder in folders]
    windows, bridge = windows_of(model, sizes.n_texts), model.bridge()
    bridge(torch.tensor([[1] * 64]))  # warm up
    comparison = [row for one in dictionaries for row in counting(model, bridge, one, windows, sizes.repetitions)]
    del bridge
    comparison += counting_alone(sizes)
    return results(comparison, growth(model, dictionaries[0], sizes))


def windows_of(model: LanguageModel, n_texts: int) -> Windows:
    """The first texts, cut."""
    return cut_windows(tokenize(model.tokenizer, news_articles()[:n_texts]), CONTEXT, shortest=SKIP + 2)


def counting(
    model: LanguageModel, bridge: Any, dictionary: Dictionary, windows: Windows, repetitions: int
) -> list[dict]:
    """Rows of each way of counting the pairs of one dictionary."""
    ways: dict[tuple[str, str], Callable[[], Counts]] = {
        ("toolkit", "to the layer only, sorted runs"): lambda: count_by_toolkit(model, dictionary, windows),
        ("baseline", "run_with_cache to the layer, encode, numpy's unique"): lambda: count_by_script(
            bridge, dictionary, windows
        ),
        ("obvious", "run_with_cache through all layers, a Python loop"): lambda: count_by_loop(
            bridge, dictionary, windows
        ),
    }
    case = f"layer {dictionary.layer}, {windows.n_tokens:,} tokens"
    labels = {"model": MODEL, "benchmark": NAME, "kind": "speed", "case": case, "amount_name": "tokens counted"}
    return compare(labels, ways, repetitions, counts_apart, lambda *_: windows.n_tokens)


def count_by_toolkit(model: LanguageModel, dictionary: Dictionary, windows: Windows) -> Counts:
    """The way of the probe."""
    with tempfile.TemporaryDirectory() as spill:
        counter = PairCounter(dictionary.n_features, Path(spill))
        for rows in document_slices(windows):
            text = windows[rows]
            kept = text.present(SKIP)
            vectors = read_residuals(model, text.ids, [dictionary.layer])[dictionary.layer][kept]
            tokens = text.ids[kept].numpy()
            for position, feature, value in dictionary.active(vectors):
                at = tokens[position.numpy()]
                counter.add(at, feature.numpy(), value.numpy(), np.full(len(at), text.document[0]))
        return counts_of(counter)


def counts_of(counter: PairCounter) -> Counts:
    """How often each pair was counted."""
    found: Counts = {}
    for run in counter.totals():
        token, feature = run.split(counter.n_features)
        found.update(zip(zip(token.tolist(), feature.tolist(), strict=True), run.count.tolist(), strict=True))
    return found


@torch.inference_mode()
def count_by_script(bridge: Any, dictionary: Dictionary, windows: Windows) -> Counts:
    """TransformerLens and SAELens used well; sums of activations and documents of each pair too, as the toolkit has them."""
    pairs, values, documents = [], [], []
    for rows in document_slices(windows):
        text = windows[rows]
        _, cache = bridge.run_with_cache(
            text.ids, names_filter=dictionary.hook_name, stop_at_layer=dictionary.layer + 1
        )
        activations = dictionary.sae.encode(cache[dictionary.hook_name])
        activations[~text.present(SKIP)] = 0
        row, position, feature = activations.nonzero(as_tuple=True)
        pairs.append((text.ids[row, position] * dictionary.n_features + feature).numpy())
        values.append(activations[row, position, feature].numpy())
        documents.append(np.full(len(row), text.document[0]))
    pair, at, counts = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    np.bincount(at, weights=np.concatenate(values))
    document = np.concatenate(documents)
    np.unique(at * (document.max() + 1) + document)
    token, feature = np.divmod(pair, dictionary.n_features)
    return dict(zip(zip(token.tolist(), feature.tolist(), strict=True), counts.tolist(), strict=True))


@torch.inference_mode()
def count_by_loop(bridge: Any, dictionary: Dictionary, windows: Windows) -> Counts:
    """What one writes first."""
    counts: Counts = defaultdict(int)
    sums: dict[tuple[int, int], float] = defaultdict(float)
    documents: dict[tuple[int, int], set[int]] = defaultdict(set)
    for rows in document_slices(windows):
        text = windows[rows]
        _, cache = bridge.run_with_cache(text.ids, names_filter=dictionary.hook_name)
        activations = dictionary.sae.encode(cache[dictionary.hook_name])
        activations[~text.present(SKIP)] = 0
        for row, position, feature in activations.nonzero().tolist():
            pair = int(text.ids[row, position]), feature
            counts[pair] += 1
            sums[pair] += float(activations[row, position, feature])
            documents[pair].add(int(text.document[0]))
    return counts


def counts_apart(first: Counts, other: Counts) -> Difference:
    """The share of pairs that were counted otherwise."""
    differing = sum(first.get(pair, 0) != other.get(pair, 0) for pair in first.keys() | other.keys())
    return Difference("share of pairs counted otherwise", differing / len(first), len(first), TOLERANCE)


# ---------------------------------------------------------------------- counting alone


def drawn_text(document: int, wide: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Events of one text at so many features: Zipf tokens, L0 features each."""
    generator = np.random.default_rng(document)
    tokens = np.minimum(generator.zipf(1.2, TOKENS_PER_TEXT), VOCABULARY) - 1
    features = (wide * generator.random((TOKENS_PER_TEXT, L0)) ** 3).astype(np.int64)  # some features far more often
    values = generator.gamma(2.0, 1.0, features.size).astype(np.float32)
    return np.repeat(tokens, L0), features.ravel(), values, np.full(features.size, document)


def counting_alone(sizes: Sizes) -> list[dict]:
    """Rows of the accumulation of the same drawn events by sorted runs and by dictionaries."""
    texts = [drawn_text(document, sizes.wide) for document in range(sizes.texts_counted)]
    n_events = sum(len(text[0]) for text in texts)

    def sorted_runs() -> list[Any]:
        with tempfile.TemporaryDirectory() as spill:
            counter = PairCounter(sizes.wide, Path(spill))
            for text in texts:
                counter.add(*text)
            return list(counter.totals())

    def by_unique() -> Counts:
        token, feature, value, document = (np.concatenate(column) for column in zip(*texts, strict=True))
        pair, at, counts = np.unique(token * sizes.wide + feature, return_inverse=True, return_counts=True)
        np.bincount(at, weights=value)
        np.unique(at * len(texts) + document)
        token, feature = np.divmod(pair, sizes.wide)
        return dict(zip(zip(token.tolist(), feature.tolist(), strict=True), counts.tolist(), strict=True))

    def by_dictionaries() -> Counts:
        counts: Counts = defaultdict(int)
        sums: dict[tuple[int, int], float] = defaultdict(float)
        documents: dict[tuple[int, int], set[int]] = defaultdict(set)
        for text in texts:
            for token, feature, value, document in zip(*(column.tolist() for column in text), strict=True):
                counts[token, feature] += 1
                sums[token, feature] += value
                documents[token, feature].add(document)
        return counts

    def runs_apart(runs: list[Any], counts: Counts) -> Difference:
        ours: Counts = {}
        for run in runs:
            token, feature = run.split(sizes.wide)
            ours.update(zip(zip(token.tolist(), feature.tolist(), strict=True), run.count.tolist(), strict=True))
        return counts_apart(ours, counts)

    case = f"counting alone, {n_events:,} events, {sizes.wide:,} features"
    return compare(
        {"model": "none", "benchmark": NAME, "kind": "speed", "case": case, "amount_name": "events counted"},
        {
            ("toolkit", "sorted runs"): sorted_runs,
            ("baseline", "all events in memory, numpy's unique"): by_unique,
            ("obvious", "Python dictionaries"): by_dictionaries,
        },
        sizes.repetitions,
        runs_apart,
        lambda *_: n_events,
    )


# ---------------------------------------------------------------------- growth


def growth(model: LanguageModel, dictionary: Dictionary, sizes: Sizes) -> list[dict]:
    """Rows by features, by tokens of text, and by tokens of drawn events."""
    labels = {"model": MODEL, "benchmark": NAME}
    repetitions = sizes.repetitions_of_growth
    tokens = {windows_of(model, n).n_tokens: n for n in sizes.texts}

    def by_features(n: int):
        random = random_dictionary(dictionary, n)
        width = dictionary.sae.cfg.d_in
        vectors = torch.nn.functional.normalize(
            torch.randn(sizes.vectors, width, generator=torch.Generator().manual_seed(1)), dim=1
        )
        return lambda: count_vectors(random, vectors)

    def by_tokens(n: int):
        windows = windows_of(model, tokens[n])
        return lambda: count_by_toolkit(model, dictionary, windows)

    return [
        *grow({**labels, "curve": "features"}, sizes.features, repetitions, by_features),
        *grow({**labels, "curve": "tokens"}, list(tokens), repetitions, by_tokens),
        *grow({**labels, "curve": "drawn_tokens"}, sizes.drawn_tokens, 1, lambda n: lambda: count_drawn(n, sizes.wide)),
    ]


def random_dictionary(shipped: Dictionary, n_features: int) -> Dictionary:
    """A JumpReLU dictionary with normal weights and thresholds that let L0 features of a vector of length 1 through."""
    sae = copy.deepcopy(shipped.sae)
    sae.cfg.d_sae = n_features
    weights = torch.randn(sae.cfg.d_in, n_features, generator=torch.Generator().manual_seed(0))
    sae.W_enc, sae.W_dec = torch.nn.Parameter(weights), torch.nn.Parameter(weights.T)  # the same memory
    sae.b_enc = torch.nn.Parameter(torch.zeros(n_features))
    sae.threshold = torch.nn.Parameter(torch.full((n_features,), float(norm.isf(L0 / n_features))))
    return Dictionary(sae, f"random/{n_features}", shipped.hook_name, shipped.model_name)


def count_vectors(dictionary: Dictionary, vectors: torch.Tensor) -> int:
    """Encodes and counts residual vectors, each the vector of a token of its own; returns how many features were active."""
    with tempfile.TemporaryDirectory() as spill:
        counter = PairCounter(dictionary.n_features, Path(spill))
        for row, feature, value in dictionary.active(vectors):
            counter.add(row.numpy(), feature.numpy(), value.numpy(), np.zeros(len(row), dtype=np.int64))
        return int(sum(run.count.sum() for run in counter.totals()))


def count_drawn(n_tokens: int, wide: int) -> int:
    """Draws and counts that many tokens' events; returns how many distinct pairs there were."""
    with tempfile.TemporaryDirectory() as spill:
        counter = PairCounter(wide, Path(spill))
        for document in range(n_tokens // TOKENS_PER_TEXT):
            counter.add(*drawn_text(document, wide))
        return sum(len(run.pair) for run in counter.totals())
