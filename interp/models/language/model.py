"""A causal language model to read with, look into and change: token ids in, token ids and numbers out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from interp.errors import ArgumentError
from interp.models.language.architecture import shares_rotary_embedding
from interp.models.language.edits import BlockedAttention, EditMode, HeadEdit
from interp.models.language.forward import greedy, read_on, token_surprisal
from interp.models.language.hooks import EditPhase, Phase
from interp.models.language.kept_logits import Kept
from interp.models.language.prefix import History, Prefix
from interp.models.language.recording import HeadOutputs, Reader, Recording
from interp.models.language.row_edits import RowEdit, Side, watch_rows
from interp.models.language.wrapped import WrappedModel


class LanguageModel(WrappedModel):
    """A language model whose attention can be recorded and edited.

    Open edits and recordings act on every way of running it: the methods here, `hf.generate`, and nnsight around it.
    """

    def rewrapped(self, hf: PreTrainedModel) -> "LanguageModel":
        """Returns another module of the same architecture, such as a changed copy, under this one's name and tokenizer."""
        model = LanguageModel(hf, self._tokenizer, self.identity)
        if self.verdicts is not None:
            model.obey(self.verdicts)
        return model

    # ------------------------------------------------------------------ reading

    def prefix(self, ids: Sequence[int] = (), *, room: int = 0) -> Prefix:
        """Returns one row that has read `ids`, with memory set aside for `room` more tokens.

        Raises UserError for a model without attention: use `rows`.
        """
        _ = self.geometry
        prefix = Prefix.empty(self.layout, 1, len(ids) + room)
        if ids:
            self.extend(prefix, [list(ids)], logits="none")
        return prefix

    def reread(self, prefix: Prefix, ids: Sequence[int]) -> int:
        """Makes a single-row prefix hold exactly `ids`, in place: keeps the tokens both begin with and reads the rest.

        Returns how many tokens were read. Texts that share a beginning cost only their different ends.
        Raises ValueError for a prefix of several rows.
        """
        if prefix.n_rows != 1:
            raise ValueError("only a single row can be read again")
        common = 0
        for kept, wanted in zip(prefix.ids[0], ids, strict=False):
            if kept != wanted:
                break
            common += 1
        if not shares_rotary_embedding(self.hf.config, prefix.lengths[0], common, len(ids)):
            common = 0
        prefix.crop(common)
        if common < len(ids):
            self.extend(prefix, [list(ids[common:])], logits="none")
        return len(ids) - common

    def extend(
        self,
        prefix: Prefix | History,
        ids: Sequence[Sequence[int]],
        *,
        logits: Kept = "last",
        phase: Phase = "prefill",
    ) -> Float[Tensor, "row kept vocabulary"]:
        """Reads on, in place, and returns next-token logits: see interp.models.language.forward.read_on."""
        return read_on(self, prefix, ids, kept=logits, phase=phase)

    def generate(
        self, prefix: Prefix, pending: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Sequence[int] = ()
    ) -> list[list[int]]:
        """Returns each row's greedy continuation: see interp.models.language.forward.greedy."""
        return greedy(self, prefix, pending, max_new_tokens=max_new_tokens, stop_ids=stop_ids)

    def surprisal(
        self, ids: Sequence[Sequence[int]], prefix: Prefix | History | None = None
    ) -> Float[Tensor, "row token"]:
        """Returns -ln p of every token but each row's first: see interp.models.language.forward.token_surprisal."""
        return token_surprisal(self, ids, prefix)

    # ------------------------------------------------------------------ looking and changing

    @contextmanager
    def record(self, queries: Int[Tensor, "row query"], *readers: Reader) -> Iterator[Recording]:
        """Opens a recording of attention for query positions ([1 or rows, n], negative = none) by the given readers.

        with model.record(torch.tensor([[10, 11]]), TopKeys(1)) as recording:
            model.prefix(ids)
        recording["top_position"]     # [layer, row, head, query, 1]
        """
        _ = self.geometry  # refuses models without heads
        if any(isinstance(reader, HeadOutputs) for reader in readers):
            self.needs("head_outputs")
        if not all(isinstance(reader, HeadOutputs) for reader in readers):
            self.needs("heads")
        recording = Recording(queries, readers, self.n_layers)
        with self.hooks.opened(observer=recording):
            yield recording

    @contextmanager
    def edit_heads(
        self,
        heads: Sequence[tuple[int, int]] | Bool[Tensor, "row_or_1 layer head"],
        mode: EditMode = "zero",
        *,
        phase: EditPhase = "both",
        means: Float[Tensor, "layer head dim"] | None = None,
    ) -> Iterator[None]:
        """Opens an edit of heads: (layer, head) pairs, or one boolean grid per row of the batch. See HeadEdit."""
        grid = heads if isinstance(heads, Tensor) else self.head_grid(heads)[None]
        if tuple(grid.shape[1:]) != (self.geometry.n_layers, self.geometry.n_heads):
            raise ValueError(f"a grid of heads [row, layer, head] of this model, not {list(grid.shape)}, is needed")
        self.needs("edits")
        with self.hooks.opened(HeadEdit(grid, mode, phase, means)):
            yield

    @contextmanager
    def block_attention(
        self,
        heads: Sequence[tuple[int, int]],
        *,
        keys: Sequence[int],
        queries: Sequence[int] | None = None,
        phase: EditPhase = "both",
    ) -> Iterator[None]:
        """Opens a block: the heads may not look from the query positions (None = all) to the key positions.

        Raises ArgumentError for positions that cannot be right, and UserError at the end of the `with` when texts were read
        that have no such position.
        """
        blocked = BlockedAttention(
            self.head_grid(heads),
            None if queries is None else torch.tensor(queries, dtype=torch.long),
            torch.tensor(keys, dtype=torch.long),
            phase,
        )
        self.needs("edits")
        with self.hooks.opened(blocked):
            yield
        blocked.check_met()

    @contextmanager
    def edit_rows(self, ids: Int[Tensor, "row_or_1 changed"], rows: Tensor, *, side: Side = "both") -> Iterator[None]:
        """Opens an edit of the embedding: the tokens take the rows of other tokens (ids), or vectors. See RowEdit.

        with model.edit_rows(torch.tensor([[cat, dog]]), torch.tensor([[dog, cat]])):    # cat and dog swap rows
            model.surprisal([ids])

        Raises ArgumentError for what does not fit the model, and UserError at the end of the `with` when texts were read past the
        embedding.
        """
        edit = RowEdit(ids, rows, side)
        watch_rows(self, edit)
        with self.hooks.opened(edit):
            yield
        edit.check_met()

    def head_grid(self, heads: Sequence[tuple[int, int]]) -> Bool[Tensor, "layer head"]:
        """Returns a grid that is True at the given (layer, head) pairs.

        Raises IndexError for a head the model does not have.
        """
        geometry = self.geometry
        grid = torch.zeros((geometry.n_layers, geometry.n_heads), dtype=torch.bool)
        for layer, head in heads:
            geometry.check_head(layer, head)
            grid[layer, head] = True
        return grid

    def mean_head_outputs(self, ids: Sequence[Sequence[int]]) -> Float[Tensor, "layer head dim"]:
        """Returns each head's mean output over all tokens of the given texts (one row at a time, equal weight per token).

        Raises ArgumentError for no texts, or one without tokens.
        """
        if not ids or not all(len(row) for row in ids):
            raise ArgumentError("A mean over tokens needs texts of at least one token each: leave empty ones out.")
        total, n_tokens = None, 0
        for row in ids:
            with self.record(torch.arange(len(row))[None], HeadOutputs()) as recording:
                self.prefix(row)
            outputs = recording["head_output"][:, 0].double().sum(dim=2)
            total = outputs if total is None else total + outputs
            n_tokens += len(row)
        assert total is not None
        return (total / n_tokens).float()

    def bridge(self) -> Any:
        """Returns the same weights as a TransformerLens TransformerBridge, which is a copy."""
        from interp.models.language.bridge import build_bridge

        return build_bridge(self)
