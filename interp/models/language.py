"""A causal language model to read with, look into and change: token ids in, token ids and numbers out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.errors import UserError
from interp.models.architecture import attention_modules, context_window, head_geometry
from interp.models.attention import ATTENTION, HOOKS_ATTRIBUTE, QUERY_POSITIONS, AttentionHooks, Edit, Phase
from interp.models.edits import BlockedAttention, EditMode, EditPhase, HeadEdit
from interp.models.generation import greedy
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.models.prefix import Prefix
from interp.models.recording import HeadOutputs, Reader, Recording
from interp.models.surprisal import token_surprisal

CHUNK_TOKENS = 2048
"""Tokens of one row read in one forward pass: bounds the memory of masks and of the feed-forward layers."""

BATCH_TOKENS = 8192


class LanguageModel:
    """An ordinary transformers model, its tokenizer, and hooks inside its attention calls.

    The model is taken over: its attention implementation is set to this toolkit's, which computes the same numbers. Every
    way of running it (here, `hf.generate`, nnsight around it) sees the edits and recordings that are open.
    """

    def __init__(self, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, identity: ModelIdentity) -> None:
        """Wraps a loaded model.

        Raises UserError when it has attention heads but not transformers' attention interface.
        """
        self.hf = hf.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.identity = identity
        self.hooks = AttentionHooks()
        self.batch_tokens = BATCH_TOKENS
        """Tokens that batched work may keep keys and values of at one time; changes speed and memory, no number."""
        self.attention_modules: list[nn.Module] = []
        """The attention modules in layer order; empty for a model without attention."""
        self._geometry = head_geometry(hf.config)
        if self._geometry is not None:
            self._take_over_attention()

    def _take_over_attention(self) -> None:
        if self.hf.config.model_type == "falcon":
            from interp.models.falcon import adapt_falcon

            adapt_falcon(self.hf)
        elif self.hf._can_set_attn_implementation():
            self.hf.set_attn_implementation(ATTENTION)
        else:
            raise UserError(
                f"{self.identity.name} ({self.hf.config.model_type}) does not use transformers' attention interface, so its "
                "heads cannot be looked at: name another model."
            )
        self.attention_modules = attention_modules(self.hf)
        for module in self.attention_modules:
            setattr(module, HOOKS_ATTRIBUTE, self.hooks)

    @property
    def geometry(self) -> HeadGeometry:
        """How many layers and heads the model has.

        Raises UserError for a model without attention heads.
        """
        if self._geometry is None:
            raise UserError(f"{self.identity.name} ({self.hf.config.model_type}) has no attention heads.")
        return self._geometry

    @property
    def facts(self) -> ModelFacts:
        """Identity and size."""
        return ModelFacts(self.identity, self.hf.config.model_type, self._geometry, self.context_window)

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.hf.config.get_text_config(decoder=True).num_hidden_layers

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer.

        Raises UserError when the model was wrapped without one.
        """
        if self._tokenizer is None:
            raise UserError(f"{self.identity.name} was loaded without a tokenizer: pass one to LanguageModel.")
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the embedding."""
        return next(self.hf.get_input_embeddings().parameters()).device

    @property
    def context_window(self) -> int | None:
        """How many tokens the model reads at once, or None where nothing bounds it."""
        return context_window(self.hf.config)

    # ------------------------------------------------------------------ reading

    def prefix(self, ids: Sequence[int] = (), *, room: int = 0) -> Prefix:
        """Returns one row that has read `ids`, with memory set aside for `room` more tokens."""
        prefix = Prefix.empty(self.n_layers, 1, len(ids) + room)
        if ids:
            self.extend(prefix, [list(ids)], logits="none")
        return prefix

    def reread(self, prefix: Prefix, ids: Sequence[int]) -> int:
        """Makes a single-row prefix hold exactly `ids`, in place: keeps the tokens both begin with and reads the rest.

        Returns how many tokens were read. Texts that share a beginning cost only their different ends.
        """
        common = 0
        for kept, wanted in zip(prefix.ids[0], ids, strict=False):
            if kept != wanted:
                break
            common += 1
        prefix.crop(common)
        if common < len(ids):
            self.extend(prefix, [list(ids[common:])], logits="none")
        return len(ids) - common

    @torch.inference_mode()
    def extend(
        self,
        prefix: Prefix,
        ids: Sequence[Sequence[int]],
        *,
        logits: Literal["none", "last", "all"] = "last",
        phase: Phase = "prefill",
    ) -> Float[Tensor, "row kept vocabulary"]:
        """Reads on, in place: row i of the prefix reads ids[i] (lengths may differ).

        Returns float32 next-token logits after the `last` token of each row (kept = 1), after `all` of them (kept = the
        longest; rows that read fewer hold garbage behind their end) or after `none` (kept = 0). A row may read nothing
        unless its last logits are asked for. `phase` is what head edits with a phase of their own go by.
        Raises UserError when a row outgrows the context window.
        """
        n_read = [len(row) for row in ids]
        if len(ids) != prefix.n_rows or max(n_read) == 0 or (logits == "last" and min(n_read) == 0):
            raise ValueError(f"{prefix.n_rows} rows cannot read {n_read} tokens")
        prefix.check_unshared()
        self._check_window(max(a + b for a, b in zip(prefix.lengths, n_read, strict=True)))
        prefix.cache.reserve(max(prefix.lengths) + max(n_read))
        kept = []
        for first in range(0, max(n_read), CHUNK_TOKENS):
            part = [list(row[first : first + CHUNK_TOKENS]) for row in ids]
            kept.append(self._pass(prefix, part, _columns_to_keep(logits, n_read, first, part), phase))
        if logits != "last":
            return torch.cat(kept, dim=1)
        last_chunk = torch.tensor([(read - 1) // CHUNK_TOKENS for read in n_read])
        return torch.cat([kept[chunk][row : row + 1] for row, chunk in enumerate(last_chunk.tolist())])

    def _check_window(self, n_tokens: int) -> None:
        window = self.context_window
        if window is not None and n_tokens > window:
            raise UserError(
                f"The text has {n_tokens} tokens but {self.identity.name} reads {window}: shorten it or name a model with a "
                "longer window."
            )

    def _pass(
        self, prefix: Prefix, ids: list[list[int]], keep: Int[Tensor, "row kept"], phase: Phase
    ) -> Float[Tensor, "row kept vocabulary"]:
        """One forward pass of up to CHUNK_TOKENS tokens per row; rows with fewer are padded on the right."""
        width = max(len(row) for row in ids)
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=self.device)
        starts = torch.tensor(prefix.lengths, device=self.device)
        positions = starts[:, None] + torch.arange(width, device=self.device)
        window = self.context_window
        position_ids = positions if window is None else positions.clamp(max=window - 1)
        level = len(set(prefix.lengths)) == 1
        cache = prefix.cache
        cache.begin(width)
        try:
            with self._standing_at(starts, prefix, phase, None if level else positions), self._head_at(keep):
                output = self.hf(input_ids=tokens, position_ids=position_ids, past_key_values=cache, use_cache=True)
        except BaseException:
            cache.abandon()
            raise
        cache.end([len(row) for row in ids])
        for read, row in zip(prefix.ids, ids, strict=True):
            read.extend(row)
        return output.logits.float()

    @contextmanager
    def _standing_at(self, starts: Tensor, prefix: Prefix, phase: Phase, positions: Tensor | None) -> Iterator[None]:
        """Tells the attention calls of a pass where its rows stand and what they share."""
        hooks = self.hooks
        hooks.starts, hooks.phase, hooks.trunk = starts, phase, prefix.cache.trunk
        hooks.rows = torch.tensor(prefix.rows, device=starts.device)
        token = QUERY_POSITIONS.set(positions)
        try:
            yield
        finally:
            QUERY_POSITIONS.reset(token)
            hooks.starts, hooks.phase, hooks.trunk, hooks.rows = None, "prefill", None, None

    @contextmanager
    def _head_at(self, columns: Int[Tensor, "row kept"]) -> Iterator[None]:
        """Lets the language-model head see only the chosen columns; what follows it (scale, soft-cap) is elementwise."""

        def choose(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = inputs[0]
            return (torch.take_along_dim(hidden, columns.to(hidden.device)[:, :, None], dim=1), *inputs[1:])

        head: Any = self.hf.get_output_embeddings()
        handle = head.register_forward_pre_hook(choose)
        try:
            yield
        finally:
            handle.remove()

    def generate(
        self, prefix: Prefix, pending: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Sequence[int] = ()
    ) -> list[list[int]]:
        """Returns each row's greedy continuation: see interp.models.generation.greedy."""
        return greedy(self, prefix, pending, max_new_tokens=max_new_tokens, stop_ids=stop_ids)

    def surprisal(self, ids: Sequence[Sequence[int]], prefix: Prefix | None = None) -> Float[Tensor, "row token"]:
        """Returns -ln p of every token but each row's first: see interp.models.surprisal.token_surprisal."""
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
        recording = Recording(queries, readers)
        self.hooks.observers.append(recording)
        try:
            yield recording
        finally:
            self.hooks.observers.remove(recording)

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
        with self._editing(HeadEdit(grid, mode, phase, means)):
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
        """Opens a block: the heads may not look from the query positions (None = all) to the key positions."""
        blocked = BlockedAttention(
            self.head_grid(heads),
            None if queries is None else torch.tensor(queries),
            torch.tensor(keys),
            phase,
        )
        with self._editing(blocked):
            yield

    @contextmanager
    def _editing(self, edit: Edit) -> Iterator[None]:
        self.hooks.edits.append(edit)
        try:
            yield
        finally:
            self.hooks.edits.remove(edit)

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
        """Returns each head's mean output over all tokens of the given texts (one row at a time, equal weight per token)."""
        total, n_tokens = None, 0
        for row in ids:
            with self.record(torch.arange(len(row))[None], HeadOutputs()) as recording:
                self.prefix(row)
            outputs = recording["head_output"][:, 0].double().sum(dim=2)
            total = outputs if total is None else total + outputs
            n_tokens += len(row)
        if total is None:
            raise ValueError("mean_head_outputs needs at least one text")
        return (total / n_tokens).float()

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Runs the model with transformers' own eager attention inside the `with`: the oracle of this toolkit's.

        Edits and recordings do not act there.
        Raises UserError for Falcon, whose module has no such switch.
        """
        if self.hf.config.model_type == "falcon":
            raise UserError("Falcon cannot be switched to eager attention once loaded: leave out --no-sharing.")
        self.hf.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.hf.set_attn_implementation(ATTENTION)

    def bridge(self) -> Any:
        """Returns the same weights as a TransformerLens TransformerBridge, in a copy of its own."""
        from interp.models.bridge import build_bridge

        return build_bridge(self)


def _columns_to_keep(logits: str, n_read: list[int], first: int, part: list[list[int]]) -> Int[Tensor, "row kept"]:
    """Which columns of this part's hidden states the language-model head should see."""
    if logits == "none":
        return torch.zeros((len(part), 0), dtype=torch.long)
    if logits == "all":
        return torch.arange(max(len(row) for row in part)).expand(len(part), -1)
    last = torch.tensor(n_read)[:, None] - 1 - first
    return last.clamp(0, max(len(row) for row in part) - 1)
