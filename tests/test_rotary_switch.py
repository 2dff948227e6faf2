"""Models that change their rotary embedding with the length of the text: right on both sides, or refused."""

from typing import Any

import pytest
import torch

from interp.errors import UserError
from interp.models.language.prefix import Prefix, stack
from tests.reading import IDS, close, whole
from tests.tiny_models import tiny

LONGROPE: dict[str, Any] = dict(
    max_position_embeddings=128,
    original_max_position_embeddings=32,
    rope_parameters=dict(rope_type="longrope", rope_theta=1e4, short_factor=[1.0] * 8, long_factor=[4.0] * 8),
)


DYNAMIC: dict[str, Any] = dict(
    max_position_embeddings=32, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=4.0)
)


def test_a_text_past_the_trained_length_of_dynamic_ntk_equals_transformers_whatever_was_read_before():
    model = tiny("llama", **DYNAMIC)
    for end in (48, 40, 20, 33, 44):
        logits = model.extend(model.prefix(), [IDS[:end]])
        close(logits[0, 0], whole("llama", IDS[:end], **DYNAMIC)[-1])
    for rows, new in ((model.prefix(IDS[:40]), [IDS[40:48]]), (Prefix.empty(3, 2), [IDS[:40], IDS[:48]])):
        with pytest.raises(UserError, match=r"^tiny-llama changes its rotary embedding at 32 tokens"):
            model.extend(rows, new)
    model.reread(prefix := model.prefix(IDS[:48]), [*IDS[:40], *IDS[:3]])
    close(model.extend(model.prefix(), [prefix.ids[0]])[0, 0], whole("llama", prefix.ids[0], **DYNAMIC)[-1])


@pytest.mark.parametrize("end", [20, 31, 32, 33, 40])
def test_a_longer_text_before_leaves_no_trace_in_a_text_of_any_length(end):
    """transformers keeps the frequencies of the longest text so far: for a text of just the trained length too."""
    model, ids = tiny("llama", **DYNAMIC), torch.tensor([IDS[:end]])
    wanted = whole("llama", IDS[:end], **DYNAMIC)
    model.hf(torch.tensor([IDS[:48]]))
    close(model.hf(ids).logits[0], wanted)
    model.extend(model.prefix(), [IDS[:48]])
    close(model.extend(model.prefix(), [IDS[:end]])[0, 0], wanted[-1])
    prefix = model.prefix(IDS[:10])
    model.extend(model.prefix(), [IDS[:48]])
    if end <= 32:
        close(model.extend(prefix, [IDS[10:end]])[0, 0], wanted[-1])


def test_texts_on_either_side_of_the_rotary_switch_equal_transformers(monkeypatch):
    monkeypatch.setattr("interp.models.language.forward.CHUNK_TOKENS", 7)
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
