"""A causal language model to read with, look into and change: token ids in, token ids and numbers out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.errors import UserError
from interp.models.architecture import (
    attention_modules,
    context_window,
    head_geometry,
    output_projection,
    shares_rotary_embedding,
)
from interp.models.attention import ATTENTION
from interp.models.boundaries import check_ids
from interp.models.calls import watch_calls
from interp.models.chat import chat_date
from interp.models.edits import BlockedAttention, EditMode, HeadEdit
from interp.models.forward import CHUNK_TOKENS, Kept, read_on
from interp.models.generation import greedy
from interp.models.history import History
from interp.models.hooks import HOOKS_ATTRIBUTE, AttentionHooks, EditPhase, Phase
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.models.prefix import Prefix
from interp.models.projection_input import watch_projection
from interp.models.recording import HeadOutputs, Reader, Recording
from interp.models.surprisal import token_surprisal
from interp.models.verdicts import Verdicts

BATCH_TOKENS = 8192


class LanguageModel:
    """An ordinary transformers model, its tokenizer, and hooks inside its attention calls.

    The model is taken over: its attention implementation is set to this toolkit's, which computes the same numbers. Every
    way of running it (here, `hf.generate`, nnsight around it) sees the edits and recordings that are open.
    """

    def __init__(self, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, identity: ModelIdentity) -> None:
        """Wraps a loaded model. One whose heads cannot be looked at is read whole, by transformers' own attention."""
        self.hf = hf.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.identity = identity
        self.hooks = AttentionHooks()
        self.batch_tokens = BATCH_TOKENS
        """Tokens that batched work may keep keys and values of at one time; changes speed and memory, no number."""
        self.attention_modules: list[nn.Module] = []
        """The attention modules in layer order; empty for a model without attention."""
        self.without_heads: str | None = None
        """Why the attention of a model that has heads is left to transformers, in a sentence; None where it is not."""
        self.verdicts: Verdicts | None = None
        """What the check at load found (interp.models.check); None where nothing was checked."""
        self._geometry = head_geometry(hf.config)
        self._own_attention: str = hf.config._attn_implementation or "sdpa"
        if self._geometry is not None:
            try:
                self._take_over_attention()
            except UserError as error:
                self.let_go_of_heads(str(error))

    def rewrapped(self, hf: PreTrainedModel) -> "LanguageModel":
        """Returns another module of the same architecture, such as a changed copy, under this one's name and tokenizer."""
        model = LanguageModel(hf, self._tokenizer, self.identity)
        if self.verdicts is not None:
            model.obey(self.verdicts)
        return model

    def obey(self, verdicts: Verdicts) -> None:
        """Refuses from now on what failed the check at load."""
        self.verdicts = verdicts
        if verdicts.without_heads is not None and self.without_heads is None:
            self.let_go_of_heads(verdicts.without_heads)
        if self.attention_modules and verdicts.refuses("padding"):
            self.hf.register_forward_pre_hook(self._refuse_padding, with_kwargs=True)

    def needs(self, name: str) -> None:
        """Raises UserError, in one sentence, when what is about to be used failed the check at load by that name."""
        if self.verdicts is not None:
            self.verdicts.check(name, self.identity.name)

    def _refuse_padding(self, _: nn.Module, __: Any, options: dict[str, Any]) -> None:
        mask = options.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 2 and not bool(mask.all()):
            self.needs("padding")

    def let_go_of_heads(self, reason: str) -> None:
        """Leaves the attention to transformers: texts are read whole, and whoever asks for heads is told the reason."""
        self.without_heads, self._geometry, self.attention_modules = reason, None, []
        if self.hf.config.model_type == "falcon":
            self.hf.config._attn_implementation = "sdpa"
        elif self.hf._can_set_attn_implementation():
            self.hf.set_attn_implementation(self._own_attention)

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
            watch_projection(output_projection(module), self.hooks)
        watch_calls(self.hf.base_model, self.hooks)

    @property
    def geometry(self) -> HeadGeometry:
        """How many layers and heads the model has.

        Raises UserError for a model without attention heads, or with heads that cannot be looked at.
        """
        if self.without_heads is not None:
            raise UserError(self.without_heads)
        if self._geometry is None:
            raise UserError(f"{self.identity.name} ({self.hf.config.model_type}) has no attention heads.")
        return self._geometry

    @property
    def facts(self) -> ModelFacts:
        """Identity and size."""
        day = None if self._tokenizer is None else chat_date(self._tokenizer.chat_template)
        return ModelFacts(self.identity, self.hf.config.model_type, self._geometry, self.context_window, day)

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

    @cached_property
    def _rows(self) -> int:
        """Rows of the embedding: how many token ids there are."""
        embedding: Any = self.hf.get_input_embeddings()
        return int(embedding.weight.shape[0])

    @property
    def context_window(self) -> int | None:
        """How many tokens the model reads at once, or None where nothing bounds it."""
        return context_window(self.hf.config)

    # ------------------------------------------------------------------ reading

    def rows(self, n_rows: int, room: int = 0) -> Prefix | History:
        """Returns rows that have read nothing, with memory set aside for `room` tokens each.

        Models with attention get a Prefix; the others, and those that the check at load found wrong when they read on,
        a History, which goes on from a kept state (LSTM) or reads everything again each time.
        """
        reads_on = self.verdicts is None or not self.verdicts.refuses("forks", "ragged")
        if self._geometry is None or not reads_on:
            return History([[] for _ in range(n_rows)])
        return Prefix.empty(self.n_layers, n_rows, room)

    def prefix(self, ids: Sequence[int] = (), *, room: int = 0) -> Prefix:
        """Returns one row that has read `ids`, with memory set aside for `room` more tokens.

        Raises UserError for a model without attention: use `rows`.
        """
        _ = self.geometry
        prefix = Prefix.empty(self.n_layers, 1, len(ids) + room)
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
        """Reads on, in place, and returns next-token logits: see interp.models.forward.read_on."""
        check_ids(self.identity.name, self._tokenizer, max((max(row, default=0) for row in ids), default=0), self._rows)
        self.needs("reading")
        if isinstance(prefix, Prefix) and self.verdicts is not None:
            if any(prefix.lengths) or max(len(row) for row in ids) > CHUNK_TOKENS:
                self.needs("forks")
            if len({*prefix.lengths}) > 1 or len({len(row) for row in ids}) > 1:
                self.needs("ragged")
        return read_on(self, prefix, ids, kept=logits, phase=phase)

    def generate(
        self, prefix: Prefix, pending: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Sequence[int] = ()
    ) -> list[list[int]]:
        """Returns each row's greedy continuation: see interp.models.generation.greedy."""
        return greedy(self, prefix, pending, max_new_tokens=max_new_tokens, stop_ids=stop_ids)

    def surprisal(
        self, ids: Sequence[Sequence[int]], prefix: Prefix | History | None = None
    ) -> Float[Tensor, "row token"]:
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
        if any(isinstance(reader, HeadOutputs) for reader in readers):
            self.needs("head_outputs")
        if not all(isinstance(reader, HeadOutputs) for reader in readers):
            self.needs("heads")
        recording = Recording(queries, readers)
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
