"""What streaming counts save: `python -m benchmarks.function_tokens [folder of a dictionary …]`; all that ship if none is named.

Three ways count the same pairs of tokens and features in the same texts:
  toolkit   forward only to the dictionary's layer, features in column chunks, sorted runs;
  script    what one writes first: TransformerLens' run_with_cache, SAELens' encode, nonzero, and a Python loop that accumulates
            in dictionaries; once caching only the hook that is needed, once all, which is run_with_cache's default.
All count exactly the same or the benchmark stops. Then the counting alone, and the peak memory of counting ever more events
at a million features (drawn at random: encoding them would take days here).
"""

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from interp.models.dictionary import Dictionary, shipped_dictionaries
from interp.models.language import LanguageModel
from interp.models.loading import load
from interp.models.residuals import read_residuals
from interp.models.windows import Windows, cut_windows, tokenize
from interp.prose import news_articles
from probes.function_tokens.bench import document_slices
from probes.function_tokens.counts import PairCounter

MODEL = "smollm2-135m"
N_TEXTS, CONTEXT, SKIP, ROUNDS = 6, 128, 4, 3
WIDE, L0, VOCABULARY = 1 << 20, 32, 49152
TOKENS_PER_TEXT = 512
TOTALS = (200_000, 400_000, 1_000_000)
Counts = dict[tuple[int, int], int]


def main(folders: Sequence[Path]) -> None:
    """Prints processor seconds of all ways, of the counting alone, and peak memory."""
    torch.set_num_threads(1)  # waiting threads would count as work
    model = load(MODEL)
    windows = cut_windows(tokenize(model.tokenizer, news_articles()[:N_TEXTS]), CONTEXT, shortest=SKIP + 2)
    bridge = model.bridge()
    say(f"{windows.n_tokens} tokens, {MODEL} float32, one thread\n")
    say(
        "| layer | way | processor seconds, median (range) | tokens per second | times the toolkit's |\n|---|---|---|---|---|"
    )
    for folder in folders:
        time_ways(model, bridge, Dictionary.from_folder(folder), windows)
    counting_alone()
    memory()


def time_ways(model: LanguageModel, bridge: Any, dictionary: Dictionary, windows: Windows) -> None:
    """Prints a row for each way of counting the pairs of one dictionary."""
    ways: dict[str, Callable[[], Counts]] = {
        "toolkit": lambda: count_by_toolkit(model, dictionary, windows),
        "script, one hook": lambda: count_by_script(bridge, dictionary, windows, dictionary.hook_name),
        "script, all hooks": lambda: count_by_script(bridge, dictionary, windows, None),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        results = []
        for name, way in ways.items():
            started = time.process_time()
            results.append(way())
            seconds[name].append(time.process_time() - started)
        check_equal(results[0], results[1])
        check_equal(results[0], results[2])
    for name, taken in seconds.items():
        middle = median(taken)
        ratio = middle / median(seconds["toolkit"])
        spread = f"{middle:.1f} ({min(taken):.1f}–{max(taken):.1f})"
        say(f"| {dictionary.layer} | {name} | {spread} | {windows.n_tokens / middle:.0f} | {ratio:.1f} |")


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
        found: Counts = {}
        for run in counter.totals():
            token, feature = run.split(dictionary.n_features)
            found.update(zip(zip(token.tolist(), feature.tolist(), strict=True), run.count.tolist(), strict=True))
        return found


@torch.inference_mode()
def count_by_script(bridge: Any, dictionary: Dictionary, windows: Windows, names_filter: str | None) -> Counts:
    """What one writes first."""
    counts: Counts = defaultdict(int)
    sums: dict[tuple[int, int], float] = defaultdict(float)
    documents: dict[tuple[int, int], set[int]] = defaultdict(set)
    for rows in document_slices(windows):
        text = windows[rows]
        _, cache = bridge.run_with_cache(text.ids, names_filter=names_filter)
        activations = dictionary.sae.encode(cache[dictionary.hook_name])
        activations[~text.present(SKIP)] = 0
        for row, position, feature in activations.nonzero().tolist():
            pair = int(text.ids[row, position]), feature
            counts[pair] += 1
            sums[pair] += float(activations[row, position, feature])
            documents[pair].add(int(text.document[0]))
    return counts


def check_equal(first: Counts, second: Counts) -> None:
    """Stops unless both ways counted the same, up to features whose activation is within rounding of the threshold."""
    differing = sum(first.get(pair, 0) != second.get(pair, 0) for pair in first.keys() | second.keys())
    if differing > 1e-3 * len(first):
        raise SystemExit(f"the two ways differ in {differing} of {len(first)} pairs")


def synthetic_text(document: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Events of one text at a million features: Zipf tokens, L0 features each."""
    generator = np.random.default_rng(document)
    tokens = np.minimum(generator.zipf(1.2, TOKENS_PER_TEXT), VOCABULARY) - 1
    features = (WIDE * generator.random((TOKENS_PER_TEXT, L0)) ** 3).astype(np.int64)  # some features far more often
    values = generator.gamma(2.0, 1.0, features.size).astype(np.float32)
    return np.repeat(tokens, L0), features.ravel(), values, np.full(features.size, document)


def counting_alone() -> None:
    """Times the accumulation of the same events by sorted runs and by dictionaries."""
    texts = [synthetic_text(document) for document in range(40)]
    n_events = sum(len(text[0]) for text in texts)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as spill:
        counter = PairCounter(WIDE, Path(spill))
        for text in texts:
            counter.add(*text)
        pairs = sum(len(run.pair) for run in counter.totals())
    ours = time.process_time() - started
    started = time.process_time()
    counts: Counts = defaultdict(int)
    sums: dict[tuple[int, int], float] = defaultdict(float)
    documents: dict[tuple[int, int], set[int]] = defaultdict(set)
    for text in texts:
        for token, feature, value, document in zip(*(column.tolist() for column in text), strict=True):
            counts[token, feature] += 1
            sums[token, feature] += value
            documents[token, feature].add(document)
    script = time.process_time() - started
    if pairs != len(counts):
        raise SystemExit(f"the two ways found {pairs} and {len(counts)} pairs")
    ratio = f"{script / ours:.1f} times"
    say(
        f"\nCounting alone, {n_events} events, {WIDE} features: sorted runs {ours:.2f} s, dictionaries {script:.2f} s ({ratio})."
    )


def memory() -> None:
    """Peak memory of processes of their own that count ever more events."""
    say(f"\n| tokens at {WIDE} features, L0 {L0} | distinct pairs | peak memory, MB |\n|---|---|---|")
    for total in TOTALS:
        found = subprocess.run(
            [sys.executable, "-m", "benchmarks.function_tokens", "count", str(total)],
            capture_output=True,
            text=True,
            check=True,
        )
        pairs, peak = found.stdout.split()
        say(f"| {total:,} | {int(pairs):,} | {int(peak) // 1024} |")


def count_synthetic(total: int) -> None:
    """Counts that many tokens' events and prints distinct pairs and peak memory (kB)."""
    with tempfile.TemporaryDirectory() as spill:
        counter = PairCounter(WIDE, Path(spill))
        for document in range(total // TOKENS_PER_TEXT):
            counter.add(*synthetic_text(document))
        pairs = sum(len(run.pair) for run in counter.totals())
    status = Path("/proc/self/status").read_text(encoding="ascii")  # getrusage would count the parent's peak too
    say(f"{pairs} {status.split('VmHWM:')[1].split()[0]}")


def say(text: str) -> None:
    """Prints at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["count"]:
        count_synthetic(int(sys.argv[2]))
    else:
        main([Path(name) for name in sys.argv[1:]] or shipped_dictionaries(MODEL))
