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
from transformers import AttentionInterface, DynamicCache

import interp.models.language.adapted.alibi
import interp.models.language.forward
from interp.errors import ArgumentError, UserError
from interp.models.language.architecture import output_projection
from interp.models.language.prefix import stack
from interp.models.language.recording import HeadOutputs, TopKeys, WeightAt, Weights
from tests.reading import close
from tests.tiny_models import random_ids, tiny, tiny_hf

LAYERS, HEADS, N, COMMON = 3, 4, 24, 9
IDS = random_ids(N, seed=3)
ROWS = [IDS, IDS[:COMMON] + random_ids(N - COMMON, seed=4)]
FAMILIES = ["llama", "gpt2", "gemma2", "mistral", "falcon-alibi"]
CUTS = {"whole": (N, N), "steps": (13, 13), "shared": (COMMON, COMMON), "ragged": (5, 12), "hf": (20, 20)}
"""Ways to read the two rows, and how many tokens of each are read as prefill; what follows is decode."""


class Wish(NamedTuple):
    """One edit as it is asked for."""

    kind: str
    grid: Tensor
    phase: Any
    means: Tensor | None = None
    keys: tuple[int, ...] = ()
    queries: tuple[int, ...] | None = None


def draw(rng: random.Random, width: int) -> list[Wish]:
    """Two to five edits. Position 0 stays visible, so that no query is left without a key."""
    wishes = []
    for _ in range(rng.randint(2, 5)):
        kind = rng.choice(["zero", "mean", "uniform", "block", "block"])
        phase = rng.choice(["both", "both", "prefill", "decode"])
        grid = torch.tensor([rng.random() < 0.4 for _ in range(2 * LAYERS * HEADS)]).reshape(2, LAYERS, HEADS)
        grid = grid[:1] if kind == "block" or rng.random() < 0.5 else grid
        means = torch.randn(LAYERS, HEADS, width) if kind == "mean" else None
        every_query = phase != "both" or rng.random() < 0.3  # blocks with a phase meet every way's tokens
        keys = tuple(rng.sample(range(1, COMMON if every_query else N - 6), rng.randint(1, 3)))
        queries = None if every_query else tuple(rng.sample(range(max(keys) + 1, N), 4))
        wishes.append(Wish(kind, grid, phase, means, keys, queries))
    return wishes


def opened(model: Any, wishes: list[Wish]) -> ExitStack:
    edits = ExitStack()
    for wish in wishes:
        if wish.kind == "block":
            heads = [tuple(head) for head in wish.grid[0].nonzero().tolist()]
            edit = model.block_attention(heads, keys=wish.keys, queries=wish.queries, phase=wish.phase)
        else:
            edit = model.edit_heads(wish.grid, wish.kind, means=wish.means, phase=wish.phase)
        edits.enter_context(edit)
    return edits


class ByHand:
    """An eager attention, written plainly: scores, then the wishes, one head of one row at a time."""

    def __init__(self, wishes: list[Wish], way: str) -> None:
        self.wishes = wishes
        self.way = way
        self.weights = torch.zeros(LAYERS, 2, HEADS, N, N)
        self.outputs = torch.zeros(LAYERS, 2, HEADS, N, 16)

    def queries_of(self, wish: Wish, row: int) -> Tensor:
        """The positions at which a wish acts."""
        positions, cut = torch.arange(N), CUTS[self.way][row]
        acts = {"both": positions >= 0, "prefill": positions < cut, "decode": positions >= cut}[wish.phase]
        if self.way == "shared" and len(wish.grid) > 1:  # opened once the trunk was read
            acts &= positions >= COMMON
        return acts.nonzero().squeeze(-1)

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
            wishes = [wish for wish in self.wishes if wish.grid[row % len(wish.grid), layer, head]]
            for wish in wishes:
                at = self.queries_of(wish, row)
                if wish.kind == "uniform":
                    scores[at] = 0
                elif wish.kind == "block":
                    at = at if wish.queries is None else at[torch.isin(at, torch.tensor(wish.queries))]
                    may[at[:, None], torch.tensor(wish.keys)] = False
            weights = scores.masked_fill(~may, -torch.inf).softmax(dim=-1)
            result = weights @ value[row, head // group]
            for wish in wishes:  # the one opened last counts
                if wish.kind in ("zero", "mean"):
                    result[self.queries_of(wish, row)] = 0 if wish.means is None else wish.means[layer, head]
            output[row, :, head] = result
            self.weights[layer, row, head] = weights
            self.outputs[layer, row, head] = result
        return output, None


def read(model: Any, way: str, monkeypatch: pytest.MonkeyPatch, late: list[Wish]) -> list[Tensor]:
    """Reads both rows that way; returns each row's logits after its last tokens. `late` opens once a trunk was read."""
    cuts = CUTS[way]
    if way == "shared":
        trunk = model.prefix(IDS[:COMMON])
        with opened(model, late):
            return list(model.extend(trunk.fork(2), [row[COMMON:] for row in ROWS], logits="all", phase="decode"))
    if way == "hf":
        cache = DynamicCache(config=model.hf.config)
        tokens, steps = torch.tensor(ROWS), []
        with torch.no_grad():
            for begin, end in itertools.pairwise([0, *range(cuts[0], N + 1)]):
                steps.append(model.hf(tokens[:, begin:end], past_key_values=cache).logits)
        return list(torch.cat(steps, dim=1))
    rows = model.rows(2)
    with monkeypatch.context() as patch:
        if way == "steps":
            patch.setattr(interp.models.language.forward, "CHUNK_TOKENS", 5)
        logits = model.extend(rows, [row[:cut] for row, cut in zip(ROWS, cuts, strict=True)], logits="all")
        if way != "whole":
            rest = [row[cut:] for row, cut in zip(ROWS, cuts, strict=True)]
            logits = model.extend(rows, rest, logits="all", phase="decode")
            return [own[: len(ids)] for own, ids in zip(logits, rest, strict=True)]
    return list(logits)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(2))
def test_all_open_edits_act_and_recordings_show_what_the_model_saw(family, seed, monkeypatch):
    rng = random.Random(f"{family} {seed}")
    torch.manual_seed(seed)
    model, reference = tiny(family), tiny(family)
    wishes = draw(rng, 16)
    plain = model.extend(model.rows(2), ROWS, logits="all")
    changed = []
    for way in CUTS:
        rng.shuffle(wishes)
        early = [wish for wish in wishes if way != "shared" or len(wish.grid) == 1]
        late = [wish for wish in wishes if way == "shared" and len(wish.grid) > 1]
        hand = ByHand([*early, *late], way)
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setitem(AttentionInterface._global_mapping, "interp", hand.attend)
            patch.setattr(interp.models.language.adapted.alibi, "attend", hand.attend)
            expected = reference.hf(torch.tensor(ROWS), use_cache=False).logits
        with opened(model, early), model.record(torch.arange(N)[None], Weights(N), HeadOutputs()) as recording:
            logits = read(model, way, monkeypatch, late)
        for row in range(2):
            close(logits[row], expected[row, N - len(logits[row]) :])
            first = COMMON if way == "shared" and row == 1 else 0  # what the trunk read is row 0's
            close(recording["weights"][:, row, :, first:], hand.weights[:, row, :, first:], 2e-5)
            close(recording["head_output"][:, row, :, first:], hand.outputs[:, row, :, first:])
        changed.append(not torch.allclose(expected, plain, atol=0.01))
    assert any(changed)


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


def test_a_block_of_a_key_that_a_sliding_window_dropped_is_no_mistake():
    """By the toolkit's own cache and by transformers', which has let go of the key: nothing changes, nothing is refused."""
    model = tiny("mistral", sliding_window=8)
    cache, tokens = DynamicCache(config=model.hf.config), torch.tensor([IDS])
    for reading in ("extend", "hf"):
        with model.block_attention([(0, 0)], keys=[3], queries=[21], phase="decode"), torch.no_grad():
            if reading == "hf":
                model.hf(tokens[:, :20], past_key_values=cache)
                for at in range(20, N):
                    model.hf(tokens[:, at : at + 1], past_key_values=cache)
            else:
                rows = model.rows(1)
                model.extend(rows, [IDS[:20]])
                model.extend(rows, [IDS[20:]], phase="decode")
