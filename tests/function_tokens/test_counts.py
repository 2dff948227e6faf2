"""Counting: equal to brute force, whatever the order of texts, the number of counters and the size of buffers."""

import errno
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from interp.errors import RunError
from probes.function_tokens import counts
from probes.function_tokens.activations import POSITIONS, Masks
from probes.function_tokens.counts import PairCounter, Run, digest, merge

N_FEATURES, N_TEXTS = 40, 60


@pytest.fixture(scope="module")
def texts():
    generator = np.random.default_rng(0)
    found = []
    for document in range(N_TEXTS):
        n = int(generator.integers(1, 200))
        found.append(
            (
                generator.zipf(1.5, n).clip(max=30) - 1,
                generator.integers(0, N_FEATURES, n),
                generator.gamma(2.0, 1.0, n).astype(np.float32),
                np.full(n, document),
            )
        )
    return found


def count(texts, folder: Path, buffer_events: int) -> list[Run]:
    folder.mkdir(exist_ok=True)
    counter = PairCounter(N_FEATURES, folder, buffer_events=buffer_events)
    for text in texts:
        counter.add(*text)
    return list(counter.totals())


def brute_force(texts):
    table = defaultdict(lambda: [0, set(), 0, 0.0])
    for tokens, features, activations, documents in texts:
        for token, feature, activation, document in zip(tokens, features, activations, documents, strict=True):
            entry = table[int(token), int(feature)]
            entry[0] += 1
            entry[1].add(int(document))
            entry[2] += round(float(activation) * 2**20)
            entry[3] = max(entry[3], float(activation))
    return table


@pytest.mark.parametrize("buffer_events", [50, 700, 1 << 20])
def test_equal_to_brute_force_with_and_without_spilling(texts, tmp_path, buffer_events):
    runs = count(texts, tmp_path / "spill", buffer_events)
    assert (len(list((tmp_path / "spill").glob("*.parquet"))) > 0) == (buffer_events < 1 << 20)
    expected = brute_force(texts)
    found = {}
    for run in runs:
        token, feature = run.split(N_FEATURES)
        for row in zip(token, feature, run.count, run.documents, run.sum_fixed, run.maximum, strict=True):
            found[int(row[0]), int(row[1])] = row[2:]
    assert found.keys() == expected.keys()
    for key, (n, documents, mass, maximum) in expected.items():
        assert found[key][0] == n
        assert found[key][1] == len(documents)
        assert found[key][2] == mass
        assert float(found[key][3]) == maximum


def test_pieces_are_sorted_and_no_pair_comes_twice(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(counts, "ROWS_AT_ONCE", 7)
    pairs = np.concatenate([run.pair for run in count(texts, tmp_path / "spill", 60)])
    assert (np.diff(pairs) > 0).all()


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_shards_and_order_change_nothing(texts, tmp_path, shards):
    whole = digest(count(texts, tmp_path / "whole", 1 << 20))
    order = np.random.default_rng(shards).permutation(N_TEXTS)
    parts = [
        iter(count([texts[index] for index in part], tmp_path / str(shard), 100))
        for shard, part in enumerate(np.array_split(order, shards))
    ]
    assert digest(merge(parts)) == whole


def test_another_count_gives_another_digest(texts, tmp_path):
    assert digest(count(texts, tmp_path / "a", 100)) != digest(count(texts[1:], tmp_path / "b", 100))


def test_nothing_counted_is_nothing(tmp_path):
    assert sum(len(run.pair) for run in PairCounter(4, tmp_path).totals()) == 0


def test_a_full_disk_is_one_sentence(texts, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(counts.pq, "write_table", full)
    with pytest.raises(RunError, match=r"is full while counts are spilled there.*TMPDIR"):
        count(texts, tmp_path / "spill", 50)


def test_positions_left_out_by_hand():
    """Six positions: early, plain, special, sink, early and sink, padding."""
    masks = Masks(
        present=np.array([[True, True, True, True, True, False]]),
        early=np.array([[True, False, False, False, True, False]]),
        special=np.array([[False, False, True, False, False, False]]),
        sink=np.array([[False, False, False, True, True, False]]),
    )
    counted = {positions: np.flatnonzero(masks.counted(positions)).tolist() for positions in POSITIONS}
    assert counted == {"kept": [1], "early too": [0, 1], "sinks too": [1, 3], "all": [0, 1, 3, 4]}
