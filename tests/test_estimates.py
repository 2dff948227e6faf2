"""Declared estimates against the single statistics, group by group, and by hand."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interp.agreement import weighted_spearman
from interp.estimates import ESTIMATE, beside, estimates
from interp.statistics import (
    mean_estimate,
    paired_difference,
    resampled,
    share_difference,
    share_estimate,
    weighted_median,
    wilson_interval,
)
from interp.tables import checked, named, schema_of


@pytest.fixture
def rows() -> pd.DataFrame:
    """Two groups that are interleaved, four clusters of several rows each."""
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "group": ["b", "a"] * 12,
            "size": [2, 1] * 12,
            "cluster": np.repeat(list("wxyz"), 6),
            "right": generator.random(24),
        }
    )
    return table.assign(before=generator.random(24))


def test_every_group_has_the_estimate_of_its_own_rows(rows: pd.DataFrame) -> None:
    median = partial(lambda values, weights: weighted_median(values, weights))
    for given, alone in (
        ({}, lambda own, **how: mean_estimate(own["right"], own["cluster"], **how)),
        ({"kind": "share"}, lambda own, **how: share_estimate(own["right"], own["cluster"], **how)),
        ({"kind": "median"}, lambda own, **how: resampled(partial(median, own["right"]), own["cluster"], **how)),
        ({"minus": "before"}, lambda own, **how: paired_difference(own["right"], own["before"], own["cluster"], **how)),
        (
            {"minus": "before", "kind": "share"},
            lambda own, **how: share_difference(own["right"], own["before"], own["cluster"], **how),
        ),
    ):
        how: Any = {**given, "draws": 50, "seed": 3}
        found = estimates(rows, ["group", "size"], "right", over="cluster", **how)
        assert found[["group", "size"]].to_numpy().tolist() == [["b", 2], ["a", 1]]  # in the order of their first rows
        for one in found.itertuples():
            own = rows[rows["group"] == one.group]
            assert (one.value, one.ci_low, one.ci_high, one.n) == alone(own, draws=50, seed=3)
            assert one.n_rows == len(own) == 12


def test_rows_without_a_name_of_their_group_are_not_lost(rows: pd.DataFrame) -> None:
    found = estimates(
        rows.assign(group=rows["group"].replace("b", np.nan)), ["group"], "right", over="cluster", draws=20
    )
    assert found["group"].isna().tolist() == [True, False]
    assert found["n_rows"].tolist() == [12, 12]


def test_a_share_that_is_the_same_everywhere_has_an_interval_with_a_width(rows: pd.DataFrame) -> None:
    found = estimates(rows.assign(right=True), ["group"], "right", over="cluster", kind="share")
    assert found["value"].tolist() == [1.0, 1.0]
    assert found["ci_low"].tolist() == [wilson_interval(4, 4).ci_low] * 2
    total = estimates(
        rows, ["group"], lambda own, weights: weights @ (own["right"] > 2), over="cluster", kind="share", draws=10
    )
    assert total["ci_high"].tolist() == [wilson_interval(0, 4).ci_high] * 2


def test_an_interval_of_a_mean_goes_no_further_than_the_mean_can() -> None:
    rows = pd.DataFrame({"all": 0, "cluster": [*"aabbcc"], "tokens": [1.0, 1, 1, 1, 1, 4]})
    free, held = (
        estimates(rows, ["all"], "tokens", over="cluster", limits=limits) for limits in ((-np.inf, np.inf), (1.0, 5.0))
    )
    assert free["ci_low"].item() < 1.0  # else this shows nothing
    assert held["ci_low"].item() == 1.0
    assert held["ci_high"].item() == min(5.0, free["ci_high"].item())
    assert held["value"].item() == free["value"].item() == 1.5
    one = estimates(rows.assign(cluster="a"), ["all"], "tokens", over="cluster", limits=(1.0, 5.0))
    assert one[["ci_low", "ci_high"]].isna().all().all()


def test_a_correlation_of_three_points_that_all_draws_agree_on_has_no_interval() -> None:
    rows = pd.DataFrame({"all": 0, "cluster": range(3), "a": [1.0, 2, 3], "b": [0.0, 1, 5]})
    correlation = lambda own, weights: weighted_spearman(own["a"], own["b"], weights)  # noqa: E731
    (found,) = estimates(rows, ["all"], correlation, over="cluster", kind="correlation").itertuples()
    assert found.value == 1.0
    assert np.isnan([found.ci_low, found.ci_high]).all()
    more = pd.DataFrame({"all": 0, "cluster": range(5), "a": [1.0, 2, 3, 4, 5], "b": [0.0, 1, 5, 3, 4]})
    (found,) = estimates(more, ["all"], correlation, over="cluster", kind="correlation").itertuples()
    assert -1 <= found.ci_low < found.value < found.ci_high == 1


def test_a_median_of_differences_is_the_difference_of_medians_in_the_same_draws() -> None:
    rows = pd.DataFrame({"all": 0, "cluster": range(5), "a": [1.0, 2, 3, 4, 5], "b": [0.0, 1, 2, 3, 4]})
    (found,) = estimates(rows, ["all"], "a", over="cluster", kind="median", minus="b").itertuples()
    assert (found.value, found.ci_low, found.ci_high) == (1.0, 1.0, 1.0)


def test_estimates_beside_each_other_keep_the_groups_of_the_first(rows: pd.DataFrame) -> None:
    right = estimates(rows, ["group"], "right", over="cluster", draws=20)
    before = estimates(rows[rows["group"] == "a"], ["group"], "before", over="cluster", name="before", draws=20)
    both = beside(["group"], right, before)
    assert list(both) == ["group", *ESTIMATE, "before", "before_ci_low", "before_ci_high"]
    assert both["before"].isna().tolist() == [True, False]
    assert both["n_rows"].tolist() == [12, 12]


def test_no_rows_have_no_estimates_and_keep_the_types_of_their_columns(rows: pd.DataFrame) -> None:
    none = estimates(rows[:0], ["group", "size"], "right", over="cluster")
    assert len(none) == 0
    assert (
        none.dtypes.to_dict() == estimates(rows, ["group", "size"], "right", over="cluster", draws=2).dtypes.to_dict()
    )


def test_a_schema_of_estimates_takes_one_cluster_whose_interval_is_nan(rows: pd.DataFrame) -> None:
    found = estimates(rows.assign(cluster="w"), ["group"], "right", over="cluster")
    table = checked(named({"t": found}, "tiny")["t"], schema_of("Shares", group=str, **ESTIMATE))
    assert list(table) == ["model", "group", *ESTIMATE]
    assert table["ci_low"].isna().all()
    with pytest.raises(ValueError, match="table Shares: missing columns"):
        checked(found, schema_of("Shares", group=str))
