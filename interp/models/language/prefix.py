"""What a model has read once, to be continued many times: a Prefix keeps keys and values, a History only the tokens.

prefix = model.prefix(haystack)         # read once
prefix.crop(400)                        # forget what follows token 400
model.extend(prefix, [needle])          # read on, in place
branches = prefix.fork(30)              # thirty continuations that share these keys and values

Layers that keep a state in place of keys cannot forget the last tokens alone: rows leave their states at the end of every prompt
that they read, and a crop goes back to the last of them; what lies between it and the cut is read again with what follows.

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

from interp.errors import UserError
from interp.models.language.cache import RowCache
from interp.models.language.states import CacheLayout, RowStates, rows_of, with_rows


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
        self.unread = [0] * len(ids)
        """How many of each row's last tokens have to be read again: behind the last state kept before a crop."""
        self.read_under: list[tuple[object, ...]] = []
        """Which edits were open (and in which phase, where one goes by it) when rows were read whose layers keep states."""
        self._ends: list[dict[int, RowStates]] = [{} for _ in ids]
        """For each row, its layers' states by the number of tokens read when they were left."""
        self._branches: weakref.WeakSet[Prefix] = weakref.WeakSet()
        self._trunk: Prefix | None = None

    @classmethod
    def empty(cls, layers: int | CacheLayout, n_rows: int, n_tokens: int = 0) -> "Prefix":
        """Returns rows that have read nothing, with room for n_tokens each; a number stands for that many layers of keys."""
        layout = CacheLayout.of_keys(layers) if isinstance(layers, int) else layers
        cache = RowCache(layout, [0] * n_rows)
        cache.reserve(n_tokens)
        return cls(cache, [[] for _ in range(n_rows)])

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens read by each row."""
        return [read + unread for read, unread in zip(self.cache.lengths, self.unread, strict=True)]

    def crop(self, lengths: int | Sequence[int]) -> None:
        """Forgets what each row read after its first tokens: one number for all rows, or one for each.

        Raises ValueError when a row is shorter, when the cut lies in a shared trunk, or while branches are in use.
        """
        self.check_unshared()
        kept = [lengths] * self.n_rows if isinstance(lengths, int) else list(lengths)
        for length, now in zip(kept, self.lengths, strict=True):
            if not self.cache.trunk_tokens <= length <= now:
                raise ValueError(f"cannot crop a row of {now} tokens, {self.cache.trunk_tokens} shared, to {length}")
        self._go_back(kept)
        if not any(kept):
            self.rotated_for = 0
            self.read_under.clear()
        self.ids = [row[:length] for row, length in zip(self.ids, kept, strict=True)]

    def _go_back(self, kept: list[int]) -> None:
        """Takes the cache back to these lengths, or to the last states kept before them."""
        cache = self.cache
        if not cache.layout.has_states:
            cache.lengths = kept
            return
        if not any(kept):
            cache.states = {}
        for row, length in enumerate(kept):
            if length >= cache.lengths[row]:
                self.unread[row] = length - cache.lengths[row]
                continue
            ends = {at: states for at, states in self._ends[row].items() if at <= length}
            last = max(ends, default=0)
            cache.states = with_rows(cache.states, [row], ends.get(last, {}), self.n_rows)
            cache.lengths[row], self.unread[row], self._ends[row] = last, length - last, ends

    def keep_states(self) -> None:
        """Leaves each row's states where it stands, for a crop to come back to."""
        if self.cache.layout.has_states:
            states = self.cache.states
            for row, length in enumerate(self.cache.lengths):
                self._ends[row][length] = rows_of(states, [row])

    def note_reading(self, under: tuple[object, ...]) -> None:
        """Remembers what was open while rows were read whose layers keep states."""
        if not any(same_edits(under, known) for known in self.read_under):
            self.read_under.append(under)

    def take_unread(self, under: tuple[object, ...]) -> list[list[int]]:
        """Returns the tokens that have to be read again, and forgets that they were read; `under` is what is open now.

        Raises UserError when they were read with other edits open than now: their states would be other ones.
        """
        if any(self.unread) and not all(same_edits(under, known) for known in self.read_under):
            raise UserError(
                "This text was cut between two prompts and its model keeps states in place of keys, so tokens before the cut have to be "
                "read again, and other edits were open when they were read first: cut where a prompt ended, or read it anew."
            )
        again = [row[len(row) - n :] for row, n in zip(self.ids, self.unread, strict=True)]
        self.ids = [row[: len(row) - n] for row, n in zip(self.ids, self.unread, strict=True)]
        self.unread = [0] * self.n_rows
        return again

    def put(self, row: int, source: "Prefix") -> None:
        """Makes one row a copy of a single-row prefix, which may read on afterwards without changing this row.

        Raises ValueError unless the two share the same trunk, or both have none.
        """
        if source.n_rows != 1 or source.cache.trunk is not self.cache.trunk:
            raise ValueError("only a single row of the same trunk, or of none like this one, can be copied into a row")
        self.check_unshared()
        self.cache.put(row, source.cache)
        self._carry_over([row], source, [0])
        self.rotated_for = max(self.rotated_for, source.rotated_for)
        self.ids[row] = list(source.ids[0])

    def take(self, rows: Sequence[int], part: "Prefix") -> None:
        """Makes some rows what a selection of them (`select`) has become."""
        self.cache.take(rows, part.cache)
        for row, ids in zip(rows, part.ids, strict=True):
            self.ids[row] = ids
        self.rotated_for = max(self.rotated_for, part.rotated_for)

    def fork(self, n_rows: int) -> "Prefix":
        """Returns n_rows continuations of this single row; its keys and values are shared, not copied, where the model allows it.

        While a branch lives, this prefix cannot be cropped or extended.
        """
        if self.n_rows != 1 or self.cache.trunk_tokens:
            raise ValueError("only a single row with keys of its own can be forked")
        rows = [0] * n_rows
        if "copies" not in self.cache.layout.limits:
            cache = RowCache(self.cache.layout, self.cache.lengths * n_rows, trunk=self.cache.segments() or None)
            cache.states = rows_of(self.cache.states, rows)
        else:
            cache = self.cache.select(rows)
        branch = Prefix(cache, [list(self.ids[0]) for _ in rows])
        branch._carry_over(range(n_rows), self, rows)
        branch.keep_states()
        self.adopt(branch)
        return branch

    def _carry_over(self, rows: Sequence[int], source: "Prefix", from_rows: Sequence[int]) -> None:
        """Takes over what another prefix knows of rows whose layers keep states."""
        for row, from_row in zip(rows, from_rows, strict=True):
            self.unread[row] = source.unread[from_row]
            # A branch cannot go back before its trunk's end: there are no keys of its own there.
            ends = source._ends[from_row].items()
            self._ends[row] = {at: states for at, states in ends if at >= self.cache.trunk_tokens}
        for under in source.read_under:
            self.note_reading(under)

    def select(self, rows: Sequence[int]) -> "Prefix":
        """Returns a prefix with only the given rows (their own keys copied, a trunk still shared).

        Edits and recordings go by the rows of the batch that they were selected from; copies of a single row are a new batch.
        """
        ids = [list(self.ids[row]) for row in rows]
        if self.n_batch == 1 and len(rows) > 1:
            chosen = Prefix(self.cache.select(rows), ids)
        else:
            chosen = Prefix(self.cache.select(rows), ids, [self.rows[row] for row in rows], self.n_batch)
        chosen._carry_over(range(len(rows)), self, rows)
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


def same_edits(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Whether the very same edits were open, in the same order."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def stack(prefixes: Sequence[Prefix], room: int = 0) -> Prefix:
    """Returns one prefix whose rows are copies of several single-row ones, with room for that many more tokens each.

    Rows may differ in length. Branches of a fork cannot be stacked (ValueError): they are one batch already.
    """
    longest = max(prefix.lengths[0] for prefix in prefixes)
    rows = Prefix.empty(prefixes[0].cache.layout, len(prefixes), longest + room)
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
        self.read_under: tuple[object, ...] = ()
        """Which edits were open when the rows were read."""

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
        chosen = History([list(self.ids[row]) for row in rows], [dict(self.states[row]) for row in rows])
        chosen.read_under = self.read_under
        return chosen

    def fork(self, n_rows: int) -> "History":
        """Returns n_rows copies of this single row."""
        if self.n_rows != 1:
            raise ValueError("only a single row can be forked")
        return self.select([0] * n_rows)
