"""Random sets of open edits, in any order, against one plain eager forward pass in which all of them are written by hand."""

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import config
from torch import Tensor

from interp.errors import ArgumentError, UserError
from interp.models.architecture import output_projection
from interp.models.prefix import stack
from interp.models.recording import HeadOutputs, TopKeys, WeightAt, Weights
from tests.reading import close
from tests.tiny_models import random_ids, tiny, tiny_hf

LAYERS, HEADS, N = 3, 4, 24
IDS = random_ids(N, seed=3)
ROWS = [IDS, IDS[:9] + random_ids(15, seed=4)]
FAMILIES = ["llama", "gpt2", "gemma2", "mistral", "falcon-alibi"]


class Wish(NamedTuple):
    """One edit as it is asked for."""

    kind: str
    grid: Tensor
    means: Tensor | None = None
    keys: tuple[int, ...] = ()
    queries: tuple[int, ...] | None = None


def draw(rng: random.Random, width: int) -> list[Wish]:
    wishes = []
    for _ in range(rng.randint(2, 5)):
        kind = rng.choice(["zero", "mean", "uniform", "block", "block"])
        grid = torch.tensor([rng.random() < 0.4 for _ in range(2 * LAYERS * HEADS)]).reshape(2, LAYERS, HEADS)
        grid = grid[:1] if kind == "block" or rng.random() < 0.5 else grid
        means = torch.randn(LAYERS, HEADS, width) if kind == "mean" else None
        keys = tuple(rng.sample(range(N - 6), rng.randint(1, 3)))
        queries = tuple(rng.sample(range(max(keys) + 1, N), 4))
        wishes.append(Wish(kind, grid, means, keys, queries))
    return wishes


def opened(model: Any, wishes: list[Wish]) -> ExitStack:
    stack_of = ExitStack()
    for wish in wishes:
        if wish.kind == "block":
            heads = [tuple(head) for head in wish.grid[0].nonzero().tolist()]
            edit = model.block_attention(heads, keys=wish.keys, queries=wish.queries)
        else:
            edit = model.edit_heads(wish.grid, wish.kind, means=wish.means)
        stack_of.enter_context(edit)
    return stack_of


class ByHand:
    """An eager attention, written plainly: scores, then the wishes, one head of one row at a time."""

    def __init__(self, wishes: list[Wish]) -> None:
        self.wishes = wishes
        self.weights = torch.zeros(LAYERS, 2, HEADS, N, N)
        self.outputs = torch.zeros(LAYERS, 2, HEADS, N, 16)

    def attend(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **how: Any) -> Any:
        layer, group = module.layer_idx, query.shape[1] // key.shape[1]
        output = torch.zeros(2, N, HEADS, value.shape[-1])
        causal = torch.ones(N, N, dtype=torch.bool).tril()
        for row, head in itertools.product(range(2), range(HEADS)):
            may, bias = causal.clone(), torch.zeros(N, N)
            if mask is not None:
                own = mask[row % len(mask), head % mask.shape[1]]
                may &= own if own.dtype == torch.bool else own > -1e30
                bias = bias if own.dtype == torch.bool else own.masked_fill(~may, 0)
            scores = query[row, head] @ key[row, head // group].T * (how.get("scaling") or query.shape[-1] ** -0.5)
            if how.get("softcap") is not None:
                scores = torch.tanh(scores / how["softcap"]) * how["softcap"]
            scores = scores + bias
            result = None
            for wish in self.wishes:
                if not wish.grid[row % len(wish.grid), layer, head]:
                    continue
                if wish.kind == "uniform":
                    scores = torch.zeros(N, N)
                elif wish.kind == "block":
                    for q, k in itertools.product(wish.queries or (), wish.keys):
                        may[q, k] = False
                elif wish.means is not None:
                    result = wish.means[layer, head].expand(N, -1)
                else:
                    result = torch.zeros(N, value.shape[-1])
            weights = scores.masked_fill(~may, -torch.inf).softmax(dim=-1)
            output[row, :, head] = weights @ value[row, head // group] if result is None else result
            self.weights[layer, row, head] = weights
            self.outputs[layer, row, head] = output[row, :, head]
        return output, None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(5))
def test_all_open_edits_act_and_recordings_show_what_the_model_saw(family, seed, monkeypatch):
    rng = random.Random(f"{family} {seed}")
    torch.manual_seed(seed)
    model, reference = tiny(family), tiny(family)
    wishes = draw(rng, 16)
    hand = ByHand(wishes)
    with monkeypatch.context() as patch, torch.no_grad():
        from transformers import AttentionInterface

        import interp.models.falcon

        patch.setitem(AttentionInterface._global_mapping, "interp", hand.attend)
        patch.setattr(interp.models.falcon, "attend", hand.attend)
        expected = reference.hf(torch.tensor(ROWS), use_cache=False).logits

    every = torch.arange(N)[None]
    rng_order = list(wishes)
    for way in ("whole", "shared", "ragged", "hf"):
        with opened(model, rng_order), model.record(every, Weights(N), HeadOutputs()) as recording:
            if way == "whole":
                logits = model.extend(model.rows(2), ROWS, logits="all")
            elif way == "shared":
                branches = model.prefix
                trunk = model.rows(1)
                with_common = ROWS[0][:9] == ROWS[1][:9]
                assert with_common
                if any(len(wish.grid) > 1 for wish in wishes):
                    continue  # the trunk is one row, and grids of two rows are refused there
                model.extend(trunk, [IDS[:9]], logits="none")
                logits = model.extend(trunk.fork(2), [row[9:] for row in ROWS], logits="all")
                close(logits, expected[:, 9:])
                close(recording["weights"][..., 9:, :], hand.weights[..., 9:, :], 2e-5)
                del branches
                continue
            elif way == "ragged":
                rows = model.rows(2)
                model.extend(rows, [ROWS[0][:5], ROWS[1][:12]], logits="none")
                logits = model.extend(rows, [ROWS[0][5:], ROWS[1][12:]], logits="all")
                close(logits[0], expected[0, 5:])
                close(logits[1, :12], expected[1, 12:])
                logits = None
            else:
                with torch.no_grad():
                    logits = model.hf(torch.tensor(ROWS)).logits
        if logits is not None:
            close(logits, expected)
        close(recording["weights"], hand.weights, 2e-5)
        close(recording["head_output"], hand.outputs)
        # blocks and uniform commute; only what replaces an output counts by order
        replacing = [wish for wish in wishes if wish.kind in ("zero", "mean")]
        others = [wish for wish in wishes if wish.kind not in ("zero", "mean")]
        rng.shuffle(others)
        rng_order = replacing + others
    assert (hand.weights == 0).any()


def test_two_blocks_and_a_zero_around_a_block_by_name():
    """The three that were lost: an outer block, a zero outside a block, the weight on a blocked key."""
    model = tiny("llama")
    heads = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]

    def read() -> Tensor:
        return model.extend(model.prefix(), [IDS], logits="all")

    with model.block_attention(heads, keys=[3, 7], queries=[12, 20]):
        both = read()
    with (
        model.block_attention(heads, keys=[3], queries=[12, 20]),
        model.block_attention(heads, keys=[7], queries=[12, 20]),
        model.record(torch.tensor([[12, 20]]), WeightAt(torch.tensor([[[3, 7], [3, 7]]]))) as recording,
    ):
        close(read(), both, 1e-6)
    assert (recording["weight_at"] == 0).all()
    with model.edit_heads(heads):
        zero = read()
        with model.block_attention(heads, keys=[3], queries=[12]):
            close(read(), zero, 0)


@pytest.mark.parametrize("family", ["bitnet", "afmoe"])
def test_a_gate_or_norm_before_the_projection_has_acted_on_what_is_recorded_and_silenced(family):
    sizes: dict[str, Any] = dict(
        vocab_size=97, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    sizes |= dict(num_dense_layers=3, num_experts=2, moe_intermediate_size=64) if family == "afmoe" else {}
    model, plain = tiny(family, **sizes), tiny_hf(family, **sizes)
    copy = tiny(family, **sizes)
    seen = []

    def hook(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen.append(inputs[0][0].unflatten(-1, (4, 16)).transpose(0, 1))
        return (inputs[0].index_fill(-1, torch.arange(16, 32), 0.0), *inputs[1:])

    del plain
    handles = [output_projection(module).register_forward_pre_hook(hook) for module in copy.attention_modules]
    silenced = copy.extend(copy.prefix(), [IDS], logits="all")
    with (
        model.edit_heads([(layer, 1) for layer in range(3)]),
        model.record(torch.arange(N)[None], HeadOutputs()) as recording,
    ):
        close(model.extend(model.prefix(), [IDS], logits="all"), silenced, 1e-5)
    expected = torch.stack(seen)
    expected[:, 1] = 0
    close(recording["head_output"][:, 0], expected, 1e-5)
    assert len(handles) == 3


# ---------------------------------------------------------------- arguments that cannot be right


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Without the type checks that only tests have, which would speak first."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("as_users_run_it")
def test_names_and_numbers_that_cannot_be_right_are_refused():
    model = tiny("llama")
    means = torch.zeros(LAYERS, HEADS, 16)
    wrong: list[tuple[str, Any]] = [
        (r'no mode \'zeros\': choose "zero", "mean" or "uniform"', lambda: model.edit_heads([(0, 0)], "zeros")),
        (r'no phase \'decoding\': choose "both", "prefill" or "decode"', lambda: model.edit_heads([(0, 0)], phase="decoding")),
        ("no phase 'decoding'", lambda: model.block_attention([(0, 0)], keys=[1], phase="decoding")),
        ("needs means", lambda: model.edit_heads([(0, 0)], "mean")),
        ("Means are finite numbers", lambda: model.edit_heads([(0, 0)], "mean", means=means[:, :1])),
        ("Means are finite numbers", lambda: model.edit_heads([(0, 0)], "mean", means=means[0])),
        ("Means are finite numbers", lambda: model.edit_heads([(0, 0)], "mean", means=means * torch.nan)),
        ("needs keys", lambda: model.block_attention([(0, 0)], keys=[])),
        ("needs queries", lambda: model.block_attention([(0, 0)], keys=[1], queries=[])),
        ("from 0 on, not -1", lambda: model.block_attention([(0, 0)], keys=[-1])),
        ("from 0 on, not -2", lambda: model.block_attention([(0, 0)], keys=[0], queries=[-2])),
        ("sees a key at 7 or later", lambda: model.block_attention([(0, 0)], keys=[7], queries=[3])),
        ("Queries are positions", lambda: model.record(torch.tensor([3]), TopKeys(1))),
        ("Queries are positions", lambda: model.record(torch.tensor([[3.0]]), TopKeys(1))),
        ("needs a reader", lambda: model.record(torch.tensor([[3]]))),
        ("is no reader", lambda: model.record(torch.tensor([[3]]), HeadOutputs)),
        ("is no reader", lambda: model.record(torch.tensor([[3]]), "weights")),
        ("WeightAt has keys for 2 queries", lambda: model.record(torch.tensor([[3]]), WeightAt(torch.zeros(1, 2, 1).long()))),
    ]  # fmt: skip
    for message, opening in wrong:
        with pytest.raises(ArgumentError, match=message), opening():
            pass
    for message, making in (("1 or more", lambda: TopKeys(0)), ("1 or more", lambda: Weights(0))):
        with pytest.raises(ArgumentError, match=message):
            making()
    with pytest.raises(ArgumentError, match="no phase 'decoding'"):
        model.extend(model.prefix(), [IDS], phase="decoding")  # type: ignore[arg-type]
    assert (model.hooks.edits, model.hooks.observers) == ([], [])


def test_what_does_not_fit_the_text_or_the_batch_is_refused():
    model = tiny("llama")
    with (
        pytest.raises(UserError, match="Position 30 of the block is in no text"),
        model.block_attention([(0, 0)], keys=[30]),
    ):
        model.prefix(IDS)
    prefix = model.prefix(IDS[:12])
    with (
        pytest.raises(UserError, match="No query of the block was read"),
        model.block_attention([(0, 0)], keys=[2], queries=[5]),
    ):
        model.extend(prefix, [IDS[12:]])
    for n_rows in (2, 4):
        grid = torch.zeros(n_rows, LAYERS, HEADS, dtype=torch.bool)
        with pytest.raises(UserError, match=f"has {n_rows} rows and the batch 3"), model.edit_heads(grid):
            model.extend(model.rows(3), [IDS] * 3)
        queries = torch.zeros(n_rows, 1, dtype=torch.long)
        with pytest.raises(UserError, match=f"for {n_rows} rows and the batch 3"), model.record(queries, TopKeys(1)):
            model.extend(model.rows(3), [IDS] * 3)
    one = model.edit_heads([(0, 0)], "mean", means=torch.zeros(LAYERS, HEADS, 1))
    with pytest.raises(ArgumentError, match="writes 16 numbers and a mean has 1"), one:
        model.prefix(IDS)
    with pytest.raises(ArgumentError, match="no room for a key"), model.record(torch.arange(N)[None], Weights(9)):
        model.prefix(IDS)
    rows = stack([model.prefix(IDS[:5]), model.prefix(IDS[:7])]).select([1])
    with model.edit_heads(torch.zeros(2, LAYERS, HEADS, dtype=torch.bool)):  # rows left behind still count
        model.extend(rows, [IDS[7:]])
