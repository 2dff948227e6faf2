"""An LSTM language model in transformers' clothes: trained here, loaded by the same call as any other model.

Its type is known to transformers as soon as this module is imported; nothing is taken from a model's folder but a
configuration, weights and a tokenizer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class LSTMConfig(PreTrainedConfig):
    """Sizes of an LSTM language model. Nothing bounds how much text it reads."""

    model_type = "interp_lstm"

    def __init__(
        self,
        vocab_size: int = 4096,
        hidden_size: int = 128,
        state_size: int = 344,
        num_hidden_layers: int = 1,
        initializer_range: float = 0.1,
        tie_word_embeddings: bool = True,
        **options: Any,
    ) -> None:
        """`hidden_size` is the width of embeddings, `state_size` that of each layer's hidden and cell state."""
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.state_size = state_size
        self.num_hidden_layers = num_hidden_layers
        self.initializer_range = initializer_range
        self.tie_word_embeddings = tie_word_embeddings
        super().__init__(**options)


@dataclass
class LSTMOutput(ModelOutput):
    """What a forward pass returns: `state` is what the LSTM knows after each row's last token."""

    logits: Float[Tensor, "row token vocabulary"] | None = None
    state: Float[Tensor, "hidden_or_cell layer row state"] | None = None


class LSTMForCausalLM(PreTrainedModel):
    """Scaled embedding, torch's own LSTM, a projection back to the embedding's width, the embedding again as output head."""

    config_class = LSTMConfig
    _tied_weights_keys = {"lm_head.weight": "embedding.weight"}  # noqa: RUF012, transformers' own shape

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lstm = nn.LSTM(config.hidden_size, config.state_size, config.num_hidden_layers, batch_first=True)
        self.projection = nn.Linear(config.state_size, config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Each gate on its own: Glorot's scale for inputs, orthogonal recurrence, zero biases but open forget gates.

        Torch's own uniform scale starts this model on a plateau that takes some hundred steps to leave. Forget gates:
        Jozefowicz et al. 2015, sec. 2.2.
        """
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.LSTM):
            for name, parameter in module.named_parameters():
                for gate, part in enumerate(parameter.chunk(4)):  # input, forget, cell, output
                    if name.startswith("weight_ih"):
                        nn.init.xavier_uniform_(part)
                    elif name.startswith("weight_hh"):
                        nn.init.orthogonal_(part)
                    else:
                        nn.init.constant_(part, float(gate == 1 and name.startswith("bias_ih")))
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Module:
        """Returns the embedding."""
        return self.embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces the embedding."""
        self.embedding = value

    def get_output_embeddings(self) -> nn.Module:
        """Returns the language-model head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replaces the language-model head."""
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: Int[Tensor, "row token"],
        state: Float[Tensor, "hidden_or_cell layer row state"] | None = None,
        lengths: Int[Tensor, " row"] | None = None,
        **_: Any,
    ) -> LSTMOutput:
        """Reads on from `state` (None: from nothing) and returns next-token logits and the state after each row.

        Rows are padded on the right; `lengths` (default: all of the row) says how many tokens each has, and padding does
        not run through its state. A row of no tokens keeps its state. Logits behind a row's end are garbage.
        """
        if state is None:
            shape = (2, self.config.num_hidden_layers, len(input_ids), self.config.state_size)
            state = torch.zeros(shape, dtype=self.projection.weight.dtype, device=input_ids.device)
        embedded = self.embedding(input_ids) * self.config.hidden_size**0.5  # Vaswani et al. 2017, sec. 3.4
        hidden, cell = state.unbind(0)
        if lengths is None:
            outputs, after = self.lstm(embedded, (hidden.contiguous(), cell.contiguous()))
            following = torch.stack(after)
        else:
            outputs, following = self._read_ragged(embedded, state, lengths)
        return LSTMOutput(logits=self.lm_head(self.projection(outputs)), state=following)

    def _read_ragged(
        self,
        embedded: Float[Tensor, "row token width"],
        state: Float[Tensor, "hidden_or_cell layer row state"],
        lengths: Int[Tensor, " row"],
    ) -> tuple[Float[Tensor, "row token state"], Float[Tensor, "hidden_or_cell layer row state"]]:
        at_least_one = lengths.clamp(min=1).cpu()  # what torch can pack
        packed = pack_padded_sequence(embedded, at_least_one, batch_first=True, enforce_sorted=False)
        outputs, after = self.lstm(packed, tuple(part.contiguous() for part in state))
        unpacked, _ = pad_packed_sequence(outputs, batch_first=True, total_length=embedded.shape[1])
        nothing_read = (lengths == 0).to(state.device)[:, None]
        return unpacked, torch.where(nothing_read, state, torch.stack(after))


AutoConfig.register(LSTMConfig.model_type, LSTMConfig)
AutoModelForCausalLM.register(LSTMConfig, LSTMForCausalLM)
