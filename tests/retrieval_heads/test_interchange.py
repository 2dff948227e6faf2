"""The public score format, there and back, and runs set side by side."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.agreement import top_indices
from interp.errors import ArgumentError
from probes.retrieval_heads.comparison import compare_all, public_head_scores, read_public_scores, write_public_scores
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.summaries import BUCKETS


def test_scores_come_back_from_the_public_format_in_layer_order(tmp_path):
    rows = [
        ("s0", 10, 0, 1.25), ("s0", 2, 1, 0.0), ("s0", 2, 0, 1 / 3),
        ("s1", 10, 0, 0.0), ("s1", 2, 1, 0.5), ("s1", 2, 0, 1.0),
    ]  # fmt: skip
    text = write_public_scores(pd.DataFrame(rows, columns=["sample_id", "layer", "head", "count_score"]), "count_score")
    # Layer 2 before layer 10; samples as in the table; one line.
    assert text == '{"2-0": [0.3333333333333333, 1.0], "2-1": [0.0, 0.5], "10-0": [1.25, 0.0]}'
    path = tmp_path / "scores.json"
    path.write_text(text)
    back = read_public_scores(path)
    assert list(back.itertuples(index=False, name=None)) == [
        (2, 0, 0, 1 / 3), (2, 0, 1, 1.0), (2, 1, 0, 0.0), (2, 1, 1, 0.5), (10, 0, 0, 1.25), (10, 0, 1, 0.0)
    ]  # fmt: skip
    path.write_text(json.dumps(dict(reversed(json.loads(text).items()))))
    pd.testing.assert_frame_equal(read_public_scores(path), back)  # whatever the order in the file

    heads = public_head_scores(path)
    assert heads["score"].tolist() == pytest.approx([2 / 3, 0.25, 0.625])
    assert heads["activation_frequency"].tolist() == [1.0, 0.5, 0.5]
    assert set(heads["n_samples"]) == {2}
    assert set(heads["definition"]) == {"count"}


def test_numbers_and_ties_survive_the_round_trip(tmp_path):
    """Head 0-0 copied a third of every needle and 0-1 all of one: equal means, which six digits would tell apart."""
    scores = {(0, 0): [1 / 3, 1 / 3, 1 / 3], (0, 1): [0.0, 1.0, 0.0], (0, 2): [0.1 + 0.2, 1 / 7, 2**-40]}
    rows = [(f"s{i}", *head, value) for head, values in scores.items() for i, value in enumerate(values)]
    table = pd.DataFrame(rows, columns=["sample_id", "layer", "head", "set_score"])
    path = tmp_path / "scores.json"
    path.write_text(write_public_scores(table, "set_score"))
    back = read_public_scores(path)
    assert back["score"].tolist() == [value for values in scores.values() for value in values]
    means = public_head_scores(path)["score"]
    assert means[0] == means[1]
    assert top_indices(means.to_numpy(), 3) == [0, 1, 2]


def test_documents_hold_both_definitions_of_the_samples_that_count():
    scores = pd.DataFrame({"sample_id": ["a", "b"], "layer": 0, "head": 0, "set_score": [0.5, 0.2]})
    samples = pd.DataFrame(
        {"sample_id": ["a", "b", "c"], "has_needle": [True, True, False], "passed": [True, False, False]}
    )
    tables = {"samples": samples, "sample_head_scores": scores.assign(count_score=[1.5, 0.0])}
    assert RetrievalHeads(success_filter=True).documents(tables) == {
        "head_score_set.json": '{"0-0": [0.5]}',
        "head_score_count.json": '{"0-0": [1.5]}',
    }
    assert RetrievalHeads().documents(tables)["head_score_count.json"] == '{"0-0": [1.5, 0.0]}'


WRONG_HEAD = '"{}" must be "layer-head" with a list of numbers.'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read as JSON (["),
        (b"", "cannot be read as JSON (Expecting value"),
        (b'{"0-0": [1', "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON ('utf-8' codec"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"{}", 'holds no head scores: {"layer-head": [score, …]} is needed.'),
        (b"[[0, 1]]", "holds no head scores"),
        (b"null", "holds no head scores"),
        (b'{"0-0": [], "0-1": []}', "has heads but no samples: no answer passed the filter of the run that wrote it."),
        (b'{"0-0": [1, 0], "0-1": [1]}', "heads have different numbers of samples (1 to 2)."),
        *[
            (f'{{"0-0": [1], "{name}": [1]}}'.encode(), WRONG_HEAD.format(name))
            for name in ("layer0", "0", "0-1-2", "-1-0", "0-1 ", "0.5-1", "12345-0")
        ],
        *[
            (f'{{"3-4": {values}}}'.encode(), WRONG_HEAD.format("3-4"))
            for values in ("1", "null", '["1"]', "[null]", "[true]", "[[1]]", "[NaN]", "[Infinity]", "[1e999]")
        ],
        pytest.param(f'{{"3-4": [1{"0" * 400}]}}'.encode(), WRONG_HEAD.format("3-4"), id="a number beyond floats"),
        pytest.param(b'{"1-2": [1], "01-2": [0]}', "1-2", id="one head under two names"),
    ],
)
def test_a_file_in_another_format_is_refused_with_what_is_wrong(tmp_path, content, complaint):
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArgumentError) as told:
        public_head_scores(path)
    assert str(told.value).startswith(str(path))
    assert complaint in str(told.value)


def test_files_of_another_kind_are_left_to_others(tmp_path):
    assert RetrievalHeads().read_foreign(Path("run/report.html")) is None
    path = tmp_path / "x.json"
    path.write_text('{"0-0": [1.0]}')
    foreign = RetrievalHeads().read_foreign(path)
    assert foreign is not None
    assert foreign["head_scores"]["score"].tolist() == [1.0]


def side(scores: list[float], definition: str = "set", frequency: list[float] | None = None) -> pd.DataFrame:
    """A table of head scores of heads 0-0, 0-1, 1-0, …, in an order of its own."""
    index = np.arange(len(scores))
    table = pd.DataFrame({"layer": index // 2, "head": index % 2, "score": scores, "definition": definition})
    table = table.assign(activation_frequency=frequency or scores, n_samples=10)
    return table.sample(frac=1, random_state=len(scores))


FIRST = side([0.4, 0.3, 0.2, 0.1], frequency=[1.0, 0.95, 0.9, 0.0])
SECOND = side([0.9, 0.3, 0.0, 0.05], frequency=[1.0, 0.5, 0.0, 0.89])


def test_two_sides_are_compared_by_hand():
    tables = compare_all({"one": {"head_scores": FIRST}, "two": {"head_scores": SECOND}}, "set", 2)
    (pair,) = tables["pairs"].to_dict("records")
    assert (pair["first"], pair["second"], pair["definition"], pair["same_shape"]) == ("one", "two", "set", True)
    # Deviations .15 .05 −.05 −.15 and .5875 −.0125 −.3125 −.2625: Σxy .1425, Σx² .05, Σy² .511875.
    assert pair["pearson"] == pytest.approx(0.1425 / np.sqrt(0.05 * 0.511875))
    # Ranks 1 2 3 4 and 1 2 4 3: 1 − 6·2/60.
    assert pair["spearman"] == pytest.approx(0.8)
    assert pair["top_k_overlap"] == 1
    (other,) = compare_all({"one": {"head_scores": FIRST}, "two": {"head_scores": SECOND}}, "set", 3)["pairs"].to_dict(
        "records"
    )
    assert other["top_k_overlap"] == pytest.approx(2 / 3)

    shares = tables["sparsity"].set_index(["run", "bucket"])["share"]
    assert [shares["one", bucket] for bucket in BUCKETS] == [0, 0, 1, 0]
    assert [shares["two", bucket] for bucket in BUCKETS] == [0.25, 0.25, 0.25, 0.25]

    one, two = tables["activation"].set_index("run").loc[["one", "two"]].to_dict("records")
    counts = ("n_samples", "always_active", "active_on_nine_tenths", "never_active", "above_0_1")
    assert [one[name] for name in counts] == [10, 1, 3, 1, 3]  # 0.1 itself is not above 0.1
    assert [two[name] for name in counts] == [10, 1, 1, 1, 2]


def test_heads_that_score_nothing_on_either_side_are_not_found_by_both():
    """Each side has one head that scores, another one; of the top 2 the second place is dealt among three equals."""
    one, two = side([0.9, 0.0, 0.0, 0.0]), side([0.0, 0.0, 0.0, 0.9])
    (pair,) = compare_all({"one": {"head_scores": one}, "two": {"head_scores": two}}, "set", 2)["pairs"].to_dict(
        "records"
    )
    # A head that scores on one side has a third of a place on the other; the two that do not, a third of a third each.
    assert pair["top_k_overlap"] == pytest.approx((2 * 1 / 3 + 2 * 1 / 9) / 2)


def test_models_of_different_shape_have_no_correlation_but_keep_their_sparsity():
    six = side([0.4, 0.3, 0.2, 0.1, 0.0, 0.0])
    runs = {"one": {"head_scores": FIRST}, "six": {"head_scores": six}, "two": {"head_scores": SECOND}}
    tables = compare_all(runs, "set", 2)
    pairs = tables["pairs"].set_index(["first", "second"])
    for names in (("one", "six"), ("six", "two")):
        assert not pairs.loc[names, "same_shape"]
        assert pairs.loc[[names], ["pearson", "spearman", "top_k_overlap"]].isna().to_numpy().all()
    assert pairs.loc[("one", "two"), "spearman"] == pytest.approx(0.8)
    assert set(tables["sparsity"]["run"]) == {"one", "six", "two"}


def test_a_run_meets_a_public_file_in_the_count_definition(tmp_path):
    path = tmp_path / "public.json"
    path.write_text(
        '{"0-0": [1.0, 0.8], "0-1": [0.6, 0.0], "1-0": [0.0, 0.0], "1-1": [0.0, 0.1]}'
    )  # means are SECOND's
    count = side([0.1, 0.2, 0.3, 0.4], "count")
    run = {"head_scores": pd.concat([FIRST, count])}
    foreign = RetrievalHeads().read_foreign(path)
    assert foreign is not None
    tables, figures = RetrievalHeads(other_k=2).compare({"run": run, "public": foreign})
    (pair,) = tables["pairs"].to_dict("records")
    # Of means .9 .3 0 .05 against .1 .2 .3 .4: ranks 1 2 4 3 against 4 3 2 1, Σd² = 9 + 1 + 4 + 4.
    assert (pair["definition"], pair["spearman"], pair["top_k_overlap"]) == ("count", pytest.approx(-0.8), 0)
    assert set(figures) == {"correlation", "sparsity"}


def test_runs_without_a_common_definition_are_refused():
    with pytest.raises(ArgumentError, match="two has no count scores to compare"):
        compare_all({"one": {"head_scores": side([1.0], "count")}, "two": {"head_scores": SECOND}}, "set", 2)
