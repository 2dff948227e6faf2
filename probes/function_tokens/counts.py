"""Exact counts of (token, feature) pairs in bounded memory: sorted runs, spilled to parquet, merged in one pass.

A pair is one int64, token_id · n_features + feature_id. What was added is sorted and added up when a buffer is full; a full
run goes to disk. Counts are integers and activations are added up as multiples of 2⁻²⁰, so the result does not depend on
the order of texts nor on how they were divided among counters.
"""

import errno
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from interp.errors import RunError

FIXED_POINT = 2.0**20
"""Activations are rounded to multiples of its inverse, so that adding them up is exact and order does not matter."""
BUFFER_EVENTS = 1 << 21
ROWS_AT_ONCE = 1 << 16
"""Rows of each run held while merging."""


class Run(NamedTuple):
    """Sorted distinct pairs with what was counted of each."""

    pair: NDArray[np.int64]
    count: NDArray[np.int64]
    documents: NDArray[np.int64]
    sum_fixed: NDArray[np.int64]
    maximum: NDArray[np.float32]

    @property
    def activation_sum(self) -> NDArray[np.float64]:
        """Sums of activations."""
        return self.sum_fixed / FIXED_POINT

    def split(self, n_features: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns token ids and feature ids."""
        token, feature = np.divmod(self.pair, n_features)
        return token, feature


EMPTY = Run._make([*[np.empty(0, dtype=np.int64)] * 4, np.empty(0, dtype=np.float32)])


def add_up(runs: Iterable[Run]) -> Run:
    """Returns one run with the totals of several."""
    columns = [np.concatenate(parts) for parts in zip(*runs, strict=True)]
    if not columns or not len(columns[0]):
        return EMPTY
    order = np.argsort(columns[0], kind="stable")
    pair = columns[0][order]
    first = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]]))
    totals = [np.add.reduceat(column[order], first) for column in columns[1:4]]
    return Run._make([pair[first], *totals, np.maximum.reduceat(columns[4][order], first)])


class PairCounter:
    """Counts pairs; `add` gets the events of whole documents, so that each document is counted once per pair."""

    def __init__(self, n_features: int, folder: Path, *, buffer_events: int = BUFFER_EVENTS) -> None:
        self.n_features = n_features
        self._folder = folder
        self._buffer_events = buffer_events
        self._fresh: list[Run] = []
        self._n_fresh = 0
        self._kept = EMPTY
        self._spilled: list[Path] = []

    def add(
        self,
        token_ids: NDArray[np.int64],
        feature_ids: NDArray[np.int64],
        activations: NDArray[np.float32],
        documents: NDArray[np.int64],
    ) -> None:
        """Counts events: one feature active at one position each. No document may come in two calls."""
        if not len(token_ids):
            return
        pair = token_ids * self.n_features + feature_ids
        order = np.lexsort((documents, pair))
        pair, documents = pair[order], documents[order]
        first = np.concatenate([[True], (pair[1:] != pair[:-1]) | (documents[1:] != documents[:-1])])
        fixed = np.round(activations[order].astype(np.float64) * FIXED_POINT).astype(np.int64)
        ones = np.ones(len(pair), dtype=np.int64)
        self._fresh.append(add_up([Run(pair, ones, first.astype(np.int64), fixed, activations[order])]))
        self._n_fresh += len(self._fresh[-1].pair)
        if self._n_fresh >= self._buffer_events:
            self._settle()

    def _settle(self) -> None:
        """Adds what is fresh to what is kept, and spills what is kept when it has grown as long as the buffer."""
        self._kept = add_up([self._kept, *self._fresh])
        self._fresh, self._n_fresh = [], 0
        if len(self._kept.pair) >= self._buffer_events:
            self._spilled.append(write_run(self._kept, self._folder / f"run_{len(self._spilled):05d}.parquet"))
            self._kept = EMPTY

    def totals(self) -> Iterator[Run]:
        """Yields the totals, sorted by pair, in pieces; everything added so far is in them."""
        self._settle()
        yield from merge([*(read_run(path) for path in self._spilled), iter([self._kept])])


def write_run(run: Run, path: Path) -> Path:
    """Writes a sorted run.

    Raises RunError when the disk is full.
    """
    try:
        pq.write_table(pa.table(run._asdict()), path, row_group_size=ROWS_AT_ONCE)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"The disk that holds {path.parent} is full while counts are spilled there: make room, or set TMPDIR to a folder "
                "with room, and type the same command again."
            ) from error
        raise
    return path


def read_run(path: Path) -> Iterator[Run]:
    """Yields a written run in pieces."""
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, use_threads=False):
            yield Run._make(batch.column(name).to_numpy() for name in Run._fields)


def merge(runs: Iterable[Iterator[Run]]) -> Iterator[Run]:
    """Yields the totals of sorted runs, sorted, holding one piece of each run at a time."""
    waiting = list(runs)
    heads = [next(run, EMPTY) for run in waiting]
    while any(len(head.pair) for head in heads):
        # Whatever comes later in a run is above the last pair of its piece in hand.
        safe = min(head.pair[-1] for head in heads if len(head.pair))
        taken = [int(np.searchsorted(head.pair, safe, side="right")) for head in heads]
        yield add_up([Run._make(column[:n] for column in head) for head, n in zip(heads, taken, strict=True)])
        heads = [
            Run._make(column[n:] for column in head) if n < len(head.pair) else next(run, EMPTY) if n else head
            for head, n, run in zip(heads, taken, waiting, strict=True)
        ]


def digest(runs: Iterable[Run]) -> str:
    """Returns a sha256 over all totals in order: equal for equal counts, however they were counted."""
    sha256 = hashlib.sha256()
    for run in runs:
        rows = np.stack([*run[:4], run.maximum.view(np.int32).astype(np.int64)], axis=1)
        sha256.update(np.ascontiguousarray(rows).tobytes())
    return sha256.hexdigest()
