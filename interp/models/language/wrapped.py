"""A transformers model that is taken over: what it is, its hooks, and what the check at load lets be done with it."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from interp.errors import UserError
from interp.models.check.verdicts import Verdicts
from interp.models.identity import HeadGeometry, ModelFacts, ModelIdentity
from interp.models.language.adapted.adapter import adapt, adapter_of, unadapt
from interp.models.language.architecture import (
    attention_modules,
    can_switch_attention,
    context_window,
    head_counts,
    head_geometry,
    output_projection,
    switch_attention,
)
from interp.models.language.attention_function import ATTENTION
from interp.models.language.hooks import HOOKS_ATTRIBUTE, AttentionHooks
from interp.models.language.prefix import History, Prefix
from interp.models.language.states import cache_layout
from interp.models.language.watching import refuse_training, restart_rotary, watch_calls, watch_projection
from interp.models.loading.refusals import check_ids
from interp.models.tokens.chat import chat_date

BATCH_TOKENS = 8192


class WrappedModel:
    """An ordinary transformers model, its tokenizer, and hooks inside its attention calls.

    The model is taken over: its attention implementation is set to this toolkit's, which computes the same numbers.
    """

    def __init__(self, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, identity: ModelIdentity) -> None:
        """Wraps a loaded model. One whose heads cannot be looked at is read whole, by transformers' own attention."""
        self.hf = hf.eval().requires_grad_(False)
        hf.register_forward_pre_hook(refuse_training)
        restart_rotary(hf)
        self._tokenizer = tokenizer
        self.identity = identity
        self.hooks = AttentionHooks()
        self.layout = cache_layout(hf.config, self.n_layers)
        """What each layer keeps of what was read."""
        self.batch_tokens = BATCH_TOKENS
        """Tokens that batched work may keep keys and values of at one time; changes speed and memory, no number."""
        self.attention_modules: list[nn.Module] = []
        """The attention modules of the layers that have heads, in order; empty for a model without attention."""
        self.without_heads: str | None = None
        """Why the attention of a model that has heads is left to transformers, in a sentence; None where it is not."""
        self.verdicts: Verdicts | None = None
        """What the check at load found (interp.models.check.check); None where nothing was checked."""
        self._geometry = head_geometry(hf.config)
        self._own_attention: str = hf.config._attn_implementation or "sdpa"
        if self._geometry is not None:
            try:
                self._take_over_attention()
            except UserError as error:
                self.let_go_of_heads(str(error))

    def obey(self, verdicts: Verdicts) -> None:
        """Refuses from now on what failed the check at load."""
        self.verdicts = verdicts
        limits: Any = frozenset(verdicts.limits)
        self.layout = replace(self.layout, limits=self.layout.limits | limits)
        if verdicts.without_heads is not None and self.without_heads is None:
            self.let_go_of_heads(verdicts.without_heads)
        if self.attention_modules and verdicts.refuses("padding"):
            self.hf.register_forward_pre_hook(self._refuse_padding, with_kwargs=True)

    def needs(self, name: str) -> None:
        """Raises UserError, in one sentence, when what is about to be used failed the check at load by that name."""
        if self.verdicts is None:
            return
        if self.without_heads is not None and self.verdicts.refuses(name):
            raise UserError(
                f"{self.without_heads} Experiments that need no heads can be run on it, such as surprisal, or verbatim_memory "
                "without masks."
            )
        self.verdicts.check(name, self.identity.name)

    def _refuse_padding(self, _: nn.Module, __: Any, options: dict[str, Any]) -> None:
        mask = options.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 2 and not bool(mask.all()):
            self.needs("padding")

    def let_go_of_heads(self, reason: str) -> None:
        """Leaves the attention to transformers: texts are read whole, and whoever asks for heads is told the reason."""
        self.without_heads, self._geometry, self.attention_modules = reason, None, []
        adapter = adapter_of(self.hf)
        if adapter is not None:
            unadapt(self.hf, adapter)
        elif can_switch_attention(self.hf):
            switch_attention(self.hf, self._own_attention)

    def _take_over_attention(self) -> None:
        counts = head_counts(self.hf.config)
        if len(counts) > 1:
            raise UserError(
                f"{self.identity.name} ({self.hf.config.model_type}) has layers of {' and of '.join(map(str, counts))} heads, and "
                "tables of heads take as many in every layer, so its heads cannot be looked at: name another model."
            )
        adapter = adapter_of(self.hf)
        if adapter is not None:
            adapt(self.hf, adapter)
        elif can_switch_attention(self.hf):
            switch_attention(self.hf, ATTENTION)
        else:
            raise UserError(
                f"{self.identity.name} ({self.hf.config.model_type}) does not use transformers' attention interface, so its "
                "heads cannot be looked at: name another model."
            )
        self.attention_modules = attention_modules(self.hf)
        for module in self.attention_modules:
            setattr(module, HOOKS_ATTRIBUTE, self.hooks)
            watch_projection(output_projection(module), self.hooks)
        watch_calls(_decoder(self.hf.base_model, self.attention_modules), self.hooks)

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
        return getattr(self.hf.config.get_text_config(decoder=True), "num_hidden_layers", 0)

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

    def check_ids(self, ids: Sequence[Sequence[int]]) -> None:
        """Raises UserError for a token id that the embedding has no row for."""
        largest = max((max(row, default=0) for row in ids), default=0)
        check_ids(self.identity.name, self._tokenizer, largest, self._rows)

    @property
    def context_window(self) -> int | None:
        """How many tokens the model reads at once, or None where nothing bounds it."""
        return context_window(self.hf.config)

    def rows(self, n_rows: int, room: int = 0) -> Prefix | History:
        """Returns rows that have read nothing, with memory set aside for `room` tokens each.

        Models with attention get a Prefix; the others, and those that the check at load found wrong when they read on,
        a History, which goes on from a kept state (LSTM) or reads everything again each time.
        """
        reads_on = self.verdicts is None or not self.verdicts.refuses("forks", "ragged")
        if self._geometry is None or not reads_on:
            return History([[] for _ in range(n_rows)])
        return Prefix.empty(self.layout, n_rows, room)

    def attention_of(self, layer: int) -> nn.Module:
        """Returns the attention module of a layer that has heads."""
        return self.attention_modules[self.geometry.layers.index(layer)]

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Runs the model with transformers' own eager attention inside the `with`: the oracle of this toolkit's.

        Edits and recordings do not act there.
        Raises UserError for families whose attention has no such switch (Falcon, GPT-J, BLOOM).
        """
        if adapter_of(self.hf) is not None:
            raise UserError(
                f"{self.identity.name} ({self.hf.config.model_type}) cannot be switched to eager attention once loaded: leave out "
                "--no-sharing."
            )
        switch_attention(self.hf, "eager")
        try:
            yield
        finally:
            switch_attention(self.hf, ATTENTION)


def _decoder(base: nn.Module, attention: Sequence[nn.Module]) -> nn.Module:
    """The innermost module that is given a text and holds all attention: OPT's head calls it past the base model."""
    found = base
    for module in base.modules():
        takes_text = {"input_ids", "inputs_embeds"} & inspect.signature(type(module).forward).parameters.keys()
        if takes_text and set(attention) <= set(module.modules()):
            found = module
    return found
