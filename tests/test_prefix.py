"""What is read once and continued equals what is read whole, and a pass that fails changes nothing."""

from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from interp.errors import UserError
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import Prefix, stack
from tests.reading import IDS, ROWS, close, count_reads, shared, whole
from tests.tiny_models import FAMILIES, tiny


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
    monkeypatch.setattr("interp.models.language.forward.CHUNK_TOKENS", 7)
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
