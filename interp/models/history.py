"""Reading for models without a key-value cache: what was read is kept as token ids and read again with what follows.

Recurrent models keep a state that cannot be cropped, and padding inside a batch would run through it. Reading again from
the first token, padded on the right only, is slower and cannot be wrong.
"""

from collections.abc import Sequence


class History:
    """The tokens of one or more rows. Offers what Prefix offers for texts, without keys and values."""

    def __init__(self, ids: list[list[int]]) -> None:
        self.ids = ids

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens read by each row."""
        return [len(row) for row in self.ids]

    def crop(self, lengths: int | Sequence[int]) -> None:
        """Forgets what each row read after its first tokens: one number for all rows, or one for each.

        Raises ValueError when a row is shorter.
        """
        kept = [lengths] * self.n_rows if isinstance(lengths, int) else list(lengths)
        for length, now in zip(kept, self.lengths, strict=True):
            if not 0 <= length <= now:
                raise ValueError(f"cannot crop a row of {now} tokens to {length}")
        self.ids = [row[:length] for row, length in zip(self.ids, kept, strict=True)]

    def select(self, rows: Sequence[int]) -> "History":
        """Returns copies of the given rows."""
        return History([list(self.ids[row]) for row in rows])

    def fork(self, n_rows: int) -> "History":
        """Returns n_rows copies of this single row."""
        if self.n_rows != 1:
            raise ValueError("only a single row can be forked")
        return self.select([0] * n_rows)
