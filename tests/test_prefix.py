"""What is read once and continued equals what is read whole; generation and surprisal on top of it equal transformers'."""

import math
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import UserError
from interp.models.architecture import attention_modules, output_projection
from interp.models.language import LanguageModel
from interp.models.prefix import Prefix, stack
from interp.models.recording import HeadOutputs, TopKeys, Weights
from tests.tiny_models import FAMILIES, random_ids, tiny, tiny_hf

N = 48
IDS = random_ids(N, seed=7)
ROWS = [IDS[:9], IDS[20:45], IDS[3:17]]  # 9, 25 and 14 tokens: below and above the sliding windows of 16
LONGROPE: dict[str, Any] = dict(
    max_position_embeddings=128,
    original_max_position_embeddings=32,
    rope_parameters=dict(rope_type="longrope", rope_theta=1e4, short_factor=[1.0] * 8, long_factor=[4.0] * 8),
)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0, equal_nan=True)  # NaN only where both say NaN


@cache
def plain(family: str) -> Any:
    """The same weights in transformers' own hands: no cache, no toolkit."""
    return tiny_hf(family)


@cache
def shared(family: str) -> LanguageModel:
    return tiny(family)


def whole(family: str, ids: list[int], **changes: Any) -> Tensor:
    """Logits [token, vocabulary] of a text read at once by transformers."""
    with torch.no_grad():
        hf = tiny_hf(family, **changes) if changes else plain(family)
        return hf(torch.tensor([ids])).logits[0]


def count_reads(model: LanguageModel) -> list[tuple[int, int]]:
    """A list that grows by (rows, tokens per row) with every forward pass."""
    passes: list[tuple[int, int]] = []
    model.hf.get_input_embeddings().register_forward_hook(
        lambda _, inputs, output: passes.append(tuple(output.shape[:2]))
    )
    return passes


def break_layer(model: LanguageModel, layer: int) -> Any:
    """Makes every pass fail in that layer, after the layers before it have written their keys."""

    def fail(*_: Any) -> None:
        raise RuntimeError("the layer broke")

    return model.attention_modules[layer].register_forward_pre_hook(fail)


# ---------------------------------------------------------------- reading on


@pytest.mark.parametrize("family", FAMILIES)
def test_chosen_cropped_and_ragged_rows_continue_as_if_read_whole(family):
    model = tiny(family)
    rows = stack([model.prefix(row) for row in ROWS], room=5)
    model.extend(rows, [IDS[:4], [], IDS[:7]], logits="none")
    rows.crop([11, 25, 8])
    rows = rows.select([2, 0])
    logits = model.extend(rows, [IDS[30:42], IDS[5:8]], logits="all")
    texts = [ROWS[2][:8] + IDS[30:42], ROWS[0] + IDS[:2] + IDS[5:8]]
    assert (rows.ids, rows.lengths, rows.rows) == (texts, [20, 14], [2, 0])
    close(logits[0], whole(family, texts[0])[8:])
    close(logits[1, :3], whole(family, texts[1])[11:])

    branches = model.prefix(IDS[:18]).fork(3)
    model.extend(branches, [IDS[:3], IDS[9:12], IDS[20:24]], logits="none")
    branches = branches.select([2, 1])
    branches.crop([19, 21])
    logits = model.extend(branches, [IDS[:6], IDS[30:32]])
    close(logits[0, 0], whole(family, IDS[:18] + IDS[20:21] + IDS[:6])[-1])
    close(logits[1, 0], whole(family, IDS[:18] + IDS[9:12] + IDS[30:32])[-1])


TOKENS = st.lists(st.integers(3, 96), max_size=6)


@settings(max_examples=20, deadline=None, derandomize=True, phases=[Phase.generate])  # shrinking takes minutes
@given(data=st.data(), family=st.sampled_from(["llama", "mistral", "gemma2", "gpt2", "falcon-alibi"]))
def test_any_order_of_operations_equals_reading_whole(data, family):
    """The texts are kept in plain lists beside the prefix; whatever is read must give the logits of the whole texts."""
    model = shared(family)
    texts = [data.draw(st.lists(st.integers(3, 96), min_size=1, max_size=20))]
    prefix, trunk = model.prefix(texts[0]), 0
    for _ in range(data.draw(st.integers(1, 4))):
        if len(texts) == 1 and not trunk and data.draw(st.booleans()):
            n_rows, trunk = data.draw(st.integers(1, 3)), len(texts[0])
            prefix, texts = prefix.fork(n_rows), texts * n_rows
        elif data.draw(st.booleans()):
            kept = [data.draw(st.integers(trunk, len(text))) for text in texts]
            prefix.crop(kept)
            texts = [text[:length] for text, length in zip(texts, kept, strict=True)]
        else:
            chosen = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=3))
            prefix, texts = prefix.select(chosen), [texts[row] for row in chosen]
        new = [data.draw(TOKENS) for _ in texts]
        new[-1] = new[-1] or [5]
        logits = model.extend(prefix, new, logits="all")
        for row, (text, read) in enumerate(zip(texts, new, strict=True)):
            if read:
                close(logits[row, : len(read)], whole(family, text + read)[len(text) :])
        texts = [text + read for text, read in zip(texts, new, strict=True)]
        assert prefix.ids == texts
        assert prefix.lengths == [len(text) for text in texts]


@pytest.mark.parametrize(
    ("wanted", "n_read"),
    [
        (IDS[:20], 0),
        (IDS[:12], 0),
        ([], 0),
        (IDS[:30], 10),
        (IDS[:8] + IDS[40:44], 4),
        (IDS[1:20], 19),
    ],
)
def test_rereading_keeps_the_common_beginning_and_counts_what_it_reads(wanted, n_read):
    model = tiny("llama")
    prefix = model.prefix(IDS[:20])
    passes = count_reads(model)
    assert model.reread(prefix, wanted) == n_read
    assert sum(tokens for _, tokens in passes) == n_read
    assert prefix.ids == [wanted]
    close(model.extend(prefix, [[50]])[0, 0], whole("llama", [*wanted, 50])[-1])


def test_rereading_several_rows_is_refused():
    model = tiny("llama")
    rows = stack([model.prefix(IDS[:5]), model.prefix(IDS[20:29])])
    with pytest.raises(ValueError, match="single"):
        model.reread(rows, IDS[:5])
    assert rows.ids == [IDS[:5], IDS[20:29]]


def test_a_copied_row_is_independent_of_its_source():
    model = tiny("llama")
    source = model.prefix(IDS[:10])
    rows = stack([model.prefix(IDS[30:42]), source])
    model.extend(source, [IDS[10:14]], logits="none")
    rows.put(0, source)
    source.crop(2)
    model.extend(source, [IDS[40:]], logits="none")
    logits = model.extend(rows, [[50], [51]])
    close(logits[0, 0], whole("llama", [*IDS[:14], 50])[-1])
    close(logits[1, 0], whole("llama", [*IDS[:10], 51])[-1])


def test_rows_that_have_read_nothing_can_be_stacked():
    model = tiny("llama")
    rows = stack([model.prefix(IDS[:5]), model.prefix()])
    logits = model.extend(rows, [IDS[5:9], IDS[20:24]])
    close(logits[0, 0], whole("llama", IDS[:9])[-1])
    close(logits[1, 0], whole("llama", IDS[20:24])[-1])


# ---------------------------------------------------------------- sharing a trunk


def test_a_trunk_is_held_while_any_branch_lives_and_free_when_the_last_is_dropped():
    model = tiny("llama")
    trunk = model.prefix(IDS[:10])
    first = trunk.fork(2)
    second = first.select([1])
    del first
    attempts = [
        lambda: trunk.crop(5),
        lambda: model.extend(trunk, [[7]]),
        lambda: model.reread(trunk, IDS[:4]),
        lambda: trunk.put(0, model.prefix([3])),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match="branches of this prefix are in use"):
            attempt()
    assert trunk.ids == [IDS[:10]]
    close(model.extend(second, [[50]])[0, 0], whole("llama", [*IDS[:10], 50])[-1])
    del second
    model.reread(trunk, IDS[:6])
    close(model.extend(trunk, [[50]])[0, 0], whole("llama", [*IDS[:6], 50])[-1])


def test_what_sharing_and_lengths_do_not_allow_is_refused():
    model = tiny("llama")
    trunk = model.prefix(IDS[:10])
    branch = trunk.fork(1)
    model.extend(branch, [IDS[10:14]], logits="none")
    for length in (9, 15, -1):
        with pytest.raises(ValueError, match=f"cannot crop a row of 14 tokens, 10 shared, to {length}"):
            branch.crop(length)
    pair = stack([model.prefix(IDS[:3]), model.prefix(IDS[:4])])
    for prefix in (branch, pair):
        with pytest.raises(ValueError, match="can be forked"):
            prefix.fork(2)
        with pytest.raises(ValueError, match="can be copied"):
            stack([prefix])
    with pytest.raises(ValueError, match="can be copied"):
        branch.put(0, model.prefix(IDS[:3]))
    for ids in ([[5]], [[], []], [[5], []]):  # too few rows; nothing at all; last logits of a row that reads nothing
        with pytest.raises(ValueError, match="2 rows cannot read"):
            model.extend(pair, ids)
    assert branch.ids == [IDS[:14]]
    assert pair.ids == [IDS[:3], IDS[:4]]


# ---------------------------------------------------------------- passes that fail


@pytest.mark.parametrize("n_read", [0, 7])
@pytest.mark.parametrize(
    "continued",
    [lambda prefix: prefix, lambda prefix: prefix.fork(1), lambda prefix: prefix.select([0])],
    ids=["itself", "forked", "selected"],
)
def test_a_failed_pass_leaves_the_prefix_as_it_was(n_read, continued):
    model = tiny("llama")
    prefix = model.prefix(IDS[:n_read])
    broken = break_layer(model, 1)
    with pytest.raises(RuntimeError, match="the layer broke"):
        model.extend(prefix, [IDS[20:40]])
    broken.remove()
    assert (prefix.ids, prefix.lengths) == ([IDS[:n_read]], [n_read])
    after = continued(prefix)
    close(model.extend(after, [IDS[n_read:15]])[0, 0], whole("llama", IDS[:15])[-1])


def test_a_failure_between_chunks_can_be_reread(monkeypatch):
    monkeypatch.setattr("interp.models.forward.CHUNK_TOKENS", 7)
    model = tiny("llama")
    prefix = model.prefix(IDS[:5])
    module = model.attention_modules[0]
    broken = module.register_forward_pre_hook(lambda *_: 1 / 0 if prefix.lengths == [12] else None)
    with pytest.raises(ZeroDivisionError):
        model.extend(prefix, [IDS[5:30]])
    broken.remove()
    assert prefix.ids == [IDS[:12]]
    assert model.reread(prefix, IDS[:30]) == 18
    close(model.extend(prefix, [[50]])[0, 0], whole("llama", [*IDS[:30], 50])[-1])


def test_a_text_longer_than_the_window_is_refused_in_a_sentence():
    model = tiny("gpt2", n_positions=20)
    prefix = model.prefix(IDS[:15])
    message = "^The text has 21 tokens but tiny-gpt2 reads 20: shorten it or name a model with a longer window.$"
    with pytest.raises(UserError, match=message):
        model.extend(prefix, [IDS[15:21]])
    assert prefix.ids == [IDS[:15]]
    model.extend(prefix, [IDS[15:20]])


RECURRENT = {
    "mamba": dict(state_size=4, vocab_size=97, hidden_size=32, num_hidden_layers=2),
    "rwkv": dict(attention_hidden_size=32, vocab_size=97, hidden_size=32, num_hidden_layers=2),
}


@pytest.mark.parametrize("family", RECURRENT)
def test_a_model_without_keys_and_values_reads_on_right(family):
    sizes = RECURRENT[family]
    model = tiny(family, **sizes)
    rows = model.rows(2)
    model.extend(rows, [IDS[:20], IDS[5:17]], logits="none")
    logits = model.extend(rows, [IDS[20:30], IDS[40:44]], logits="all")
    close(logits[0], whole(family, IDS[:30], **sizes)[20:])
    close(logits[1, :4], whole(family, IDS[5:17] + IDS[40:44], **sizes)[12:])


def test_a_failed_pass_leaves_rows_without_keys_and_values_as_they_were():
    model = tiny("mamba", **RECURRENT["mamba"])
    rows = model.rows(1)
    model.extend(rows, [IDS[:7]], logits="none")
    broken = model.hf.backbone.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.extend(rows, [IDS[20:30]])
    broken.remove()
    assert rows.ids == [IDS[:7]]


@pytest.mark.parametrize("family", RECURRENT)
def test_a_model_without_keys_and_values_refuses_a_prefix_of_them(family):
    """It would drop the state in silence and give the numbers of a text without its beginning."""
    model = tiny(family, **RECURRENT[family])
    with pytest.raises(UserError, match="has no attention heads"):
        model.prefix(IDS[:5])
    with pytest.raises((UserError, ValueError)):
        model.extend(Prefix.empty(2, 1), [IDS[:5]])


# ---------------------------------------------------------------- rotary embeddings that change with the length


def test_texts_on_either_side_of_the_rotary_switch_equal_transformers(monkeypatch):
    monkeypatch.setattr("interp.models.forward.CHUNK_TOKENS", 7)
    model = tiny("phi3", **LONGROPE)
    for start, end in ((0, 48), (0, 20), (0, 32), (0, 33), (40, 48), (20, 32)):
        logits = model.extend(model.prefix(IDS[:start]), [IDS[start:end]])
        close(logits[0, 0], whole("phi3", IDS[:end], **LONGROPE)[-1])
    prefix = model.prefix(IDS[:20])
    with pytest.raises(UserError, match=r"^tiny-phi3 changes its rotary embedding at 32 tokens, .* below 32 tokens\.$"):
        model.extend(prefix, [IDS[20:34]])
    assert prefix.ids == [IDS[:20]]


@pytest.mark.parametrize(
    ("starts", "ends"),
    [([32], [34]), ([0, 0], [20, 40]), ([20, 40], [25, 45]), ([30, 1], [31, 12])],
    ids=["just before it", "read at once", "one below and one above", "all below, padding above"],
)
def test_rows_around_the_rotary_switch_are_right_or_refused(starts, ends):
    """transformers chooses one embedding for the whole pass, by the largest position in it."""
    model = tiny("phi3", **LONGROPE)
    rows = stack([model.prefix(IDS[:start]) for start in starts]) if all(starts) else Prefix.empty(3, len(starts))
    new = [IDS[start:end] for start, end in zip(starts, ends, strict=True)]
    try:
        logits = model.extend(rows, new)
    except UserError:
        assert rows.lengths == starts
        return
    for row, end in enumerate(ends):
        close(logits[row, 0], whole("phi3", IDS[:end], **LONGROPE)[-1])


@pytest.mark.parametrize("how", ["reread", "crop"])
@pytest.mark.parametrize(("kept", "end"), [(20, 30), (20, 40), (40, 45)])
def test_a_text_cut_back_over_the_rotary_switch_is_right_or_refused(how, kept, end):
    """What was read with 48 tokens was rotated for a long text; a text of 30 that begins with it needs other keys."""
    model = tiny("phi3", **LONGROPE)
    prefix = model.prefix(IDS)
    try:
        if how == "reread":
            model.reread(prefix, [*IDS[:kept], *IDS[10 : 10 + end - kept - 1]])
        else:
            prefix.crop(kept)
            model.extend(prefix, [IDS[10 : 10 + end - kept - 1]], logits="none")
        logits = model.extend(prefix, [[50]])
    except UserError:
        return
    close(logits[0, 0], whole("phi3", [*prefix.ids[0]], **LONGROPE)[-1])
    assert len(prefix.ids[0]) == end


# ---------------------------------------------------------------- generation


def transformers_greedy(hf: Any, ids: list[int], n_tokens: int) -> list[int]:
    tokens = torch.tensor([ids])
    options: Any = dict(max_new_tokens=n_tokens, do_sample=False, eos_token_id=None, pad_token_id=0)
    return hf.generate(tokens, attention_mask=torch.ones_like(tokens), **options)[0, len(ids) :].tolist()


def until(tokens: list[int], stop: set[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in stop), len(tokens))
    return tokens[: end + 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_writes_what_transformers_writes_for_each_row_alone(family):
    model = tiny(family)
    expected = [transformers_greedy(plain(family), row, 12) for row in ROWS]
    written = model.generate(Prefix.empty(3, 3), ROWS, max_new_tokens=12)
    assert written == expected

    trunk = model.prefix(IDS[:20])
    expected = [transformers_greedy(plain(family), IDS[:20] + row, 8) for row in ROWS]
    stop = {expected[0][2], expected[1][5]}
    written = model.generate(trunk.fork(3), ROWS, max_new_tokens=8, stop_ids=sorted(stop))
    assert written == [until(tokens, stop) for tokens in expected]


STARTS = [random_ids(4 + seed, seed=seed) for seed in range(5)]


def test_leaving_ended_rows_behind_changes_neither_tokens_edits_nor_recordings():
    """Five rows, each with a head of its own set to zero, end one by one; each equals the same row alone. All that
    generation reads is the decode phase, so an edit of that phase does there what an edit of both does.
    """
    model = tiny("llama")
    grid = torch.zeros(5, 3, 4, dtype=torch.bool)
    for row in range(5):
        grid[row, row % 3, row % 4] = True
    queries = torch.stack([torch.arange(len(row) - 1, len(row) + 9) for row in STARTS])

    def alone(row: int, stop: list[int]) -> tuple[list[int], Tensor]:
        heads = model.edit_heads(grid[row : row + 1], "zero")
        with heads, model.record(queries[row : row + 1], Weights(20)) as recording:
            written = model.generate(model.prefix(), [STARTS[row]], max_new_tokens=10, stop_ids=stop)[0]
        return written, recording["weights"][:, 0]

    unstopped = [alone(row, [])[0] for row in range(5)]
    stop = [unstopped[3][0], unstopped[1][3], unstopped[4][6]]
    singles = [alone(row, stop) for row in range(5)]
    passes = count_reads(model)
    with model.edit_heads(grid, "zero", phase="decode"), model.record(queries, Weights(20)) as recording:
        written = model.generate(Prefix.empty(3, 5), STARTS, max_new_tokens=10, stop_ids=stop)
    assert len({len(row) for row in written}) >= 3
    assert passes[0][0] == 5 > passes[-1][0]
    for row, (tokens, weights) in enumerate(singles):
        assert written[row] == tokens
        steps = len(tokens)
        close(recording["weights"][:, row, :, :steps], weights[:, :, :steps], 2e-5)


def test_equal_logits_go_to_the_lowest_token():
    model = tiny("llama")
    model.hf.lm_head.weight.zero_()
    assert model.generate(model.prefix(), [IDS[:6]], max_new_tokens=2) == [[0, 0]]
    model.hf.lm_head.weight[[11, 40, 80]] = 1.0  # one score for the three, either side of the others' zero
    assert model.generate(model.prefix(), [IDS[:6]], max_new_tokens=1)[0][0] in (0, 11)


def test_a_prefix_can_be_used_again_after_it_was_cropped():
    model = tiny("llama")
    prefix = model.prefix(IDS[:20])
    first = model.generate(prefix, [IDS[20:25]], max_new_tokens=6)
    assert prefix.ids == [IDS[:25] + first[0][:-1]]  # the last token was written, not read
    prefix.crop(20)
    assert model.generate(prefix, [IDS[20:25]], max_new_tokens=6) == first


def test_a_row_that_has_ended_may_stand_at_the_end_of_the_window():
    """Two rows go on writing far inside the window; the third filled it and has ended."""
    model = tiny("llama", max_position_embeddings=40)
    rows = [IDS[:39], IDS[1:9], IDS[2:12]]
    stop = model.generate(model.prefix(), [rows[0]], max_new_tokens=1)[0]
    alone = [model.generate(model.prefix(), [row], max_new_tokens=8, stop_ids=stop)[0] for row in rows]
    assert [len(row) for row in alone] == [1, 8, 8]
    assert model.generate(Prefix.empty(3, 3), rows, max_new_tokens=8, stop_ids=stop) == alone


def test_a_recording_can_be_opened_on_chosen_rows():
    """Rows keep the number they had in the batch they were chosen from: queries and results go by it."""
    model = tiny("llama")
    chosen = stack([model.prefix(row[:8]) for row in ROWS]).select([2, 1])
    with model.record(torch.tensor([[9]]), TopKeys(1)) as recording:
        model.extend(chosen, [IDS[:4], IDS[:4]])
    with model.record(torch.tensor([[9]]), TopKeys(1)) as alone:
        model.prefix(ROWS[2][:8] + IDS[:4])
    close(recording["top_logit"][:, 2], alone["top_logit"][:, 0])


# ---------------------------------------------------------------- surprisal and means


def surprisal_by_hand(family: str, ids: list[int]) -> Tensor:
    log_p = torch.log_softmax(whole(family, ids), dim=-1)
    return torch.tensor([math.nan, *(-log_p[i - 1, ids[i]].item() for i in range(1, len(ids)))])


@pytest.mark.parametrize("family", FAMILIES)
def test_surprisal_is_minus_log_softmax_of_transformers_logits(family, monkeypatch):
    model = tiny(family)
    surprisal = model.surprisal(ROWS)
    assert surprisal.shape == (3, 25)
    for row, ids in enumerate(ROWS):
        close(surprisal[row, : len(ids)], surprisal_by_hand(family, ids))
        assert surprisal[row, len(ids) :].isnan().all()

    # Behind ragged prefixes: the first token is the last of the context, so that nothing that follows is left unscored.
    monkeypatch.setattr("interp.models.surprisal.LOGITS_AT_ONCE", 97 * 3 * 4)  # four tokens of three rows
    contexts = [IDS[:11], IDS[30:47], IDS[5:9]]
    rows = stack([model.prefix(context[:-1]) for context in contexts])
    surprisal = model.surprisal([[context[-1], *row] for context, row in zip(contexts, ROWS, strict=True)], rows)
    for row, (context, ids) in enumerate(zip(contexts, ROWS, strict=True)):
        expected = surprisal_by_hand(family, context + ids)[len(context) :]
        close(surprisal[row, : len(ids) + 1], torch.cat([torch.tensor([math.nan]), expected]))
    assert rows.lengths == [len(context) + len(ids) for context, ids in zip(contexts, ROWS, strict=True)]


def test_surprisal_is_in_nats():
    model = tiny("llama")
    model.hf.lm_head.weight.zero_()  # every one of the 97 tokens is equally likely: ln 97 = 4.5747
    close(model.surprisal([IDS[:4]])[0], torch.tensor([math.nan, 4.574711, 4.574711, 4.574711]))


@pytest.mark.parametrize("family", FAMILIES)
def test_mean_head_outputs_are_the_mean_input_of_the_output_projection(family):
    model, hf = tiny(family), tiny_hf(family)
    texts = [IDS[:12], IDS[12:42]]
    seen: list[list[Tensor]] = [[], [], []]
    for layer, module in enumerate(attention_modules(hf)):
        keep = lambda _, inputs, layer=layer: seen[layer].append(inputs[0][0])  # noqa: E731
        output_projection(module).register_forward_pre_hook(keep)
    with torch.no_grad():
        for text in texts:
            hf(torch.tensor([text]))
    expected = torch.stack([torch.cat(parts).mean(0) for parts in seen]).unflatten(
        -1, (4, 16)
    )  # 42 tokens, equal weight
    means = model.mean_head_outputs(texts)
    close(means, expected, 2e-5)
    with (
        model.edit_heads([(1, 2)], "mean", means=means),
        model.record(torch.arange(9)[None], HeadOutputs()) as recording,
    ):
        model.prefix(IDS[:9])
    close(recording["head_output"][1, 0, 2], expected[1, 2].expand(9, -1), 2e-5)


@pytest.mark.parametrize(
    ("family", "limit", "at_once"),
    [(family, "interp.models.forward.CHUNK_TOKENS", 5) for family in ("llama", "mistral", "falcon-alibi")]
    + [(family, "interp.models.attention.SCORES_AT_ONCE", 500) for family in ("llama", "gemma2")],
)
def test_how_much_is_read_at_once_changes_no_number(family, limit, at_once, monkeypatch):
    def run() -> tuple[list[list[int]], list[Tensor]]:
        model = tiny(family)
        trunk = model.prefix(IDS[:20])
        queries = torch.tensor([[25, 21, 20], [44, 30, -1], [33, 32, 20]])
        with model.record(queries, Weights(N)) as recording:
            logits = model.extend(trunk.fork(3), ROWS, logits="last")
        written = model.generate(
            stack([model.prefix(row) for row in ROWS]), [row[:8] for row in ROWS], max_new_tokens=5
        )
        return written, [
            logits,
            recording["weights"],
            model.mean_head_outputs(ROWS),
            model.surprisal(ROWS).nan_to_num(),
        ]

    written, numbers = run()
    monkeypatch.setattr(limit, at_once)
    written_in_parts, numbers_in_parts = run()
    assert written_in_parts == written
    for part, number in zip(numbers_in_parts, numbers, strict=True):
        close(part, number)
