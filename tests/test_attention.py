"""Every supported family: our attention is transformers' attention, seen through caches, ragged batches and shared trunks."""

import pytest
import torch

from interp.errors import UserError
from interp.models.language.prefix import stack
from interp.models.language.recording import HeadOutputs, TopKeys, WeightAt, Weights
from tests.tiny_models import FAMILIES, random_ids, tiny, tiny_hf

N = 40
IDS = random_ids(N)
EAGER_FAMILIES = [family for family in FAMILIES if family != "falcon-alibi"]


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a.float(), b.float(), atol=tolerance, rtol=0)


@pytest.fixture(params=EAGER_FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def eager(family: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [token, vocabulary] and attention [layer, head, query, key] of transformers' eager attention."""
    with torch.no_grad():
        output = tiny_hf(family, attention="eager")(torch.tensor([IDS]), output_attentions=True)
    return output.logits[0], torch.stack(output.attentions)[:, 0]


def test_logits_and_recorded_rows_equal_eager(family, eager):
    model = tiny(family)
    with model.record(torch.arange(N)[None], Weights(N)) as recording:
        logits = model.extend(model.prefix(), [IDS], logits="all")
    close(logits[0], eager[0])
    close(recording["weights"][:, 0], eager[1], 2e-5)


def test_rows_of_different_length_need_no_padding(family, eager):
    model = tiny(family)
    rows = stack([model.prefix(IDS[:10]), model.prefix(IDS[:17])])
    queries = torch.stack([torch.arange(10, 33), torch.arange(17, 40)])
    with model.record(queries, Weights(N)) as recording:
        logits = model.extend(rows, [IDS[10:33], IDS[17:]], logits="all")
    close(logits[0], eager[0][10:33])
    close(logits[1], eager[0][17:])
    close(recording["weights"][:, 0], eager[1][:, :, 10:33], 2e-5)
    close(recording["weights"][:, 1], eager[1][:, :, 17:], 2e-5)


def test_branches_share_a_trunk(family, eager):
    model = tiny(family)
    branches = model.prefix(IDS[:10]).fork(3)
    queries = torch.tensor([[10, 39], [10, 19], [12, -1]])
    with model.record(queries, Weights(N)) as recording:
        logits = model.extend(branches, [IDS[10:], IDS[10:20], IDS[10:33]], logits="last")
    for row, end in enumerate((40, 20, 33)):
        close(logits[row, 0], eager[0][end - 1])
    close(recording["weights"][:, 0], eager[1][:, :, [10, 39]], 2e-5)
    close(recording["weights"][:, 2, :, 0], eager[1][:, :, 12], 2e-5)
    assert (recording["weights"][:, 2, :, 1] == 0).all()


def test_tokens_read_one_by_one_and_in_chunks_give_the_same(family, eager, monkeypatch):
    model = tiny(family)
    prefix = model.prefix()
    single = torch.cat([model.extend(prefix, [[token]]) for token in IDS], dim=1)
    close(single[0], eager[0])
    monkeypatch.setattr("interp.models.language.forward.CHUNK_TOKENS", 7)
    close(model.extend(model.prefix(), [IDS], logits="all")[0], eager[0])


def test_masked_queries_in_blocks_give_the_same(family, eager, monkeypatch):
    monkeypatch.setattr("interp.models.language.attention.QUERIES_AT_ONCE", 7)
    model = tiny(family)
    read_on = model.prefix(IDS[:10])
    close(model.extend(read_on, [IDS[10:]], logits="all")[0], eager[0][10:])
    ragged = stack([model.prefix(IDS[:3]), model.prefix(IDS[:17])], room=N)
    logits = model.extend(ragged, [IDS[3:], IDS[17:]], logits="all")
    close(logits[0], eager[0][3:])
    close(logits[1, : N - 17], eager[0][17:])
    branches = model.prefix(IDS[:10]).fork(2)
    close(model.extend(branches, [IDS[10:], IDS[10:29]], logits="last")[:, 0], eager[0][[N - 1, 28]])


def test_zeroing_a_head_equals_zeroing_the_input_of_the_output_projection(family):
    from interp.models.language.architecture import output_projection

    model, plain = tiny(family), tiny(family)
    width = model.geometry.head_dim
    heads = [(0, 1), (2, 3)]

    def zero(head):
        def hook(_, inputs):
            hidden = inputs[0].clone()
            hidden[..., head * width : (head + 1) * width] = 0
            return (hidden, *inputs[1:])

        return hook

    for layer, head in heads:
        output_projection(plain.attention_modules[layer]).register_forward_pre_hook(zero(head))
    with model.edit_heads(heads, "zero"):
        edited = model.extend(model.prefix(), [IDS], logits="all")
    close(edited, plain.extend(plain.prefix(), [IDS], logits="all"), 1e-6)
    unedited = model.extend(model.prefix(), [IDS], logits="all")
    assert (edited - unedited).abs().max() > 1e-2


@pytest.mark.parametrize("mode", ["zero", "mean", "uniform"])
def test_every_edit_changes_the_logits_and_ends_with_its_block(family, mode):
    model = tiny(family)
    before = model.extend(model.prefix(), [IDS], logits="all")
    means = model.mean_head_outputs([IDS]) if mode == "mean" else None
    with model.edit_heads([(1, 2)], mode, means=means):
        edited = model.extend(model.prefix(), [IDS], logits="all")
    assert (edited - before).abs().max() > 1e-3
    close(model.extend(model.prefix(), [IDS], logits="all"), before, 0)


def test_uniform_attention_is_uniform_over_what_may_be_seen(family):
    model = tiny(family)
    with (
        model.edit_heads([(1, 2)], "uniform"),
        model.record(torch.arange(N)[None], Weights(N)) as recording,
    ):
        model.prefix(IDS)
    weights = recording["weights"][1, 0, 2]
    visible = weights > 0
    assert visible.any(-1).all()
    close(weights, visible / visible.sum(-1, keepdim=True))


ONE_MASK = [family for family in EAGER_FAMILIES if "sliding_window" not in FAMILIES[family] or family == "mixtral"]


@pytest.mark.parametrize("family", ONE_MASK)
def test_blocked_pairs_equal_a_four_dimensional_mask(family):
    """All heads of all layers blocked: the same as a mask given to transformers' own eager attention."""
    model, plain = tiny(family), tiny_hf(family, attention="eager")
    keys, queries = [2, 5, 6], list(range(10, N))
    everywhere = [(layer, head) for layer in range(3) for head in range(4)]
    with model.block_attention(everywhere, keys=keys, queries=queries):
        blocked = model.extend(model.prefix(), [IDS], logits="all")
    may = torch.ones(N, N, dtype=torch.bool).tril()
    may[10:, keys] = False
    mask = torch.where(may, 0.0, torch.finfo(torch.float32).min)[None, None]
    with torch.no_grad():
        expected = plain(torch.tensor([IDS]), attention_mask=mask, position_ids=torch.arange(N)[None]).logits
    close(blocked, expected)


def test_a_blocked_head_renormalises_its_other_weights(family):
    """Layer 0, where the block itself changes no input: the rest of each row, scaled to one, times the values."""
    model = tiny(family)
    keys = [2, 30, 33]

    def values(rows):
        group = rows.weights.shape[1] // rows.values.shape[1]
        per_head = rows.values.repeat_interleave(group, dim=1)
        return {
            "mixed": ((w := rows.weights.index_fill(-1, torch.tensor(keys), 0)) / w.sum(-1, keepdim=True)) @ per_head
        }

    queries = torch.arange(34, N)[None]
    with model.record(queries, values) as unblocked:
        model.prefix(IDS)
    with model.block_attention([(0, 1)], keys=keys), model.record(queries, HeadOutputs()) as recording:
        model.prefix(IDS)
    close(recording["head_output"][0, 0, 1], unblocked["mixed"][0, 0, 1], 1e-5)


def test_blocking_one_head_leaves_the_others_of_its_layer_alone(family):
    model = tiny(family)

    def outputs():
        with model.record(torch.arange(N)[None], HeadOutputs()) as recording:
            model.prefix(IDS)
        return recording["head_output"][:, 0]

    before = outputs()
    with model.block_attention([(1, 2)], keys=[3, 4]):
        after = outputs()
    assert (after[1, 2] - before[1, 2]).abs().max() > 1e-3
    close(after[0], before[0], 0)
    close(after[1, [0, 1, 3]], before[1, [0, 1, 3]], 0)


def test_edits_of_rows_and_of_phases():
    model = tiny("llama")
    grid = torch.zeros(3, 3, 4, dtype=torch.bool)
    grid[1, 1, 2] = True
    trunk = model.prefix(IDS[:20])
    with model.edit_heads(grid, "zero", phase="decode"):
        rows = model.extend(trunk.fork(3), [IDS[20:]] * 3, logits="all", phase="decode")
        untouched = model.extend(trunk.fork(3), [IDS[20:]] * 3, logits="all", phase="prefill")
    with model.edit_heads([(1, 2)], "zero"):
        single = model.extend(trunk.fork(1), [IDS[20:]], logits="all")
    close(rows[1], single[0])
    close(rows[0], rows[2])
    close(untouched[1], rows[0])
    assert (rows[1] - rows[0]).abs().max() > 1e-3


def test_edits_nest():
    model = tiny("llama")
    with model.edit_heads([(0, 0)]), model.edit_heads([(1, 1)]):
        nested = model.extend(model.prefix(), [IDS], logits="all")
    with model.edit_heads([(0, 0), (1, 1)]):
        together = model.extend(model.prefix(), [IDS], logits="all")
    close(nested, together, 0)


def test_edits_act_on_transformers_own_generate():
    model = tiny("llama")
    ids = torch.tensor([IDS])
    options = dict(max_new_tokens=8, do_sample=False, pad_token_id=0)
    before = model.hf.generate(ids, attention_mask=torch.ones_like(ids), **options)
    with model.edit_heads([(layer, head) for layer in range(3) for head in range(4)]):
        after = model.hf.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert before.tolist() != after.tolist()


def test_left_padding_given_to_transformers_is_respected():
    model, plain = tiny("llama"), tiny_hf("llama", attention="eager")
    ids, mask = torch.tensor([[0] * 5 + IDS[:20]]), torch.tensor([[0] * 5 + [1] * 20])
    positions = torch.tensor([[0] * 5 + list(range(20))])
    with torch.no_grad():
        ours = model.hf(ids, attention_mask=mask, position_ids=positions).logits[:, 5:]
        theirs = plain(ids, attention_mask=mask, position_ids=positions).logits[:, 5:]
    close(ours, theirs)


def test_top_keys_take_the_lowest_of_equal_scores():
    model = tiny("llama")
    with model.edit_heads([(0, 0)], "uniform"), model.record(torch.tensor([[N - 1]]), TopKeys(2)) as recording:
        model.prefix(IDS)
    assert recording["top_position"][0, 0, 0, 0].tolist() == [0, 1]
    assert recording["top_logit"][0, 0, 0, 0].tolist() == [0.0, 0.0]


def test_weight_at_reads_single_weights():
    model = tiny("qwen2")
    queries = torch.tensor([[30, 31]])
    keys = torch.tensor([[[3, -1], [31, 4]]])
    with model.record(queries, WeightAt(keys), Weights(N)) as recording:
        model.prefix(IDS)
    weights = recording["weights"][:, 0]
    close(recording["weight_at"][:, 0, :, 0, 0], weights[:, :, 0, 3], 0)
    assert (recording["weight_at"][:, 0, :, 0, 1] == 0).all()
    close(recording["weight_at"][:, 0, :, 1], weights[:, :, 1, [31, 4]], 0)


def test_falcon_with_alibi_equals_the_fused_kernel_of_transformers():
    # transformers' own eager path adds the bias twice there (5.23), so the fused path is the oracle.
    model = tiny("falcon-alibi")
    with torch.no_grad():
        expected = tiny_hf("falcon-alibi", attention="sdpa")(torch.tensor([IDS])).logits
    close(model.extend(model.prefix(), [IDS], logits="all"), expected)
    close(model.extend(model.prefix(IDS[:13]), [IDS[13:]], logits="all"), expected[:, 13:])


def test_a_block_that_leaves_nothing_to_see_is_refused():
    model = tiny("llama")
    with model.block_attention([(0, 0)], keys=[0], queries=[0]), pytest.raises(UserError, match="own position"):
        model.prefix(IDS)


def test_heads_that_are_not_there_are_refused():
    with pytest.raises(IndexError, match="no head 3-0"), tiny("llama").edit_heads([(3, 0)]):
        pass


@pytest.mark.parametrize("family", ["mamba", "rwkv"])
def test_models_without_attention_say_so(family):
    sizes = dict(vocab_size=97, hidden_size=32, num_hidden_layers=2)
    model = tiny(family, **sizes, **({"attention_hidden_size": 32} if family == "rwkv" else {"state_size": 4}))
    with pytest.raises(UserError, match="has no attention heads"), model.record(torch.tensor([[0]]), TopKeys(1)):
        pass
    assert model.facts.geometry is None
