"""Rates, tests and correlations on tables written by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.statistics import wilson_interval
from probes.t2i_flow.attention_mass import attention_mass, attention_rates
from probes.t2i_flow.items import choose_repairs, in_item, in_item_rates, inter_item, inter_item_rates, redundant_tokens
from probes.t2i_flow.repair import before_and_after, repair_pairs, repair_rates, repair_table
from probes.t2i_flow.scores import (
    change_of_shares,
    clustered_mcnemar,
    item_views,
    paired_row,
    rate,
    ratio_of_fall,
    readings,
    usual_reading,
)

NAN = math.nan


def answer(
    prompt: str, variant: str, seed: int, item: str, own: float, leak: float | None = None, **more: Any
) -> list[dict[str, Any]]:
    """One picture's rows of `variants`, for one item."""
    row = {
        "model": "any", "prompt_id": prompt, "group": "g", "part": "inter_item", "variant": variant, "token_role": "none",
        "source_item": "", "encoder": "clip", "kept_positions": "", "kept_tokens": "", "seed": seed, "item_id": item,
        "description": item, "colour_right": NAN, "shape_right": NAN, "score": NAN, "failure": "", "pixel_change": 0.0, **more,
    }  # fmt: skip
    rows = [{**row, "asked": "own", "visible": own}]
    return rows if leak is None else [*rows, {**row, "asked": "leak", "visible": leak}]


# ---------------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("fixed", "broken", "p"), [(0, 0, 1.0), (4, 0, 0.125), (0, 6, 0.03125), (3, 3, 1.0), (5, 1, 14 / 64)]
)
def test_with_one_picture_a_prompt_the_test_is_the_two_sided_binomial(fixed, broken, p):
    change = [1] * fixed + [-1] * broken + [0, 0]
    assert clustered_mcnemar(change, range(len(change))) == pytest.approx(p)


def test_pictures_of_one_prompt_that_change_together_are_one_piece_of_evidence():
    """Where nothing is repaired, p is below .05 in at most 5% of the cases, however many seeds a prompt has."""
    generator = np.random.default_rng(7)
    prompts = np.repeat(np.arange(8), 4)
    together = generator.choice([-1, 0, 1], size=(1000, 8))[:, prompts]
    found = [clustered_mcnemar(change, prompts) for change in together]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 4 * 0.007
    assert clustered_mcnemar([1] * 24, np.repeat(np.arange(6), 4)) == pytest.approx(2 / 2**6)  # all alike: six, not 24


def test_a_paired_row_counts_what_is_fixed_and_broken_and_leaves_out_the_unknown():
    before, after = [0, 0, 1, 1, 0, NAN, 1], [1, 0, 0, 1, 1, 1, NAN]
    row = paired_row("c", "g", before, after, ["a", "a", "b", "b", "c", "c", "c"], seed=0)
    assert [row[name] for name in ("n", "right_before", "right_after", "fixed", "broken")] == [5, 2, 3, 2, 1]
    assert (row["p_value"], row["difference"], row["n_prompts"]) == (1.0, pytest.approx(0.2), 3)
    assert row["ci_low"] < 0.2 < row["ci_high"]


def test_a_rate_resamples_clusters_and_takes_wilsons_interval_where_nothing_varies():
    labels = {"question": "in_item", "resampled": "items"}
    mixed = rate("any", [1, 1, 0, 0, NAN], ["a", "a", "b", "b", "b"], 0, **labels)
    assert (mixed["estimate"], mixed["n"], mixed["n_rows"]) == (0.5, 2, 4)
    assert (mixed["ci_low"], mixed["ci_high"]) == (0.0, 1.0)  # two clusters, all of one or all of the other
    none = rate("any", [0, 0, 0, 0], ["a", "a", "b", "c"], 0, **labels)
    assert (none["ci_low"], none["ci_high"]) == pytest.approx(wilson_interval(0, 3)[1:3])
    size = rate("any", [1, 1, 1], ["a", "b", "c"], 0, share=False, **labels)
    assert (size["ci_low"], size["ci_high"]) == (1.0, 1.0)
    assert rate("any", [NAN], ["a"], 0, **labels)["n_rows"] == 0


def test_the_relative_reduction_is_of_sums():
    labels = {"question": "repair", "resampled": "prompts"}
    row = ratio_of_fall([1, 1, 1, 0, NAN], [0, 1, 0, 0, 0], ["a", "b", "c", "d", "e"], 0, **labels)
    assert (row["estimate"], row["n"]) == (pytest.approx(2 / 3), 4)
    assert row["ci_low"] < 2 / 3 < row["ci_high"] <= 1  # of four prompts: a leak may grow as well
    assert math.isnan(ratio_of_fall([0.0], [0.0], ["a"], 0, **labels)["estimate"])


def test_pictures_that_do_not_change_leave_it_open_whether_others_do():
    labels = {"question": "repair", "resampled": "prompts"}
    row = change_of_shares("others_change", [1, 1, 0, NAN], [1, 1, 0, 1], ["a", "b", "c", "d"], 0, **labels)
    assert (row["estimate"], row["n"], row["n_rows"]) == (0.0, 3, 3)
    width = wilson_interval(0, 3).ci_high
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((-width, width))


# ---------------------------------------------------------------------- views


def test_a_picture_is_read_by_what_it_shows():
    rows = [
        *answer("p", "full", 0, "bat", 1, 0),
        *answer("p", "full", 1, "bat", 0, 1),
        *answer("p", "full", 2, "bat", 1, 1),
        *answer("p", "full", 3, "bat", 0, 0),
        *answer("p", "full", 4, "bat", NAN, NAN),
        *answer("p", "full", 5, "cat", 1),
    ]
    views = item_views(pd.DataFrame(rows))
    assert readings(views).tolist() == ["own", "leak", "both", "none", "unknown", "own"]
    two = pd.DataFrame([*answer("p", "full", 0, "bat", 0, 0), answer("p", "full", 0, "bat", 0, 1)[1]])
    assert item_views(two)["leak"].tolist() == [1]  # any of several leaks


@pytest.mark.parametrize(
    ("some", "usual"),
    [
        (["own", "own", "leak", "leak"], "own"),
        (["leak", "leak", "own", "unknown"], "leak"),
        (["both", "none", "own"], "none"),
        (["unknown", "unknown"], "none"),
    ],
)
def test_the_usual_reading_has_its_share_of_the_known(some, usual):
    assert usual_reading(some, 0.5) == usual


# ---------------------------------------------------------------------- in-item


def subsets(prompt: str, shown: dict[str, float], full: float = 1.0) -> list[dict[str, Any]]:
    rows = answer(prompt, "full", 0, prompt, full, part="in_item")
    whole = max(shown, key=len)
    for positions, visible in shown.items():
        name = "item" if positions == whole else "tokens"
        role = "several" if " " in positions else "last_token"
        rows += answer(prompt, name, 0, prompt, visible, part="in_item", kept_positions=positions, token_role=role)
    return rows


def test_minimal_sets_redundancy_and_representative_rate_by_hand():
    rows = pd.DataFrame(
        [
            *subsets("one", {"2": 0, "3": 1, "2 3": 1}),
            *subsets("two", {"2": 0, "3": 0, "4": 0, "2 3": 1, "2 4": 0, "3 4": 0, "2 3 4": 1}),
            *subsets("none", {"2": 0, "3": 0, "2 3": 0}),
            *subsets("undrawn", {"2": 1, "3": 1, "2 3": 1}, full=0.0),
        ]
    )
    table = in_item(rows, 0.5)
    minimal = table[table["minimal"]].groupby("prompt_id")["kept_positions"].agg(list).to_dict()
    assert minimal == {"one": ["3"], "two": ["2 3"], "undrawn": ["2", "3"]}
    assert redundant_tokens(table) == {"one": (0,)}
    rates = {(row["quantity"], row["level"]): row for row in in_item_rates(rows, table, 0.5, 0)}
    found = {name: (row["estimate"], row["n"], row["n_rows"]) for (name, level), row in rates.items() if not level}
    assert found["drawn_alone"] == (0.75, 4, 4)
    assert found["representative_rate"] == (pytest.approx(1 / 3), 3, 3)
    assert found["minimal_set_size"] == (1.5, 2, 2)
    assert found["redundancy_share"] == (pytest.approx(6 / 7), 3, 7)
    assert {level: row["estimate"] for (name, level), row in rates.items() if name == "minimal_set_of"} == {
        "1": pytest.approx(1 / 3),
        "2": pytest.approx(1 / 3),
    }


def test_a_set_shows_an_item_from_the_threshold_on():
    rows = [row for seed, visible in enumerate([1, 1, 0, 0]) for row in answer(
        "one", "item", seed, "one", visible, part="in_item", kept_positions="2"
    )]  # fmt: skip
    assert in_item(pd.DataFrame(rows), 0.5)["shows"].tolist() == [True]
    assert in_item(pd.DataFrame(rows), 0.6)["shows"].tolist() == [False]


# ---------------------------------------------------------------------- inter-item and repair


def flow_rows() -> pd.DataFrame:
    """Two seeds: "bat" leaks from the prompt but not alone; "cat" is seen alone and missing from the whole."""
    rows = []
    for seed in (0, 1):
        rows += answer("p", "full", seed, "bat", 0, 1) + answer("p", "full", seed, "cat", 0)
        rows += answer("p", "item", seed, "bat", 0, 1, source_item="bat") + answer(
            "p", "item", seed, "cat", 0, source_item="bat"
        )
        rows += answer("p", "alone", seed, "bat", 1, 0, source_item="bat") + answer(
            "p", "alone", seed, "cat", 0, source_item="bat"
        )
        rows += answer("p", "item", seed, "cat", 1, source_item="cat") + answer(
            "p", "item", seed, "bat", seed, 0, source_item="cat"
        )
        rows += answer("p", "alone", seed, "cat", 1, source_item="cat") + answer(
            "p", "alone", seed, "bat", 0, 0, source_item="cat"
        )
    return pd.DataFrame(rows)


PROMPTS = pd.DataFrame({"prompt_id": ["p", "p"], "item_id": ["bat", "cat"]})


def test_the_flow_matrix_and_rates_by_hand():
    flows = inter_item(flow_rows(), PROMPTS)
    own = flows[flows["asked"] == "own"].set_index(["kept_index", "asked_index"])
    assert own["from_prompt"].to_dict() == {(0, 0): 0.0, (0, 1): 0.0, (1, 1): 1.0, (1, 0): 0.5}
    assert own["from_alone"].to_dict() == {(0, 0): 1.0, (0, 1): 0.0, (1, 1): 1.0, (1, 0): 0.0}
    assert own["in_full"].to_dict() == {(0, 0): 0.0, (0, 1): 0.0, (1, 1): 0.0, (1, 0): 0.0}
    leak = flows[(flows["asked"] == "leak") & (flows["kept_index"] == 0)].iloc[0]
    assert (leak["from_prompt"], leak["from_alone"], leak["in_full"]) == (1, 0, 1)
    moved = pd.DataFrame(
        {"prompt_id": ["p"], "group": ["g"], "encoder": ["clip"], "without_after": [0.0], "alone": [0.3]}
    )
    rates = inter_item_rates(flow_rows(), flows, moved, 0)
    found = {
        row["quantity"]: (row["estimate"], row["n_rows"]) for row in rates if row["group"] == "all" and not row["level"]
    }
    assert found == {
        "leak_in_full": (1.0, 2),
        "leak_from_prompt": (1.0, 2),
        "leak_from_alone": (0.0, 2),
        "flow": (0.5, 4),  # bat differs, cat does not
        "neglect": (0.5, 4),  # bat is there in its other sense, cat is not
        "neglect_encoded": (1.0, 2),
        "vectors_move_without_after": (0.0, 1),
        "vectors_move_alone": (0.3, 1),
    }


def test_what_leaks_is_chosen_and_nothing_else():
    assert choose_repairs(flow_rows(), 0.5) == [("p", "bat")]
    rows = flow_rows()
    not_drawn_alone = (rows["variant"] == "alone") & (rows["source_item"] == "bat")
    assert choose_repairs(rows.assign(visible=rows["visible"].where(~not_drawn_alone, 0.0)), 0.5) == []


def repair_rows() -> pd.DataFrame:
    rows = []
    for seed in (4, 5):
        rows += answer("p", "full", seed, "bat", 0, 1, part="repair") + answer(
            "p", "full", seed, "cat", 1, part="repair"
        )
        its = {"part": "repair", "source_item": "bat"}
        rows += answer("p", "paste", seed, "bat", 1, 0, **its) + answer("p", "paste", seed, "cat", seed - 4, **its)
        rows += answer("p", "random_paste", seed, "bat", 1, 1, **its) + answer(
            "p", "random_paste", seed, "cat", 1, **its
        )
        removal = {"part": "repair"}
        rows += answer("p", "without_redundant", seed, "bat", 1, 0, **removal)
        rows += answer("p", "without_redundant", seed, "cat", NAN, **removal)
    return pd.DataFrame(rows)


def test_repair_and_its_side_effects_by_hand():
    pairs = before_and_after(repair_rows())
    table = repair_table(pairs, [("p", "bat")]).set_index("arm")
    columns = ["leak_before", "leak_after", "own_before", "own_after", "others_before", "others_after", "n_seeds"]
    assert table.loc["paste", columns].tolist() == [1, 0, 0, 1, 1, 0.5, 2]
    assert table.loc["random_paste", columns].tolist() == [1, 1, 0, 1, 1, 1, 2]
    assert table["chosen"].tolist() == [True, True]
    rates = {
        (row["quantity"], row["level"]): row["estimate"]
        for row in repair_rates(pairs, [("p", "bat")], 0)
        if row["group"] == "g"
    }
    assert rates["leak_change", "paste"] == -1
    assert rates["others_change", "paste"] == -0.5
    assert rates["relative_reduction", "paste"] == 1
    assert rates["relative_reduction", "random_paste"] == 0
    rows = {row["comparison"]: row for row in repair_pairs(pairs, [("p", "bat")], 0) if row["group"] == "all"}
    assert (rows["paste: repaired item"]["fixed"], rows["paste: other items"]["broken"]) == (2, 1)
    assert rows["random_paste: repaired item"]["fixed"] == 0  # its own look beside the leak repairs nothing
    assert rows["without_redundant: all items"]["n"] == 0  # one of the items has no answer
    assert repair_rates(pairs, [], 0) == []


# ---------------------------------------------------------------------- attention beside cause


def test_attention_against_effect_by_hand():
    words = {"a": ("1", "article", 0.5, 0.0), "red": ("2", "item", 0.3, 0.1), "disc": ("3", "item", 0.2, 0.4)}
    rows = answer("p", "full", 0, "red disc", 1) + answer("p", "clean", 0, "red disc", 0)
    for positions, _, _, change in words.values():
        seen = float(positions != "3")
        rows += answer("p", "word_without", 0, "red disc", seen, kept_positions=positions, pixel_change=change)
        rows += answer("p", "word_only", 0, "red disc", 1 - seen, kept_positions=positions, pixel_change=0.3)
    attention = pd.DataFrame(
        {
            "model": "any", "prompt_id": "p", "word_index": index, "word": word, "token_role": role, "positions": positions,
            "seed": 0, "mass": mass,
        }
        for index, (word, (positions, role, mass, _)) in enumerate(words.items())
    )  # fmt: skip
    masses = attention_mass(pd.DataFrame(rows), attention).set_index("word")
    assert masses["effect_removed"].to_dict() == {"a": 0, "red": 0, "disc": 1}
    assert masses["effect_only"].to_dict() == {"a": 0, "red": 0, "disc": 1}
    assert masses["change_removed"].to_dict() == {"a": 0.0, "red": 0.1, "disc": 0.4}
    assert masses["mass_rank"].to_dict() == {"a": 1, "red": 2, "disc": 3}
    assert masses["effect_rank"].to_dict() == {"a": 3, "red": 2, "disc": 1}
    rates = {(row["quantity"], row["level"]): row["estimate"] for row in attention_rates(masses.reset_index(), 0)}
    assert rates["rank_correlation_change_removed", "words"] == pytest.approx(-1)
    assert rates["rank_correlation_effect_removed", "words"] == pytest.approx(
        np.corrcoef([3, 2, 1], [1.5, 1.5, 3])[0, 1]
    )
    assert rates["attention_share", "item"] == pytest.approx(0.5)
