"""Families of other kinds: heads in some layers, sinks, latents, no interface, inside multimodal models. Each against transformers' own."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from interp.errors import UserError
from interp.heads.finding import role_rows
from interp.models.check.check import check
from interp.models.language.adapted.adapter import adapter_of
from interp.models.language.architecture import attention_modules, output_projection
from interp.models.language.model import LanguageModel
from interp.models.language.prefix import stack
from interp.models.language.recording import HeadOutputs, WeightAt, Weights
from tests.tiny_models import FAMILIES as USUAL
from tests.tiny_models import REACHED, random_ids, tiny, tiny_hf

N = 40
IDS = random_ids(N, seed=7)
HYBRIDS = {"bamba": (1, 3), "jamba": (1, 3), "lfm2": (1, 3), "qwen3_next": (1, 3), "falcon_h1": (0, 1, 2)}
NO_SUM = {"bloom", "mpt"}  # other parts of their layers add the residual stream to what they write
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 0.15}
FAMILIES = [family for family in REACHED if family != "jetmoe"]
SOON = ("bamba", "gpt_oss", "deepseek_v3", "gptj", "gpt_neo")
"""One family of each kind; the others, and half precision, are slow by nature."""


def each(
    families: Sequence[str], dtypes: Sequence[torch.dtype] = (torch.float32, torch.bfloat16)
) -> pytest.MarkDecorator:
    """Runs a test on every family in every precision."""
    slow = pytest.mark.slow
    cases = [(family, dtype) for family in families for dtype in dtypes]
    return pytest.mark.parametrize(
        ("family", "dtype"),
        [
            pytest.param(
                *case, marks=() if case[0] in SOON and case[1] == torch.float32 else slow, id=f"{case[0]}-{case[1]}"
            )
            for case in cases
        ],
    )


def close(found: Tensor, wanted: Tensor, dtype: torch.dtype = torch.float32, exact: Tensor | None = None) -> None:
    """In half precision three quarters of the rows, in units of the spread: a rounding may send a token to another expert.

    With what float32 has it `exact`ly, up to three times as far as transformers' own half precision is from that.
    """
    allowed = TOLERANCE[dtype] if exact is None else max(TOLERANCE[dtype], 3 * _off(wanted, exact, dtype))
    assert _off(found, wanted, dtype) <= allowed


def _off(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> float:
    off = (found.float() - wanted.float()).abs().flatten(0, -2).amax(dim=-1) / wanted.float().std()
    return float(off.max() if dtype == torch.float32 else torch.quantile(off, 0.75))


def checked(family: str, dtype: torch.dtype = torch.float32, **changes: Any) -> LanguageModel:
    """The tiny model as `load` hands it out."""
    model = tiny(family, **changes)
    model.hf.to(dtype)
    model.obey(check(model))
    return model


class Plain:
    """The same weights in transformers' own hands, eager."""

    def __init__(self, family: str, dtype: torch.dtype = torch.float32) -> None:
        self.hf: Any = tiny_hf(family, attention="eager").to(dtype)
        wrapped = tiny(family)  # tells the attention modules of families that do not say it themselves
        names = {module: name for name, module in wrapped.hf.named_modules()}
        self.modules = [self.hf.get_submodule(names[module]) for module in wrapped.attention_modules]
        self.projections = [
            self.hf.get_submodule(names[output_projection(module)]) for module in wrapped.attention_modules
        ]

    def read(self, ids: list[int]) -> Tensor:
        with torch.no_grad():
            return self.hf(torch.tensor([ids]), use_cache=False).logits[0]

    def looked(self, ids: list[int]) -> tuple[list[Tensor], list[Tensor]]:
        """Attention weights and what enters the output projection, a tensor for each layer with heads."""
        weights: list[Tensor] = []
        entered: list[Tensor] = []
        handles = [m.register_forward_hook(lambda _, __, made: weights.append(made[1][0])) for m in self.modules]
        handles += [p.register_forward_pre_hook(lambda _, given: entered.append(given[0][0])) for p in self.projections]
        with torch.no_grad():
            self.hf(torch.tensor([ids]), use_cache=False, output_attentions=True)
        for handle in handles:
            handle.remove()
        return weights, entered


# ---------------------------------------------------------------------- the check, rows, outputs, edits


@each(
    [*FAMILIES, *(family for family in USUAL if family != "falcon-alibi")], [torch.float32]
)  # right by its fused attention
def test_branches_that_read_one_token_at_a_time_read_as_whole_texts_do(family, dtype):
    model = checked(family, dtype)
    branches = model.prefix(IDS[:18]).fork(2)
    texts = [IDS[:18] + IDS[20:23], IDS[:18] + IDS[30:33]]
    plain = Plain(family, dtype)
    whole = torch.stack([plain.read(text) for text in texts])
    for place in range(18, 21):
        found = model.extend(branches, [[text[place]] for text in texts])
        close(found[:, 0], whole[:, place], dtype)


@each(FAMILIES)
def test_every_check_that_can_hold_holds(family, dtype):
    model = checked(family, dtype)
    assert model.verdicts is not None
    refused = {name for name, verdict in model.verdicts.by_name.items() if verdict.refused is not None}
    assert refused == ({"contributions"} if family in NO_SUM else set())


@each(FAMILIES)
def test_rows_and_outputs_are_those_of_transformers_by_the_number_of_the_layer(family, dtype):
    model = tiny(family)
    model.hf.to(dtype)
    weights, entered = Plain(family, dtype).looked(IDS)
    exact = Plain(family).looked(IDS)
    with model.record(torch.arange(N)[None], Weights(N), HeadOutputs()) as recording:
        model.extend(model.prefix(), [IDS], logits="none")
    assert len(recording["weights"]) == model.n_layers
    layers = model.geometry.layers
    assert layers == HYBRIDS.get(family, tuple(range(model.n_layers)))
    for layer, weight, enters, *whole in zip(layers, weights, entered, *exact, strict=True):
        rows, outputs = recording["weights"][layer, 0], recording["head_output"][layer, 0]
        close(rows, weight.reshape(rows.shape), dtype, whole[0].reshape(rows.shape))
        close(outputs.transpose(0, 1).flatten(1), enters, dtype, whole[1])
    for layer in set(range(model.n_layers)) - set(layers):
        assert not recording["weights"][layer].any()


@each(FAMILIES)
def test_a_silenced_head_is_zeros_in_the_output_projection(family, dtype):
    model, plain = tiny(family), Plain(family, dtype)
    model.hf.to(dtype)
    layer, head, n_heads = model.geometry.layers[-1], 2, model.geometry.n_heads
    weight = plain.projections[-1].weight.data
    width = weight.shape[1] // n_heads
    before = plain.read(IDS)
    weight[:, head * width : (head + 1) * width] = 0
    with model.edit_heads([(layer, head)]):
        found = model.extend(model.prefix(), [IDS], logits="all")[0]
    wanted = plain.read(IDS)
    close(found, wanted, dtype)
    assert float((wanted - before).abs().max()) > 0.05 * float(before.float().std())


# ---------------------------------------------------------------------- reading on


@each(FAMILIES)
def test_forks_and_ragged_rows_equal_texts_read_whole(family, dtype):
    model, plain = checked(family, dtype), Plain(family, dtype)
    branches = model.prefix(IDS[:11]).fork(3)
    for start, ends in ((11, (20, 17, 20)), (None, (33, 30, 21))):
        starts = branches.lengths if start is None else [start] * 3
        read = [IDS[a:b] for a, b in zip(starts, ends, strict=True)]
        logits = model.extend(branches, read, logits="all")
    for row, (start, end) in enumerate(zip((20, 17, 20), (33, 30, 21), strict=True)):
        close(logits[row, : end - start], plain.read(IDS[:end])[start:], dtype)
    single = model.prefix(IDS[:30])
    steps = torch.cat([model.extend(single, [[token]], phase="decode") for token in IDS[30:]], dim=1)
    close(steps[0], plain.read(IDS)[30:], dtype)


@each(list(HYBRIDS), (torch.float32,))
def test_a_model_with_states_goes_back_to_where_a_prompt_ended_and_reads_the_rest_again(family, dtype):
    model, plain = checked(family), Plain(family, dtype)
    prefix = model.prefix(IDS[:10])
    model.extend(prefix, [IDS[10:20]])
    model.generate(prefix, [IDS[20:21]], max_new_tokens=4)
    prefix.crop(20)  # where a prompt ended
    close(model.extend(prefix, [IDS[20:26]], logits="all")[0], plain.read(IDS[:26])[20:])
    prefix.crop(15)  # between two ends
    assert prefix.lengths == [15]
    close(model.extend(prefix, [IDS[30:40]], logits="all")[0], plain.read(IDS[:15] + IDS[30:40])[15:])
    assert model.reread(prefix, IDS[:12] + IDS[35:40]) == 5
    rows = stack([prefix, model.prefix(IDS[:9])])
    found = model.extend(rows, [IDS[:4], IDS[9:15]], logits="last")
    close(found[0], plain.read(IDS[:12] + IDS[35:40] + IDS[:4])[-1:])
    close(found[1], plain.read(IDS[:15])[-1:])
    branches = model.prefix(IDS[:10]).fork(2)
    model.extend(branches, [IDS[10:14], IDS[12:18]], phase="decode")
    branches.crop([12, 10])
    found = model.extend(branches, [IDS[12:15], IDS[20:22]], logits="last")
    close(found[0], plain.read(IDS[:15])[-1:])
    close(found[1], plain.read(IDS[:10] + IDS[20:22])[-1:])


def test_states_are_not_read_again_under_other_edits():
    model = checked("bamba")
    prefix = model.prefix(IDS[:20])
    prefix.crop(15)
    with model.edit_heads([(1, 0)]), pytest.raises(UserError, match="cut where a prompt ended, or read it anew"):
        model.extend(prefix, [IDS[20:22]])


def test_a_pass_that_fails_leaves_states_as_they_were():
    model = checked("bamba")
    prefix = model.prefix(IDS[:12])
    head: Any = model.hf.get_output_embeddings()
    broken = head.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.extend(prefix, [IDS[12:20]])
    broken.remove()
    close(model.extend(prefix, [IDS[12:20]], logits="all")[0], Plain("bamba").read(IDS[:20])[12:])


# ---------------------------------------------------------------------- what is said


def test_a_layer_without_heads_has_none_to_edit_or_to_look_at():
    model = tiny("bamba")
    with pytest.raises(IndexError, match=r"there is no head 0-1: of the layers only 1, 3 have attention heads"):
        model.head_grid([(0, 1)])
    assert model.geometry.n_heads_in_all == 8


def test_rows_of_a_model_with_sinks_sum_to_what_the_sinks_leave():
    model = tiny("gpt_oss")
    attention: Any = model.attention_modules[1]
    with model.record(torch.arange(N)[None], Weights(N), lambda rows: {"logits": rows.logits}) as recording:
        model.extend(model.prefix(), [IDS], logits="none")
    scores = recording["logits"][1, 0].exp()
    sink = attention.sinks.exp()[:, None]
    shares = sink / (scores.sum(dim=-1) + sink)
    torch.testing.assert_close(1 - recording["weights"][1, 0].sum(dim=-1), shares, atol=1e-5, rtol=0)
    assert float(shares.max()) > 0.05


@pytest.mark.parametrize("family", ["gptj", "bloom", "mpt"])
def test_an_adapted_model_is_handed_back_as_it_was(family):
    model, plain = tiny(family), Plain(family)
    adapter = adapter_of(model.hf)
    assert adapter is not None
    model.let_go_of_heads("it was asked for")
    assert all(adapter.method not in vars(module) for module in adapter.modules(model.hf))
    close(model.extend(model.rows(1), [IDS], logits="all")[0], plain.read(IDS))


def test_attention_modules_of_a_multimodal_model_are_those_of_its_text():
    modules = attention_modules(tiny_hf("gemma3"))
    assert [type(module).__name__ for module in modules] == ["Gemma3Attention"] * 3


# ---------------------------------------------------------------------- experiments


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bamba", "qwen3_next", "gpt_oss", "deepseek_v3", "gptj", "mpt", "gemma3"])
def test_retrieval_heads_measures_the_same_in_one_batch_and_one_by_one(family):
    from probes.retrieval_heads.measure import measure_samples
    from tests.planted import TOKENS, word_tokenizer
    from tests.retrieval_heads.test_paths import samples_for

    sizes: dict[str, Any] = dict(vocab_size=len(TOKENS))
    if family == "gemma3":
        inner = REACHED[family]["text_config"]
        sizes = dict(text_config=dict(inner, **sizes))
    model = tiny(family, tokenizer=word_tokenizer(), **sizes)
    model.obey(check(model))
    contributions = family not in NO_SUM
    samples = [sample for sample in samples_for("llama", n_needles=1) if sample.has_needle]
    shared = measure_samples(model, samples, max_new_tokens=4, stop_ids=[], sharing=True, contributions=contributions)
    single = [
        measure_samples(model, [sample], max_new_tokens=4, stop_ids=[], sharing=True, contributions=contributions)
        for sample in samples
    ]
    for name, exact in (
        ("sample_head_scores", ["sample_id", "layer", "head", "hits"]),
        ("samples", ["answer_token_ids"]),
    ):
        alone = pd.concat([frames[name] for frames in single], ignore_index=True)
        keys = [column for column in ("sample_id", "layer", "head") if column in alone]
        found, wanted = (frame.sort_values(keys, ignore_index=True)[exact] for frame in (shared[name], alone))
        pd.testing.assert_frame_equal(found, wanted)
    assert set(shared["sample_head_scores"]["layer"]) == set(model.geometry.layers)


@pytest.mark.parametrize("family", ["bamba", "gpt_oss", "deepseek_v3", "xglm"])
def test_where_heads_look_in_lists_is_told_by_the_number_of_the_layer(family):
    from probes.verbatim_memory.heads import measure_looks
    from tests.verbatim_memory.test_masking import trial

    model = checked(family)
    attention = measure_looks(
        model, [trial(random_ids(20, seed), 4, 2, widths=(1, 2, 1), name=f"0{seed}-0") for seed in range(2)]
    )
    assert set(attention["layer"]) == set(model.geometry.layers)
    assert len(attention.drop_duplicates(["layer", "head"])) == model.geometry.n_heads_in_all
    assert (attention[["matching", "recent"]] > 0).all(axis=None)


@pytest.mark.parametrize("family", ["bamba", "llama"])
def test_each_row_is_looked_at_for_its_own_keys_where_rows_of_different_length_are_read_in_groups(family):
    model = checked(family)
    texts = [IDS[:17], IDS[5:30], IDS[10:27]]
    queries, keys = torch.tensor([[16], [24], [12]]), torch.tensor([[[3, 9]], [[20, 1]], [[12, 0]]])
    with model.record(queries, WeightAt(keys)) as recording:
        model.extend(model.rows(3), texts, logits="none")
    together = recording["weight_at"]
    for row, text in enumerate(texts):
        with model.record(queries[row : row + 1], WeightAt(keys[row : row + 1])) as recording:
            model.extend(model.rows(1), [text], logits="none")
        close(together[:, row], recording["weight_at"][:, 0])


def test_only_heads_that_are_there_get_a_role():
    model = checked("bamba")
    rows = role_rows(model, "text", "retrieval", torch.arange(16.0).reshape(4, 4))
    assert list(rows["layer"]) == [1] * 4 + [3] * 4
    assert list(rows["head"]) == [0, 1, 2, 3] * 2
    assert list(rows["score"]) == [4, 5, 6, 7, 12, 13, 14, 15]
