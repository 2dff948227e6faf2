"""Active features of one dictionary over a block of texts: events, masks of the positions that count, and tallies."""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.models.dictionary.windows import Windows
from probes.function_tokens.counts import PairCounter, Run
from probes.function_tokens.inputs import Loaded

CONTEXT_BEFORE, CONTEXT_AFTER = 12, 4
NEVER = np.iinfo(np.int32).max
POSITIONS = ("kept", "early too", "sinks too", "all")
"""Which positions are counted: as settings say, and with what they leave out."""
Stratum = Literal["block", "document", "position"]
STRATA: tuple[Stratum, ...] = ("block", "document", "position")


class Events(NamedTuple):
    """Active features of one text: row and column of the position, feature, activation."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    feature: NDArray[np.int64]
    activation: NDArray[np.float32]

    def at(self, mask: NDArray[np.bool_]) -> "Events":
        """Returns the events at the positions where the mask [row, column] is True."""
        kept = mask[self.row, self.column]
        return Events._make(values[kept] for values in self)


class Masks(NamedTuple):
    """Positions [row, column] of one text: `present` are read, `special` never counted, the others counted on request."""

    present: NDArray[np.bool_]
    early: NDArray[np.bool_]
    special: NDArray[np.bool_]
    sink: NDArray[np.bool_]

    def counted(self, positions: str) -> NDArray[np.bool_]:
        """Returns the positions that are counted."""
        mask = self.present & ~self.special
        if positions in ("kept", "sinks too"):
            mask = mask & ~self.early
        if positions in ("kept", "early too"):
            mask = mask & ~self.sink
        return mask


def active_features(loaded: Loaded, residuals: Tensor, present: Tensor) -> Events:
    """Returns the events of one text: residuals [row, column, residual], at the present positions."""
    rows, columns = (index.numpy() for index in present.nonzero(as_tuple=True))
    vectors = residuals[present.to(residuals.device)]
    found = list(loaded.dictionary.active(vectors))
    position = np.concatenate([row.cpu().numpy() for row, _, _ in found])
    feature = np.concatenate([feature.cpu().numpy() for _, feature, _ in found])
    activation = np.concatenate([value.cpu().numpy() for _, _, value in found])
    return Events(rows[position], columns[position], feature, activation)


def to_masks(loaded: Loaded, residuals: Tensor, present: Tensor, special: Tensor, skip_first: int) -> Masks:
    """Returns the kinds of position of one text."""
    early = torch.zeros_like(present)
    early[:, :skip_first] = True
    sink = residuals.float().norm(dim=-1).cpu() > loaded.norm_limit
    return Masks(*(mask.numpy() for mask in (present, early & present, special & present, sink & present)))


def joined(parts: list[tuple[Events, Masks]]) -> tuple[Events, Masks]:
    """Returns the events and masks of one text from those of its parts, rows counted through."""
    starts = np.cumsum([0, *(len(masks.present) for _, masks in parts[:-1])])
    moved = [events._replace(row=events.row + first) for (events, _), first in zip(parts, starts, strict=True)]
    events = Events._make(np.concatenate(columns) for columns in zip(*moved, strict=True))
    return events, Masks._make(np.concatenate(kinds) for kinds in zip(*(masks for _, masks in parts), strict=True))


class Tally:
    """One dictionary's counts over the texts of a block."""

    def __init__(self, loaded: Loaded, rank: NDArray[np.int32], spill: Path, sample: NDArray[np.int64]) -> None:
        self.loaded = loaded
        self.n_features = loaded.dictionary.n_features
        self._rank = rank
        self._sample = sample
        self._counter = PairCounter(self.n_features, spill)
        self.first_rank: dict[tuple[str, str, int], NDArray[np.int32]] = {}
        """Per feature the smallest frequency rank among the tokens it was active at, by (labels, positions, replicate)."""
        self.occurrences = np.zeros(len(rank), dtype=np.int64)
        self.documents = 0
        self._kept: list[Events] = []
        self._masks: list[NDArray[np.bool_]] = []
        self.left_out = {"early": 0, "special": 0, "sink": 0}
        self.contexts: list[tuple[int, float, str, str, str]] = []

    def add(self, events: Events, masks: Masks, ids: NDArray[np.int64], document: int) -> Events:
        """Counts one text; returns the events that were counted."""
        kept_mask = masks.counted("kept")
        kept = events.at(kept_mask)
        tokens = ids[kept.row, kept.column]
        self._counter.add(tokens, kept.feature, kept.activation, np.full(len(tokens), document))
        self.occurrences += np.bincount(ids[kept_mask], minlength=len(self._rank))
        self.documents += 1
        for name in self.left_out:
            self.left_out[name] += int((getattr(masks, name) & masks.present).sum())
        for positions in POSITIONS:
            self._touch(("observed", positions, 0), events.at(masks.counted(positions)), ids)
        self._kept.append(kept._replace(row=kept.row + sum(len(mask) for mask in self._masks)))
        self._masks.append(kept_mask)
        return kept

    def shuffle(self, windows: Windows, replicates: int, key: tuple[int, ...]) -> None:
        """Counts the block again with the labels of its counted positions dealt out anew, in every stratum, and forgets it."""
        mask = torch.zeros(windows.ids.shape, dtype=torch.bool)
        row = 0
        for part in self._masks:
            mask[row : row + len(part), : part.shape[1]] = torch.from_numpy(part)
            row += len(part)
        kept = Events._make(np.concatenate(columns) for columns in zip(*self._kept, strict=True))
        for index, stratum in enumerate(STRATA):
            for replicate in range(replicates):
                generator = np.random.default_rng([*key, index, replicate])
                labels = dealt_anew(windows, mask, stratum, generator).numpy()
                self._touch((stratum, "kept", replicate), kept, labels)
        self._kept, self._masks = [], []

    def _touch(self, key: tuple[str, str, int], events: Events, labels: NDArray[np.int64]) -> None:
        first = self.first_rank.setdefault(key, np.full(self.n_features, NEVER, dtype=np.int32))
        np.minimum.at(first, events.feature, self._rank[labels[events.row, events.column]])

    def note_contexts(
        self, kept: Events, ids: NDArray[np.int64], lengths: NDArray[np.int64], decode: object, per_feature: int
    ) -> None:
        """Keeps the highest activations of the sampled features, with the words around them."""
        wanted = np.flatnonzero(np.isin(kept.feature, self._sample))
        for index in wanted[np.argsort(-kept.activation[wanted], kind="stable")]:
            row, column, feature = int(kept.row[index]), int(kept.column[index]), int(kept.feature[index])
            before = ids[row, max(0, column - CONTEXT_BEFORE) : column]
            after = ids[row, column + 1 : min(int(lengths[row]), column + 1 + CONTEXT_AFTER)]
            words = [decode(part.tolist()) for part in (before, ids[row, column : column + 1], after)]  # type: ignore[operator]
            self.contexts.append((feature, float(kept.activation[index]), *words))
        self.contexts.sort(key=lambda context: (context[0], -context[1]))
        rank: dict[int, int] = {}
        best = []
        for context in self.contexts:
            rank[context[0]] = rank.get(context[0], 0) + 1
            if rank[context[0]] <= per_feature:
                best.append(context)
        self.contexts = best

    def pairs(self) -> pd.DataFrame:
        """Returns one row per token that was counted, with its features as lists."""
        run = _joined(list(self._counter.totals()))
        token, feature = run.split(self.n_features)
        tokens = np.flatnonzero(self.occurrences)
        ends = np.searchsorted(token, tokens, side="right")
        begins = np.searchsorted(token, tokens, side="left")
        slices = [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]
        return pd.DataFrame(
            {
                "token_id": tokens,
                "occurrences": self.occurrences[tokens],
                "feature_ids": [feature[part].astype(np.int32) for part in slices],
                "counts": [run.count[part].astype(np.int32) for part in slices],
                "document_counts": [run.documents[part].astype(np.int32) for part in slices],
                "activation_sums_fixed": [run.sum_fixed[part] for part in slices],
                "activation_maxima": [run.maximum[part] for part in slices],
            }
        )


def _joined(runs: list[Run]) -> Run:
    return Run._make(np.concatenate(parts) for parts in zip(*runs, strict=True))


def dealt_anew(windows: Windows, kept: Tensor, stratum: Stratum, generator: np.random.Generator) -> Tensor:
    """Returns the windows' ids with those at `kept` positions dealt out anew: among all of them, among those of the same text,
    or among those at the same position of their windows.
    """
    rows, columns = (index.numpy() for index in kept.nonzero(as_tuple=True))
    strata = {"block": np.zeros_like(rows), "document": windows.document[rows], "position": columns}[stratum]
    home = torch.from_numpy(np.argsort(strata, kind="stable"))
    dealt = torch.from_numpy(np.lexsort((generator.random(len(rows)), strata)))
    ids, values = windows.ids.clone(), windows.ids[kept]
    values[home] = windows.ids[kept][dealt]
    ids[kept] = values
    return ids
