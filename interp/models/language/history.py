"""Reading for models without a key-value cache: token ids are kept, and read again with what follows.

Models whose state can be handed back exactly (the toolkit's LSTM) leave it at the end of everything they read: a row then
goes on from the last state kept within it, so reading on costs the new tokens alone, and a crop goes back to the last state
kept before the cut. Mamba, RWKV and others of transformers' recurrent models read again from the first token, padded on the
right only: their states are updated in place, and padding inside a batch would run through them. That is slower and cannot
be wrong.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

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
