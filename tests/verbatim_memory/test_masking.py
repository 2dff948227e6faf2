"""Where heads look at a repeated list, and what silencing them does: by hand, against eager attention, on a planted head."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from interp.errors import ArgumentError, UserError
from interp.models.check.check import check
from interp.models.check.verdicts import Verdict
from interp.models.identity import ModelIdentity
from interp.models.language.model import LanguageModel
from interp.models.language.word_tokens import EncodedWords
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.findings import _masks
from probes.verbatim_memory.heads import (
    Mask,
    check_maskable,
    look_masses,
    looks_of,
    measure_looks,
    measure_masks,
    plan_masks,
    ranked_by_look,
)
from probes.verbatim_memory.lists import FirstList
from probes.verbatim_memory.plan import ListUnit
from probes.verbatim_memory.summaries import summarise_masking
from probes.verbatim_memory.tables import ListAttention, Masking, MaskingSummary
from probes.verbatim_memory.trials import Trial
from tests.planted import COPY_HEAD, IDS, PREVIOUS_HEAD, copy_hf, copying_head, distance_head, plant, word_tokenizer
from tests.tiny_models import random_ids, tiny

NOUNS = ("lantern", "barrels", "chapel", "bells")


def trial(
    ids: list[int], n_before: int, n_between: int, widths: tuple[int, ...] = (1, 1, 1), name: str = "00-0"
) -> Trial:
    """A trial whose lists have nouns of the given numbers of tokens, a comma after each."""
    spans, end = [], 0
    for width in widths:
        spans.append((end, end + width))
        end += width + 1
    one = EncodedWords(NOUNS[: len(widths)], tuple(range(end)), tuple(spans))
    first = FirstList(int(name[:2]), int(name[3:]), one.words)
    return Trial(first, tuple(ids), (one, one), (n_before, n_before + end + n_between))


def test_looks_are_taken_from_the_token_before_a_noun_to_the_same_noun_and_its_neighbours():
    # positions: 0-3 text, list 1: nouns at 4, 6-7, 9; commas at 5, 8, 10; 11-12 text; list 2: 13, 15-16, 18
    queries, keys = looks_of(trial(list(range(20)), 4, 2, widths=(1, 2, 1)))
    assert queries.tolist() == [14, 17]  # the first noun is left out
    assert keys.tolist() == [[5, 6, 13, 12, 11], [8, 9, 16, 15, 14]]


def test_masses_are_the_weight_before_on_and_just_behind():
    masses = look_masses(torch.tensor([[0.1, 0.2, 0.3, 0.05, 0.15]]))
    assert {name: round(float(mass), 6) for name, mass in masses.items()} == {
        "matching": 0.1,
        "postmatch": 0.2,
        "recent": 0.5,
    }


def test_masses_are_those_of_eager_attention():
    model = tiny("llama")
    trials = [trial(random_ids(20, seed), 4, 2, widths=(1, 2, 1), name=f"0{seed}-0") for seed in range(2)]
    table = ListAttention.validate(measure_looks(model, trials).assign(model="m"))
    model.hf.set_attn_implementation("eager")
    for one in trials:
        with torch.no_grad():
            whole = model.hf(torch.tensor([one.ids]), output_attentions=True).attentions
        rows = table[table["trial_id"] == one.first.id]
        assert len(rows) == 3 * 4
        for row in rows.itertuples():
            weights = whole[row.layer][0, row.head]
            assert row.matching == pytest.approx(float(weights[14, 5] + weights[17, 8]) / 2, abs=1e-5)
            assert row.postmatch == pytest.approx(float(weights[14, 6] + weights[17, 9]) / 2, abs=1e-5)
            recent = weights[14, [11, 12, 13]].sum() + weights[17, [14, 15, 16]].sum()
            assert row.recent == pytest.approx(float(recent) / 2, abs=1e-5)


def test_heads_are_ranked_by_their_mean_over_trials_and_ties_by_place():
    table = pd.DataFrame(
        {"layer": [0, 0, 1, 0, 0, 1], "head": [0, 1, 0, 0, 1, 0], "postmatch": [0.2, 0.5, 0.3, 0.4, 0.0, 0.3]}
    )
    assert ranked_by_look(table, "postmatch") == [(0, 0), (1, 0), (0, 1)]


@pytest.mark.parametrize("phase", ["second_list", "everything"])
def test_a_mask_reads_as_the_model_with_these_heads_silent(phase):
    model = tiny("llama")
    one = trial(random_ids(20), 4, 2, widths=(1, 2, 1))
    masks = [
        Mask("none", "none", 0, 0, ()),
        Mask("postmatch", "top", 2, 0, ((0, 1), (2, 3))),
        Mask("postmatch", "random", 2, 0, ((0, 0), (2, 1))),
        Mask("recent", "top", 2, 0, ((0, 1), (2, 3))),
    ]
    table = measure_masks(model, one, masks, phase)
    assert set(table["list_index"]) == ({2} if phase == "second_list" else {1, 2})
    ids = list(one.ids)
    for mask in masks:
        if phase == "second_list":
            row = model.prefix(ids[:12])
            with model.edit_heads(mask.heads):
                nats = torch.cat([torch.full((12,), float("nan")), model.surprisal([ids[12:]], row)[0]])
        else:
            with model.edit_heads(mask.heads):
                nats = model.surprisal([ids])[0]
        rows = table[(table["head_set"] == mask.head_set) & (table["control"] == mask.control)]
        for found in rows.itertuples():
            start, end = one.noun_spans(found.list_index)[found.position]
            assert found.surprisal_nats == pytest.approx(float(nats[start:end].sum()), abs=1e-4)
    whole = table[table["control"] == "none"]["surprisal_nats"].to_numpy()
    changed = table[table["control"] == "top"]["surprisal_nats"].to_numpy()
    assert np.abs(np.concatenate([whole, whole]) - changed).max() > 1e-2


def planted_trial(order: tuple[int, ...]) -> Trial:
    """Words of the planted vocabulary: six words, four nouns, five words, four nouns in some order."""
    nouns = [IDS[f" {noun}"] for noun in NOUNS]
    before = [IDS[" the"]] * 6
    first = [id for noun in nouns for id in (noun, IDS["?"])]
    second = [id for index in order for id in (nouns[index], IDS["?"])]
    one = trial([*before, *first, *before[:5], *second], 6, 5, widths=(1, 1, 1, 1))
    lists = one.lists[0], EncodedWords(tuple(NOUNS[i] for i in order), one.lists[1].ids, one.lists[1].spans)
    return Trial(one.first, one.ids, lists, one.starts)


def test_a_planted_head_carries_the_list_and_silencing_it_alone_destroys_it():
    """From before a noun of list 2 the planted head looks exactly to that noun in list 1 and says it."""
    distance = 8 + 5 - 1  # a list, the text between, less one: the token before a noun predicts it
    hf = copy_hf(back=distance)
    plant(hf, PREVIOUS_HEAD, distance_head())
    plant(hf, COPY_HEAD, copying_head(writes=False))
    model = LanguageModel(hf, word_tokenizer(), ModelIdentity("planted", "tests", "0", "float32"))
    ranking = ranked_by_look(measure_looks(model, [planted_trial((0, 1, 2, 3))]), "postmatch")
    assert ranking[0] == PREVIOUS_HEAD
    masks = plan_masks({"postmatch": ranking}, ks=(1,), draws=3, n_heads=4, seed=0)
    assert [mask.control for mask in masks] == ["none", "top", "random", "random", "random"]
    frames = []
    for condition, order in (("repeat", (0, 1, 2, 3)), ("permute_strict", (1, 0, 3, 2))):
        table = measure_masks(model, planted_trial(order), masks, "everything")
        frames.append(table.assign(model="m", condition=condition, list_length=4, intervening_tokens=5))
    masking = Masking.validate(pd.concat(frames, ignore_index=True))
    summary = MaskingSummary.validate(summarise_masking(masking, pd.DataFrame(), seed=0).assign(model="m"))
    value = summary.set_index(["condition", "control"])["value"]
    assert value["repeat", "none"] < 2
    assert value["repeat", "random"] < 2
    assert value["repeat", "top"] > 90
    assert value["permute_strict", "none"] > 120  # it insists on the old order
    assert value["permute_strict", "top"] == pytest.approx(100, abs=10)


def test_controls_are_of_the_same_layers_and_too_many_heads_are_refused():
    ranking = [(0, 0), (1, 1), (1, 2), (2, 0), (0, 1), (0, 2)]
    masks = plan_masks({"a": ranking}, ks=(3, 1, 3), draws=2, n_heads=4, seed=0)
    assert [(mask.control, mask.k) for mask in masks] == [
        ("none", 0),
        *[("top", 1), ("random", 1), ("random", 1)],
        *[("top", 3), ("random", 3), ("random", 3)],
    ]
    for mask in masks[5:]:
        assert [layer for layer, _ in mask.heads] == [0, 1, 1]
        assert not set(mask.heads) & set(ranking[:3])
    with pytest.raises(ArgumentError, match="use smaller values of --mask-k"):
        plan_masks({"a": [(0, head) for head in range(4)]}, ks=(3,), draws=1, n_heads=4, seed=0)


def masking_rows(control: str, k: int, draw: int, base: int, nats: list[float]) -> list[dict]:
    return [
        dict(
            model="m", head_set="none" if control == "none" else "a", control=control, k=k, draw=draw, heads="",
            trial_id=f"{base:02d}-0", base_list=base, condition="repeat", list_length=3, intervening_tokens=9,
            list_index=2, position=position, noun="x", surprisal_nats=value,
        )
        for position, value in enumerate(nats)
    ]  # fmt: skip


def test_the_summary_is_the_median_of_ratios_and_random_draws_are_averaged_within_trials():
    firsts = pd.DataFrame(
        [
            dict(
                list_index=1, position=position, variant="none", mode="raw", context_type="intact", pool="p",
                list_length=3, trial_id=f"{base:02d}-0", surprisal_nats=10.0 * (base + 1),
            )
            for base in range(3)
            for position in range(3)
        ]
    )  # fmt: skip
    rows = []
    for base in range(3):
        unit = 10.0 * (base + 1)  # list 1 of each trial, so that ratios are easy to read
        rows += masking_rows("none", 0, 0, base, [99.0, 0.1 * unit, 0.1 * unit])
        rows += masking_rows("top", 2, 0, base, [99.0, (0.4 + 0.1 * base) * unit, (0.6 + 0.1 * base) * unit])
        rows += masking_rows("random", 2, 0, base, [99.0, 0.1 * unit, 0.1 * unit])
        rows += masking_rows("random", 2, 1, base, [99.0, 0.3 * unit, 0.3 * unit])
    summary = summarise_masking(pd.DataFrame(rows), firsts, seed=0).set_index("control")
    assert summary["value"].round(6).to_dict() == {"none": 10.0, "top": 60.0, "random": 20.0}
    assert summary.loc["top", "beyond_random"] == pytest.approx(40.0)
    # The trials' own are 30, 40, 50. Of 27 draws the median is 30 in 7 and 50 in 7; three lists: t of two degrees of freedom.
    half = 4.302653 * np.sqrt(14 / 27 * 100 * 3 / 2)
    interval = summary.loc["top", ["beyond_random_ci_low", "beyond_random_ci_high"]].tolist()
    assert interval == pytest.approx([40 - half, 40 + half], abs=2.0)
    assert summary["n_draws"].to_dict() == {"none": 1, "top": 1, "random": 2}
    assert summary["n_base_lists"].tolist() == [3, 3, 3]


def test_a_run_without_masks_has_an_empty_summary():
    assert len(MaskingSummary.validate(summarise_masking(pd.DataFrame(), pd.DataFrame(), seed=0))) == 0


def test_a_model_whose_heads_cannot_be_masked_is_refused_at_the_first_unit_with_the_way_to_read_lists_all_the_same():
    model = tiny("jetmoe")
    model.obey(check(model))
    unit = ListUnit("lists", "none", "arbitrary", 3, (0,), (("intact", 1),))
    with pytest.raises(
        UserError, match=r"^Heads cannot be masked: JetMoe.* docs/adding_a_model\.md\. .*use --mask-sets with"
    ):
        VerbatimMemory().measure(model, unit)
    check_maskable(tiny("mamba"), "second_list")  # no heads: no masks are planned


def test_masks_from_the_first_token_on_need_no_branches():
    model = tiny("llama")
    found = check(model)
    kept = {**found.by_name, "forks": Verdict("off by 3")}
    model.obey(dataclasses.replace(found, by_name=kept))
    with pytest.raises(UserError, match=r"on `forks` \(off by 3\)\. .* use --mask-phase everything, or --mask-sets"):
        check_maskable(model, "second_list")
    check_maskable(model, "everything")
    under = measure_masks(model, trial(random_ids(20, 3), 4, 2), [Mask("none", "none", 0, 0, ())], "everything")
    assert under["surprisal_nats"].notna().all()


@pytest.mark.parametrize(("strongest", "warned"), [(0.7, True), (0.4, False)])
def test_a_draw_of_random_heads_that_does_as_much_is_told_of(strongest, warned):
    """Twelve lists that all cost half without the top heads, and a tenth or more without the draws: their mean is no bar."""
    firsts = pd.DataFrame(
        dict(
            list_index=1, position=position, variant="none", mode="raw", context_type="intact", pool="p", list_length=3,
            trial_id=f"{base:02d}-0", surprisal_nats=10.0,
        )
        for base in range(12)
        for position in range(3)
    )  # fmt: skip
    rows = []
    for base in range(12):
        for control, k, draw, share in (
            ("none", 0, 0, 0.1),
            ("top", 2, 0, 0.5),
            ("random", 2, 0, 0.1),
            ("random", 2, 1, strongest),
        ):
            cost = 10.0 * share + 0.1 * (base % 3)
            rows += masking_rows(control, k, draw, base, [99.0, cost, cost])
    masking = pd.DataFrame(rows)
    masking = pd.concat([masking, masking[masking["control"] != "random"].assign(condition="novel")])
    tables = {
        "masking": masking,
        "token_surprisals": firsts,
        "masking_summary": summarise_masking(masking, firsts, seed=0),
    }
    told = [finding.text for finding in _masks(tables)]
    assert len([text for text in told if "draws of random heads makes" in text]) == warned, told
