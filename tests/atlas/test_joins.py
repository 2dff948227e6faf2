"""The joins' arithmetic on tables whose answers are known by hand, and their attention on a model with a planted head."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interp.models.language.recording import Weights
from interp.tables import checked
from probes.joined.class_mass import TOKEN_GROUPS, Text, group_of_ids, measure_class_mass, needle_texts
from probes.joined.findings import find_attention, find_critical, find_memory
from probes.joined.memory_summaries import summarise_memory_change
from probes.joined.summaries import (
    match_critical,
    shuffled_shares,
    summarise_heads,
    summarise_lift,
    summarise_overlap,
    token_rules,
)
from probes.joined.tables import (
    ATTENTION_SCHEMAS,
    CRITICAL_SCHEMAS,
    MEMORY_SCHEMAS,
    STRONGEST,
    attention_answers,
    critical_answers,
    memory_answers,
)
from tests.planted import COPY_HEAD, IDS, copy_model

# ---------------------------------------------------------------------- memory


def masking(repeat_top: tuple[float, float], novel_top: tuple[float, float]) -> pd.DataFrame:
    """Two base lists of three nouns: without a mask repeated nouns have 1 and 2 nats, novel ones 5 and 6, and two random
    draws give 1.2 and 1.4 to the first list and 2 to the second.
    """
    cells: list[tuple[str, str, int, int, str, tuple[float, float]]] = [
        ("none", "none", 0, 0, "repeat", (1.0, 2.0)),
        ("none", "none", 0, 0, "novel", (5.0, 6.0)),
        ("retrieval", "top", 2, 0, "repeat", repeat_top),
        ("retrieval", "top", 2, 0, "novel", novel_top),
        ("retrieval", "random", 2, 0, "repeat", (1.2, 2.0)),
        ("retrieval", "random", 2, 1, "repeat", (1.4, 2.0)),
    ]
    rows = [
        {
            "model": "m", "head_set": head_set, "control": control, "k": k, "draw": draw, "condition": condition,
            "trial_id": f"t{base}", "base_list": base, "list_index": list_index, "position": position,
            # what does not count: the first noun, and the first list
            "surprisal_nats": 99.0 if position == 0 or list_index == 1 else nats[base] + (0.5 if position == 1 else -0.5),
        }
        for head_set, control, k, draw, condition, nats in cells
        for base in (0, 1)
        for list_index in (1, 2)
        for position in (0, 1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def numbers(change: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    return {
        (row["quantity"], row["heads"]): (row["value"], row["ci_low"], row["ci_high"])
        for row in change.to_dict("records")
    }


def test_what_is_lost_of_memory_is_beyond_random_heads_and_beyond_novel_lists() -> None:
    change = checked(
        summarise_memory_change(masking((4.0, 5.0), (5.5, 6.5)), seed=0).assign(model="m"),
        MEMORY_SCHEMAS["memory_change"],
    )
    found = numbers(change)
    # Of two base lists the interval is their mean ± t · half their difference, t = 12.706 with one degree of freedom.
    t = 12.7062
    assert found["repeat_change_nats", "top"] == pytest.approx((3.0, 3.0, 3.0))
    assert found["repeat_change_nats", "random"] == pytest.approx((0.15, 0.15 - t * 0.15, 0.15 + t * 0.15), rel=0.05)
    assert found["repeat_change_nats", "top − random"] == pytest.approx(
        (2.85, 2.85 - t * 0.15, 2.85 + t * 0.15), rel=0.05
    )
    # the second draw raises both lists by 0.2 on average, the first by 0.1
    assert found["repeat_change_nats", STRONGEST] == pytest.approx((2.8, 2.8 - t * 0.2, 2.8 + t * 0.2), rel=0.2)
    assert found["novel_change_nats", "top"] == pytest.approx((0.5, 0.5, 0.5))
    assert found["repeat_beyond_novel_nats", "top"] == pytest.approx((2.5, 2.5, 2.5))
    # memory is 4 nats in both lists; 1.5 are left
    assert found["memory_lost_share", "top"] == pytest.approx((1 - 1.5 / 4,) * 3)
    answers = checked(memory_answers(change).assign(model="m"), MEMORY_SCHEMAS["answers"])
    assert len(answers) == 7
    text = find_memory({"memory_change": change})[0].text
    assert text.startswith("Retrieval heads carry verbatim memory.")
    assert "+3.00 [+3.00, +3.00] nats; 2 random heads" in text


@pytest.mark.parametrize(
    ("repeat", "novel", "verdict"),
    [
        ((1.2, 2.0), (5.2, 6.0), "There is no sign that"),  # no more than random heads, and no more than novel lists
        ((4.0, 5.0), (8.0, 9.0), "It is not decided"),  # more than random heads, but novel lists suffer as much
    ],
)
def test_either_control_can_explain_the_change_away(
    repeat: tuple[float, float], novel: tuple[float, float], verdict: str
) -> None:
    change = summarise_memory_change(masking(repeat, novel), seed=0)
    assert find_memory({"memory_change": change})[0].text.startswith(verdict)


def test_heads_like_any_others_are_rarely_said_to_carry_memory() -> None:
    """Sets of heads differ; where the top ones are one more draw of them, it stands out among six in one case of six, not in half."""
    generator, carried, worlds = np.random.default_rng(11), 0, 150
    cells = [
        ("none", "none", 0, 0),
        ("retrieval", "top", 2, 0),
        *(("retrieval", "random", 2, draw) for draw in range(5)),
    ]
    for _ in range(worlds):
        rows = [
            {"head_set": head_set, "control": control, "k": k, "draw": draw, "condition": condition, "base_list": base,
             "trial_id": f"t{base}", "list_index": 2, "position": 1,
             "surprisal_nats": 2.0 + 3.0 * (condition == "novel") + effect * (condition == "repeat") + 0.1 * generator.normal()}
            for (head_set, control, k, draw), effect in zip(cells, [0.0, *generator.normal(1.0, 0.5, size=6)], strict=True)
            for condition in (("repeat",) if control == "random" else ("repeat", "novel"))
            for base in range(12)
        ]  # fmt: skip
        change = summarise_memory_change(pd.DataFrame(rows), seed=0)
        carried += find_memory({"memory_change": change})[0].text.startswith("Retrieval heads carry")
    assert carried / worlds <= 1 / 6 + 4 * 0.03


# ---------------------------------------------------------------------- critical tokens

CLASSES = pd.DataFrame(
    {
        "token_id": [1, 2, 3],
        "kind": ["word", "punctuation", "word"],
        "token_class": ["function", "function", "content"],
    }
)


def tokens() -> pd.DataFrame:
    """Two trajectories of five tokens. Ids: 1 a function word, 2 a function sign, 3 content, 9 unknown to the texts."""
    ids = {"a": [1, 3, 2, 3, 9], "b": [3, 3, 1, 3, 3]}
    own = {
        "a": "function content punctuation number function".split(),
        "b": "content content function content content".split(),
    }
    p = {"a": [0.5, 0.9, 0.1, 0.7, 0.95], "b": [0.9, 0.9, 0.3, 0.99, 0.5]}
    rows = [
        {
            "model": "m", "trajectory_id": name, "position": position, "token_id": ids[name][position],
            "token": f"w{ids[name][position]}", "token_class": own[name][position], "p": p[name][position],
        }
        for name in ("a", "b")
        for position in range(5)
    ]  # fmt: skip
    return pd.DataFrame(rows)


CRITICAL = pd.DataFrame({"trajectory_id": ["a", "b"], "definition": "cliff", "position": [2, 2]})


def overlap_rows(nearby: int = 1) -> tuple[pd.DataFrame, dict[tuple[str, str], Any]]:
    positions = token_rules(tokens(), CLASSES)
    matches = match_critical(positions, CRITICAL, nearby=nearby, uncertainty=0.2)
    checked(matches.assign(model="m"), CRITICAL_SCHEMAS["critical_matches"])
    overlap = checked(
        summarise_overlap(matches, positions, seed=0).assign(model="m"), CRITICAL_SCHEMAS["critical_overlap"]
    )
    return overlap, {(row["token_rule"], row["control"]): row for row in overlap.to_dict("records")}


def test_the_three_rules_of_a_function_token() -> None:
    rules = token_rules(tokens(), CLASSES)
    assert rules["frequency"].tolist() == [True, False, True, False, False, False, False, True, False, False]
    assert rules["frequent words"].tolist() == [True, False, False, False, False, False, False, True, False, False]
    assert rules["word list"].tolist() == [True, False, False, False, True, False, False, True, False, False]


def test_critical_tokens_beside_their_own_trajectory() -> None:
    overlap, rows = overlap_rows()
    others = rows["frequency", "others"]
    assert others["share_critical"] == 1.0  # both critical tokens are frequent
    assert others["share_control"] == pytest.approx((1 / 4 + 0 / 4) / 2)
    assert others["difference"] == pytest.approx(1 - 1 / 8)
    # two trajectories: 7/8 ± t · half the difference of 3/4 and 1, at most 1
    interval = (others["difference_ci_low"], others["difference_ci_high"])
    assert interval == pytest.approx((7 / 8 - 12.7062 / 8, 1.0), abs=0.1)
    assert rows["frequency", "nearby"]["share_control"] == 0.0  # neighbours are content
    # uncertain others: positions 0 (function) and 3 of a, 4 of b
    assert rows["frequency", "uncertain"]["share_control"] == pytest.approx((1 / 2 + 0) / 2)
    assert rows["frequent words", "others"]["share_critical"] == 0.5  # a's critical token is a sign
    assert rows["word list", "others"]["share_control"] == pytest.approx((2 / 4 + 0) / 2)
    assert set(rows["word list", "others"].keys()) == set(overlap.columns)
    checked(critical_answers(overlap).assign(model="m"), CRITICAL_SCHEMAS["answers"])


def test_shuffled_positions_give_the_share_of_each_trajectory() -> None:
    _, rows = overlap_rows()
    shuffled = rows["frequency", "shuffled"]
    # a position of a is a function token with 2/5, one of b with 1/5; both at once, as observed, with 2/25
    assert shuffled["share_control"] == pytest.approx((2 / 5 + 1 / 5) / 2, abs=0.01)
    assert shuffled["p_value"] == pytest.approx(2 / 25, abs=0.01)
    shares = shuffled_shares({"a": 1, "b": 1}, token_rules(tokens(), CLASSES), "frequency", 0)
    assert (shares == 0.5).mean() == pytest.approx(2 / 5 * 4 / 5 + 3 / 5 * 1 / 5, abs=0.02)


def test_a_run_without_critical_tokens_is_said_to_have_no_answer() -> None:
    positions = token_rules(tokens(), CLASSES)
    matches = match_critical(positions, CRITICAL.head(0), nearby=1, uncertainty=0.2)
    overlap = summarise_overlap(matches, positions, 0)
    (finding,) = find_critical({"critical_overlap": overlap, "critical_matches": matches})
    assert finding.kind == "warning"
    assert "no answer" in finding.text
    assert not len(critical_answers(overlap))


def test_few_critical_tokens_are_said_to_be_few() -> None:
    overlap, _ = overlap_rows()
    matches = match_critical(token_rules(tokens(), CLASSES), CRITICAL, nearby=1, uncertainty=0.2)
    findings = find_critical({"critical_overlap": overlap, "critical_matches": matches})
    assert "No definition has more than 2 critical tokens" in findings[-1].text
    assert findings[0].text.startswith("Critical tokens (cliff) and function tokens (frequency) show no difference")


# ---------------------------------------------------------------------- attention


def class_mass(masses: dict[str, dict[tuple[int, int], tuple[float, float, float]]]) -> pd.DataFrame:
    """Rows of `class_mass` by text and head: masses on words, signs, content. Evenly spread a quarter, a quarter, a half."""
    rows = [
        {
            "model": "m", "context": "prose", "region": "all", "text_id": text, "layer": layer, "head": head,
            "token_group": group, "mass": mass, "even_mass": sum(own) * even, "first_mass": 1.0, "n_queries": 4,
        }
        for text, heads in masses.items()
        for (layer, head), own in heads.items()
        for group, mass, even in zip(TOKEN_GROUPS, own, (0.25, 0.25, 0.5), strict=True)
    ]  # fmt: skip
    return checked(pd.DataFrame(rows), ATTENTION_SCHEMAS["class_mass"])


MASSES = class_mass(
    {
        "x": {(0, 0): (1.0, 1.0, 0.0), (0, 1): (0.5, 0.0, 0.5), (0, 2): (0.25, 0.25, 0.5)},
        "y": {(0, 0): (0.0, 0.0, 2.0), (0, 1): (0.5, 0.0, 0.5), (0, 2): (0.25, 0.25, 0.5)},
    }
)


def test_lift_is_mass_over_evenly_spread_mass() -> None:
    lift = checked(
        summarise_lift(MASSES, [(0, 0)], [[(0, 1)], [(0, 2)]], 0).assign(model="m"), ATTENTION_SCHEMAS["attention_lift"]
    )
    rows = {(row["token_group"], row["heads"]): row for row in lift.to_dict("records")}
    top = rows["function", "top"]
    assert top["lift"] == pytest.approx(2.0 / (2 * 0.5 + 2 * 0.5))  # text x: all, text y: none
    assert (top["ci_low"], top["ci_high"]) == pytest.approx(
        (0.0, 1 + 12.7062 * 1), rel=0.05
    )  # of two texts, at least 0
    assert (top["mass_share"], top["even_share"]) == pytest.approx((0.5, 0.5))
    assert top["first_share"] == pytest.approx(1 / 4)
    assert rows["function", "random"]["lift"] == pytest.approx((0.5 + 0.5) / (0.5 + 0.5))
    assert rows["function words", "random"]["lift"] == pytest.approx((0.5 + 0.25) / (0.25 + 0.25))
    assert rows["function signs", "random"]["lift"] == pytest.approx((0.0 + 0.25) / (0.25 + 0.25))
    assert rows["function", "top − random"]["lift"] == pytest.approx(0.0)
    difference = rows["function", "top − random"]
    assert (difference["ci_low"], difference["ci_high"]) == pytest.approx((-12.7062, 12.7062), rel=0.05)
    checked(attention_answers(lift, 1).assign(model="m"), ATTENTION_SCHEMAS["answers"])
    heads = pd.DataFrame({"layer": 0, "head": [0, 1, 2], "retrieval_score": [0.9, 0.0, 0.0]})
    told = find_attention({"attention_lift": lift, "head_lift": heads}, 1)
    assert "neither prefer nor avoid" in told[0].text
    assert len(told) == 1
    more = find_attention({"attention_lift": lift, "head_lift": heads}, 2)
    assert [finding.kind for finding in more] == ["result", "warning"]
    assert "The top 2 of the retrieval heads ends among 2 heads with the same score, 0" in more[1].text


def test_every_head_beside_its_score() -> None:
    scores = pd.DataFrame({"layer": 0, "head": [0, 1, 2], "score": [0.1, 0.9, 0.1]})
    heads = checked(summarise_heads(MASSES, scores).assign(model="m"), ATTENTION_SCHEMAS["head_lift"]).set_index("head")
    assert heads["retrieval_rank"].tolist() == [2, 1, 3]
    assert heads["lift"].tolist() == pytest.approx([1.0, 1.0, 1.0])


def planted_classes(word: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "token_id": [IDS[word], IDS["."]],
            "kind": ["word", "punctuation"],
            "token_class": ["function", "function"],
        }
    )


SENTENCE = ["<s>", " The", " fisher", " mends", " nets", ".", " The"]


@pytest.mark.parametrize(("word", "words_get", "content_gets"), [(" fisher", 1.0, 0.0), (" nets", 0.0, 1.0)])
def test_a_head_that_copies_looks_at_the_class_of_what_it_copies(
    word: str, words_get: float, content_gets: float
) -> None:
    model = copy_model()
    ids = [IDS[token] for token in SENTENCE]
    rows = measure_class_mass(
        model, Text("t", "prose", ids, [6]), group_of_ids(planted_classes(word), len(model.tokenizer))  # type: ignore[arg-type]
    )  # fmt: skip
    checked(rows.assign(model="m"), ATTENTION_SCHEMAS["class_mass"])
    own = rows[(rows["layer"] == COPY_HEAD[0]) & (rows["head"] == COPY_HEAD[1])].set_index("token_group")
    assert own.loc["function words", "mass"] == pytest.approx(words_get, abs=1e-3)
    assert own.loc["content", "mass"] == pytest.approx(content_gets, abs=1e-3)
    # five tokens lie between the first and the query: one word, the full stop, and three of content
    total = own["mass"].sum()
    assert own["even_mass"].tolist() == pytest.approx([total / 5, total / 5, 3 * total / 5])


def test_masses_are_those_of_the_whole_attention_rows() -> None:
    model = copy_model()
    ids = [IDS[token] for token in [*SENTENCE, " baker", " paints", " nets", "."]]
    queries, needle = [3, 6, 9], (2, 5)
    group = group_of_ids(planted_classes(" nets"), len(model.tokenizer))  # type: ignore[arg-type]
    rows = measure_class_mass(model, Text("t", "needle", ids, queries, needle), group)
    with model.record(torch.tensor([queries]), Weights(len(ids))) as recording:
        model.prefix(ids)
    weights = recording["weights"][:, 0].double().numpy()
    for region, inside in (("all", range(1, len(ids))), ("needle", range(*needle))):
        for index, name in enumerate(TOKEN_GROUPS):
            part = rows[(rows["region"] == region) & (rows["token_group"] == name)]
            expected = np.zeros(weights.shape[:2])
            for row, query in enumerate(queries):
                for key in inside:
                    if key < query and group[ids[key]] == index:
                        expected += weights[:, :, row, key]
            assert part["mass"].to_numpy().reshape(expected.shape) == pytest.approx(expected, abs=1e-6)
    first = rows[(rows["region"] == "all") & (rows["token_group"] == "content")]["first_mass"].to_numpy()
    assert first == pytest.approx(weights[..., 0].sum(axis=2).ravel(), abs=1e-6)
    within = rows[(rows["region"] == "needle") & (rows["token_group"] == "function words")]
    # of the needle's three tokens (fisher, mends, nets) the query at 3 sees fisher alone, the later ones all three
    own = rows[rows["region"] == "needle"].groupby(["layer", "head"])["mass"].sum().to_numpy()
    seen_by_first = weights[:, :, 0, 2].ravel()
    assert within["even_mass"].to_numpy() == pytest.approx((own - seen_by_first) / 3, abs=1e-6)


def test_answers_are_read_from_the_position_before_each_token_and_needles_come_in_turn() -> None:
    samples = pd.DataFrame(
        {
            "sample_id": ["a0", "a1", "b0", "none"],
            "needle_id": ["a", "a", "b", "a"],
            "has_needle": [True, True, True, False],
            "prompt_token_ids": [[5, 6, 7]] * 4,
            "answer_token_ids": [[8, 9]] * 4,
            "needle_start": 1,
            "needle_end": 2,
        }
    )
    texts = needle_texts(samples, 2, seed=0)
    assert {text.id[0] for text in texts} == {"a", "b"}
    assert list(texts[0].ids) == [5, 6, 7, 8]
    assert list(texts[0].queries) == [2, 3]
    assert texts[0].needle == (1, 2)
