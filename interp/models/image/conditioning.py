"""The conditioning that a text-to-image model's text encoders pass to its denoiser, and edits of it.

Rows are texts. Every edit returns a new conditioning, changes the same positions of all rows, and leaves the pooled vector
unchanged, unless `with_pooled` replaces it. No model is needed here.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ArgumentError


@dataclass(frozen=True)
class Block:
    """The positions start … stop - 1 of the sequence that one encoder, or several side by side on the channels, fill."""

    encoder: str
    start: int
    stop: int


@dataclass(frozen=True)
class Conditioning:
    """Token vectors of texts as the denoiser takes them.

    `sequence` is what cross- or joint attention reads. `pooled` is the vector that enters beside it (SDXL: time embedding;
    SD3 and FLUX: modulation), or None. `mask` is True where the denoiser may look, or None where it may look everywhere;
    `drop` makes one. `shown` is the encoding's own, where padding is hidden from the denoiser (PixArt), else None: it goes with
    the vectors, wherever an edit puts them. `maskable` says whether the denoiser takes a mask at all.
    """

    sequence: Float[Tensor, "row position channel"]
    pooled: Float[Tensor, "row pooled_channel"] | None
    blocks: tuple[Block, ...]
    mask: Bool[Tensor, "row position"] | None = None
    maskable: bool = True
    shown: Bool[Tensor, "row position"] | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.sequence)

    @property
    def n_positions(self) -> int:
        """Positions of a row, over all blocks."""
        return self.sequence.shape[1]

    @property
    def seen(self) -> Bool[Tensor, "row position"] | None:
        """True where the denoiser looks, by the encoding's own mask and by what was dropped; None where it looks everywhere."""
        if self.mask is None or self.shown is None:
            return self.shown if self.mask is None else self.mask
        return self.mask & self.shown

    def row(self, index: int) -> "Conditioning":
        """Returns one row, as a conditioning of its own."""
        return self.select([range(len(self))[index]])

    def select(self, indices: Sequence[int]) -> "Conditioning":
        """Returns the rows at these indices, in their order; one may come several times."""
        rows = torch.tensor(list(indices), dtype=torch.long, device=self.sequence.device)
        pooled = None if self.pooled is None else self.pooled[rows]
        mask = None if self.mask is None else self.mask[rows]
        shown = None if self.shown is None else self.shown[rows]
        return dataclasses.replace(self, sequence=self.sequence[rows], pooled=pooled, mask=mask, shown=shown)

    def as_many(self, n_rows: int) -> "Conditioning":
        """Returns the rows, one row as many times over. Raises ValueError when there are several, and not as many."""
        if len(self) not in (1, n_rows):
            raise ValueError(f"{len(self)} rows of conditioning for {n_rows}: give one, or as many")
        return self if len(self) == n_rows else self.select([0] * n_rows)

    @staticmethod
    def stack(conditionings: "Sequence[Conditioning]") -> "Conditioning":
        """Returns the rows of all, one after the other.

        Raises ValueError when they are not of one model.
        """
        if not conditionings:
            raise ValueError("there is no conditioning to stack")
        first = conditionings[0]
        for other in conditionings[1:]:
            first._check_kin(other)
        pooled = [one.pooled for one in conditionings if one.pooled is not None]
        masks = None
        if any(one.mask is not None for one in conditionings):
            masks = torch.cat([one._whole_mask() for one in conditionings])
        shown = [one.shown for one in conditionings if one.shown is not None]
        return dataclasses.replace(
            first,
            sequence=torch.cat([one.sequence for one in conditionings]),
            pooled=torch.cat(pooled) if pooled else None,
            mask=masks,
            shown=torch.cat(shown) if shown else None,
        )

    def at(self, positions: Sequence[int]) -> Bool[Tensor, "position"]:
        """Returns True at these positions. Raises ArgumentError for a position that does not exist or is given twice."""
        wrong = [position for position in positions if not 0 <= position < self.n_positions]
        if wrong:
            raise ArgumentError(f"There is no position {wrong[0]}: positions go from 0 to {self.n_positions - 1}.")
        if len(set(positions)) < len(positions):
            raise ArgumentError("A position is given twice: name each once.")
        chosen = torch.zeros(self.n_positions, dtype=torch.bool, device=self.sequence.device)
        chosen[list(positions)] = True
        return chosen

    # ------------------------------------------------------------------ edits

    def keep(self, positions: Sequence[int], clean: "Conditioning") -> "Conditioning":
        """Returns the rows with these positions kept and every other one taken from `clean` at the same position.

        The causal patching of Kaplan et al. 2025: beginning, end and padding are replaced too unless they are named.
        """
        return self._with_vectors(~self.at(positions), clean)

    def replace(self, positions: Sequence[int], clean: "Conditioning") -> "Conditioning":
        """Returns the rows with these positions taken from `clean` (one row, or as many as here) at the same position."""
        return self._with_vectors(self.at(positions), clean)

    def paste(
        self, positions: Sequence[int], source: "Conditioning", source_positions: Sequence[int] | None = None
    ) -> "Conditioning":
        """Returns the rows with the vectors of `source` at `source_positions` (the same ones, if not given) put here.

        A source position may serve several. Raises ArgumentError when there are not as many of one as of the other.
        """
        origins = positions if source_positions is None else source_positions
        if len(origins) != len(positions):
            raise ArgumentError(
                f"{len(origins)} vectors cannot be pasted over {len(positions)} positions: choose as many of each."
            )
        self._check_kin(source)
        self.at(positions)
        source.at(tuple(set(origins)))
        sequence, shown = self.sequence.clone(), None if self.shown is None else self.shown.clone()
        sequence[:, list(positions)] = _fitted(source.sequence, len(self))[:, list(origins)]
        if shown is not None and source.shown is not None:
            shown[:, list(positions)] = _fitted(source.shown, len(self))[:, list(origins)]
        return dataclasses.replace(self, sequence=sequence, shown=shown)

    def mean(self, positions: Sequence[int], sample: "Conditioning") -> "Conditioning":
        """Returns the rows with these positions replaced by the mean of the sample's rows at the same position.

        Where padding is hidden, such a position is shown if it is in any of the sample's rows.
        """
        self._check_kin(sample)
        mean = sample.sequence.mean(dim=0, keepdim=True)
        shown = None if sample.shown is None else sample.shown.any(dim=0, keepdim=True)
        return self._with_vectors(self.at(positions), dataclasses.replace(sample.row(0), sequence=mean, shown=shown))

    def drop(self, positions: Sequence[int]) -> "Conditioning":
        """Returns the rows with these positions hidden from the denoiser: no vector stands in their place.

        Raises ArgumentError where the denoiser takes no mask, and when nothing would be left to look at.
        """
        if not self.maskable:
            raise ArgumentError(
                "This model's denoiser takes no mask over the text, so tokens cannot be dropped: use keep or replace, which "
                "put clean padding in their place."
            )
        dropped = dataclasses.replace(self, mask=self._whole_mask() & ~self.at(positions))
        if dropped.seen is not None and not dropped.seen.any(dim=1).all():
            raise ArgumentError(
                "Every token would be dropped: leave at least one position for the denoiser to look at."
            )
        return dropped

    def with_pooled(self, source: "Conditioning") -> "Conditioning":
        """Returns the rows with the pooled vector of another conditioning (one row, or as many as here).

        Raises ArgumentError for a model without one.
        """
        self._check_kin(source)
        if self.pooled is None or source.pooled is None:
            raise ArgumentError("This model has no pooled text vector: leave the choice of one out.")
        if len(source) not in (1, len(self)):
            raise ValueError(f"{len(source)} pooled vectors for {len(self)} rows: give one, or one for each")
        return dataclasses.replace(self, pooled=source.pooled.expand(len(self), -1).clone())

    # ------------------------------------------------------------------ within

    def _with_vectors(self, chosen: Bool[Tensor, "position"], source: "Conditioning") -> "Conditioning":
        self._check_kin(source)
        sequence = torch.where(chosen[None, :, None], _fitted(source.sequence, len(self)), self.sequence)
        shown = self.shown
        if shown is not None and source.shown is not None:
            shown = torch.where(chosen[None], _fitted(source.shown, len(self)), shown)
        return dataclasses.replace(self, sequence=sequence, shown=shown)

    def _whole_mask(self) -> Bool[Tensor, "row position"]:
        if self.mask is not None:
            return self.mask
        return torch.ones(self.sequence.shape[:2], dtype=torch.bool, device=self.sequence.device)

    def _check_kin(self, other: "Conditioning") -> None:
        same = self.blocks == other.blocks and self.sequence.shape[1:] == other.sequence.shape[1:]
        same = same and (self.shown is None) == (other.shown is None)
        if not same or (self.pooled is None) != (other.pooled is None):
            raise ValueError("the conditionings are not of one model: encode both with the same one")


def _fitted(rows: Tensor, n_rows: int) -> Tensor:
    """Returns as many rows, one row as many times over."""
    if len(rows) not in (1, n_rows):
        raise ValueError(f"{len(rows)} rows cannot be put into {n_rows}: give one, or one for each")
    return rows.expand(n_rows, *rows.shape[1:])


@dataclass(frozen=True)
class BlockEdit:
    """Replaces text vectors before every block of a joint-attention denoiser, at every step.

    What stands at `positions` before a block becomes what a picture drawn from `source` (one row, or one for each), from the
    same noise and at the same step, has there. `blocks` count from 0, FLUX's single-stream ones after the others; all of them
    if not given. IDP of Padding Tone (Toker et al. 2025), where an edit of the conditioning alone would be undone: later
    blocks write the prompt into the replaced vectors again.
    """

    positions: tuple[int, ...]
    source: Conditioning
    blocks: tuple[int, ...] | None = None
