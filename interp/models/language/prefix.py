"""What a model has read once, to be continued many times: a Prefix keeps keys and values, a History only the tokens.

prefix = model.prefix(haystack)         # read once
prefix.crop(400)                        # forget what follows token 400
model.extend(prefix, [needle])          # read on, in place
branches = prefix.fork(30)              # thirty continuations that share these keys and values

Models without a key-value cache have a History: token ids are kept, and read again with what follows. Models whose state can
be handed back exactly (the toolkit's LSTM) leave it at the end of everything they read: a row then goes on from the last
state kept within it, so reading on costs the new tokens alone, and a crop goes back to the last state kept before the cut.
Mamba, RWKV and others of transformers' recurrent models read again from the first token, padded on the right only: their
states are updated in place, and padding inside a batch would run through them. That is slower and cannot be wrong.
"""

import weakref
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language.cache import RowCache


class Prefix:
    """The tokens of one or more rows and their keys and values. It grows in place as the model reads on (`extend`)."""

    def __init__(
        self, cache: RowCache, ids: list[list[int]], rows: list[int] | None = None, n_batch: int | None = None
    ) -> None:
        self.cache = cache
        self.ids = ids
        """Every row's tokens from position 0 on."""
        self.rows = list(range(len(ids))) if rows is None else rows
        """Which row of the batch it was selected from each row is; edits and recordings go by these."""
        self.n_batch = len(ids) if n_batch is None else n_batch
        """Number of rows of that batch."""
        self.rotated_for = 0
        """The longest text any of these keys was rotated for: some models rotate long texts otherwise."""
        self._branches: weakref.WeakSet[Prefix] = weakref.WeakSet()
        self._trunk: Prefix | None = None

    @classmethod
    def empty(cls, n_layers: int, n_rows: int, n_tokens: int = 0) -> "Prefix":
        """Returns rows that have read nothing, with room for n_tokens each."""
        cache = RowCache(n_layers, [0] * n_rows)
        cache.reserve(n_tokens)
        return cls(cache, [[] for _ in range(n_rows)])

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens read by each row."""
        return list(self.cache.lengths)

    def crop(self, lengths: int | Sequence[int]) -> None:
        """Forgets what each row read after its first tokens: one number for all rows, or one for each.

        Raises ValueError when a row is shorter, when the cut lies in a shared trunk, or while branches are in use.
        """
        self.check_unshared()
        kept = [lengths] * self.n_rows if isinstance(lengths, int) else list(lengths)
        for length, now in zip(kept, self.lengths, strict=True):
            if not self.cache.trunk_tokens <= length <= now:
                raise ValueError(f"cannot crop a row of {now} tokens, {self.cache.trunk_tokens} shared, to {length}")
        self.cache.lengths = kept
        if not any(kept):
            self.rotated_for = 0
        self.ids = [row[:length] for row, length in zip(self.ids, kept, strict=True)]

    def put(self, row: int, source: "Prefix") -> None:
        """Makes one row a copy of a single-row prefix, which may read on afterwards without changing this row.

        Raises ValueError unless the two share the same trunk, or both have none.
        """
        if source.n_rows != 1 or source.cache.trunk is not self.cache.trunk:
            raise ValueError("only a single row of the same trunk, or of none like this one, can be copied into a row")
        self.check_unshared()
        self.cache.put(row, source.cache)
        self.rotated_for = max(self.rotated_for, source.rotated_for)
        self.ids[row] = list(source.ids[0])

    def fork(self, n_rows: int) -> "Prefix":
        """Returns n_rows continuations of this single row; its keys and values are shared, not copied.

        While a branch lives, this prefix cannot be cropped or extended.
        """
        if self.n_rows != 1 or self.cache.trunk_tokens:
            raise ValueError("only a single row with keys of its own can be forked")
        cache = RowCache(len(self.cache.layers), self.lengths * n_rows, trunk=self.cache.segments() or None)
        branch = Prefix(cache, [list(self.ids[0]) for _ in range(n_rows)])
        self.adopt(branch)
        return branch

    def select(self, rows: Sequence[int]) -> "Prefix":
        """Returns a prefix with only the given rows (their own keys copied, a trunk still shared).

        Edits and recordings go by the rows of the batch that they were selected from; copies of a single row are a new batch.
        """
        ids = [list(self.ids[row]) for row in rows]
        if self.n_batch == 1 and len(rows) > 1:
            chosen = Prefix(self.cache.select(rows), ids)
        else:
            chosen = Prefix(self.cache.select(rows), ids, [self.rows[row] for row in rows], self.n_batch)
        if self._trunk is not None:
            self._trunk.adopt(chosen)
        chosen.rotated_for = self.rotated_for
        return chosen

    def adopt(self, branch: "Prefix") -> None:
        """Notes that a branch reads this prefix's keys."""
        branch.rotated_for = self.rotated_for
        branch._trunk = self
        self._branches.add(branch)

    def check_unshared(self) -> None:
        """Raises ValueError while branches read this prefix's keys: changing them would change the branches."""
        if len(self._branches):
            raise ValueError("branches of this prefix are in use: drop them before cropping or extending it")


def stack(prefixes: Sequence[Prefix], room: int = 0) -> Prefix:
    """Returns one prefix whose rows are copies of several single-row ones, with room for that many more tokens each.

    Rows may differ in length. Branches of a fork cannot be stacked (ValueError): they are one batch already.
    """
    longest = max(prefix.lengths[0] for prefix in prefixes)
    rows = Prefix.empty(len(prefixes[0].cache.layers), len(prefixes), longest + room)
    for row, prefix in enumerate(prefixes):
        rows.put(row, prefix)
    return rows


State = Float[Tensor, "hidden_or_cell layer state"]
"""What a recurrent model knows of one row."""


class History:
    """The tokens of one or more rows. Offers what Prefix offers for texts, without keys and values."""

    def __init__(self, ids: list[list[int]], states: list[dict[int, State]] | None = None) -> None:
        self.ids = ids
        self.states: list[dict[int, State]] = [{} for _ in ids] if states is None else states
        """For each row, states by the number of tokens read when they were left, in the order of that number."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens read by each row."""
        return [len(row) for row in self.ids]

    @property
    def state_lengths(self) -> list[int]:
        """How many of each row's tokens its last state knows; the others are read again with what follows."""
        return [next(reversed(states), 0) for states in self.states]

    def last_states(self) -> Float[Tensor, "hidden_or_cell layer row state"] | None:
        """Returns each row's last state, zeros for a row without one; None when no row has one."""
        known = next((state for states in self.states for state in states.values()), None)
        if known is None:
            return None
        nothing = torch.zeros_like(known)
        return torch.stack([states[next(reversed(states))] if states else nothing for states in self.states], dim=2)

    def keep(self, states: Float[Tensor, "hidden_or_cell layer row state"]) -> None:
        """Keeps the states that the rows' ends left behind."""
        for row, length in enumerate(self.lengths):
            self.states[row][length] = states[:, :, row]

    def crop(self, lengths: int | Sequence[int]) -> None:
        """Forgets what each row read after its first tokens: one number for all rows, or one for each.

        Raises ValueError when a row is shorter.
        """
        kept = [lengths] * self.n_rows if isinstance(lengths, int) else list(lengths)
        for length, now in zip(kept, self.lengths, strict=True):
            if not 0 <= length <= now:
                raise ValueError(f"cannot crop a row of {now} tokens to {length}")
        self.ids = [row[:length] for row, length in zip(self.ids, kept, strict=True)]
        self.states = [
            {after: state for after, state in states.items() if after <= length}
            for states, length in zip(self.states, kept, strict=True)
        ]

    def select(self, rows: Sequence[int]) -> "History":
        """Returns copies of the given rows."""
        return History([list(self.ids[row]) for row in rows], [dict(self.states[row]) for row in rows])

    def fork(self, n_rows: int) -> "History":
        """Returns n_rows copies of this single row."""
        if self.n_rows != 1:
            raise ValueError("only a single row can be forked")
        return self.select([0] * n_rows)
