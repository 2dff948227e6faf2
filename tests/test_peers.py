"""Comparisons with other tools and between protocols: their arithmetic by hand, and the committed tables agree."""

import ast
import math

import numpy as np
import pandas as pd
import pytest

from benchmarks import crowded, page
from benchmarks.page import PAGE
from benchmarks.peers.__main__ import PLACE, compare, largest_difference, main
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import SCRIPTS
from benchmarks.peers.ours import OURS, InductionMass, pivotal_changes
from benchmarks.reliability import overlap_of_two, row, two_rates

# ---------------------------------------------------------------------- other tools


def test_a_difference_is_the_largest_and_a_number_that_is_missing_is_no_small_one() -> None:
    assert largest_difference([[1.0, 2.0], [3.0]], [[1.0, 2.5], [3.25]]) == (0.5, 3)
    assert largest_difference([[1.0, 2.0]], [[1.0]]) == (math.inf, 2)
    assert largest_difference([[1.0, 2.0]], [[1.0, math.nan]]) == (math.inf, 2)
    assert largest_difference([[]], [[]]) == (math.inf, 0)  # nothing compared is no agreement


def test_every_tool_is_asked_by_a_script_of_its_own_and_answered_by_a_function_of_ours() -> None:
    assert {peer.script for peer in PEERS} == set(OURS)
    assert {path.stem.removeprefix("ask_") for path in SCRIPTS.glob("ask_*.py")} == set(OURS)
    for path in SCRIPTS.glob("*.py"):
        nodes = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = [getattr(node, "module", None) or node.names[0].name for node in nodes]
        assert not [name for name in names if name.partition(".")[0] in ("interp", "probes", "benchmarks")], path.name


def test_what_is_committed_of_other_tools_agrees_within_rounding() -> None:
    table = pd.read_csv(PLACE / "peers.csv", keep_default_na=False)
    tolerance = {peer.name: peer.tolerance for peer in PEERS}
    assert set(table["peer"]) == set(tolerance)
    alike = table[table["differs"] == ""]
    assert len(alike) >= 12
    assert (alike["largest_difference"].astype(float) <= alike["peer"].map(tolerance)).all()
    assert (table["n_compared"] > 20).all()


def test_a_tool_that_means_something_else_is_published_with_the_reason() -> None:
    table = pd.read_csv(PLACE / "peers.csv", keep_default_na=False).set_index("peer")
    page = PAGE.read_text(encoding="utf-8")
    explained = {peer.name: peer.differs for peer in PEERS if peer.differs}
    assert table["differs"][table["differs"] != ""].to_dict() == explained
    for name, reason in explained.items():
        assert float(table["largest_difference"][name]) > 0.01  # a difference of meaning, not of rounding
        assert f"- **{name}** means something else: {reason}." in page


def test_numbers_beyond_rounding_are_counted() -> None:
    found = compare([[1.0, 2.0], [3.0]], [[1.0, 2.5], [3.0]], 0.1)
    assert (found["n_differing"], found["agrees"]) == (1, False)
    assert compare([[1.0, 2.0]], [[1.0]], 0.1)["n_differing"] == 2


def test_changes_below_the_effect_are_no_pivots() -> None:
    work = pivotal_changes("chains")(None, {"chains": [[0.5, 0.4, 0.8, 0.6]]})  # type: ignore[arg-type]
    np.testing.assert_allclose(work(), [[0.0, 0.4, -0.2]])


def test_an_unknown_tool_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["minicon"])
    assert "minicons" in capsys.readouterr().err


def test_induction_positions_are_those_after_an_earlier_copy_by_hand() -> None:
    # a b a b: the third token (a) may look at b (place 1), the fourth (b) at the second a (place 2).
    pattern = InductionMass([7, 8, 7, 8]).pattern
    assert pattern.nonzero().tolist() == [[2, 1], [3, 2]]


# ---------------------------------------------------------------------- reliability


def test_two_repeats_agree_where_needles_do_and_not_where_each_has_heads_of_its_own() -> None:
    generator = np.random.default_rng(0)
    alike = np.tile(np.arange(40.0), (4, 1))
    assert overlap_of_two({f"n{i}": alike for i in range(6)}, 3, 2, generator) == 1.0
    own = {f"n{i}": np.tile(np.eye(4).repeat(10, axis=1)[i], (4, 1)) for i in range(4)}
    assert overlap_of_two(own, 1, 4, generator) == 0.0  # each needle's ten heads are no other's


def test_two_rates_are_of_different_prompts() -> None:
    leaks = {"a": np.ones((1, 4)), "b": np.zeros((1, 4))}
    rates = {two_rates(leaks, 1, 2, np.random.default_rng(seed)) for seed in range(8)}
    assert rates == {(0.0, 1.0), (1.0, 0.0)}


def test_the_cheapest_protocol_that_agrees_is_named_and_where_none_does_that_is_said() -> None:
    costs = dict(prompts=1.0, tokens=1.0)
    rows = [
        row("heads", "dear", 1, [1.0, 1.0], processor_seconds=9.0, **costs),
        row("heads", "cheap", 1, [0.9, 1.0], processor_seconds=4.0, **costs),
        row("heads", "wrong", 1, [0.1, 0.3], processor_seconds=1.0, **costs),
        row("token", "only", 1, [0.4, 0.6], processor_seconds=1.0, **costs),
    ]
    heads, token = page.cheapest(pd.DataFrame(rows)).splitlines()
    assert "cheap, 4 processor seconds" in heads
    assert "none of these; the best was only (agreement 0.50)" in token


# ---------------------------------------------------------------------- a crowded machine


def test_a_unit_beside_busy_processes_is_held_against_the_same_alone() -> None:
    table = pd.DataFrame(
        [("toolkit", 0, 2.0), ("toolkit", 0, 4.0), ("toolkit", crowded.NEIGHBOURS, 12.0), ("defaults", 0, 1.0),
         ("defaults", crowded.NEIGHBOURS, 90.0)], columns=["way", "neighbours", "seconds"],
    )  # fmt: skip
    assert crowded.times_as_long(table) == {"toolkit": 4.0, "defaults": 90.0}
