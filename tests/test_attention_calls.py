"""Weights of a call of torch's attention: times the values they give what the call returns, however it is asked."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from interp.errors import RunError
from interp.models.image.attention_weights import AttentionCall, attention_calls

GENERATOR = torch.Generator().manual_seed(0)
QUERY, KEY, VALUE = (torch.randn(2, 4, n, 8, generator=GENERATOR) for n in (5, 7, 7))
SEEN = torch.arange(7) < torch.tensor([3, 7])[:, None, None, None]

CALLS: dict[str, Callable[[], torch.Tensor]] = {
    "plain": lambda: scaled_dot_product_attention(QUERY, KEY, VALUE),
    "mask": lambda: scaled_dot_product_attention(QUERY, KEY, VALUE, attn_mask=SEEN),
    "bias": lambda: scaled_dot_product_attention(QUERY, KEY, VALUE, attn_mask=torch.linspace(0, 2, 7).expand(5, 7)),
    "by position": lambda: scaled_dot_product_attention(QUERY, KEY, VALUE, SEEN, 0.0),
    "causal": lambda: scaled_dot_product_attention(QUERY, KEY, VALUE, is_causal=True),
    "scale": lambda: scaled_dot_product_attention(QUERY, KEY, VALUE, scale=0.7),
    "shared keys": lambda: scaled_dot_product_attention(QUERY, KEY[:, :2], VALUE[:, :2], enable_gqa=True),
}


class Attending(torch.nn.Module):
    def __init__(self, attend: Callable[[], torch.Tensor]) -> None:
        super().__init__()
        self.attend = attend

    def forward(self) -> torch.Tensor:
        return self.attend()


@pytest.mark.parametrize("name", CALLS)
def test_weights_times_values_are_what_the_call_returns(name: str) -> None:
    module, calls = Attending(CALLS[name]), list[AttentionCall]()
    with attention_calls([module], lambda _, call: calls.append(call)):
        wanted = module()
    (call,) = calls
    values = VALUE[:, :2].repeat_interleave(2, dim=1) if name == "shared keys" else VALUE
    for row in range(2):
        weights = call.weights(row, torch.tensor([4, 0, 2]))
        torch.testing.assert_close(weights @ values[row], wanted[row][:, [4, 0, 2]])


def test_a_module_that_attends_otherwise_is_refused() -> None:
    module = Attending(lambda: (QUERY @ KEY.transpose(-1, -2)).softmax(dim=-1) @ VALUE)
    with pytest.raises(RunError, match="scaled_dot_product_attention"), attention_calls([module], lambda *_: None):
        module()
