"""Benchmarks: their arithmetic by hand, their checks fail when they should, all run in tiny sizes, and the page is what is stored."""

import importlib
import math

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import NAMES, crowded, page, tables
from benchmarks.figure import plot_growth
from benchmarks.function_tokens import count_vectors, counts_apart, random_dictionary
from benchmarks.growth import exponents, fitted_exponent, summarise
from benchmarks.stopwatch import measure
from benchmarks.t2i_flow import pixels_apart
from benchmarks.verbatim_memory import surprisals_apart
from interp.errors import RunError
from interp.models.dictionary.dictionary import Dictionary, shipped_dictionaries

pytestmark = pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning")

# ---------------------------------------------------------------------- exponents


def test_exponent_of_exact_powers_is_the_power() -> None:
    assert fitted_exponent([1, 2, 4], [5, 10, 20]) == pytest.approx(1)
    assert fitted_exponent([512, 1024, 2048], [3, 12, 48]) == pytest.approx(2)
    assert fitted_exponent([1, 10, 100], [7, 7, 7]) == pytest.approx(0)


def test_exponent_is_the_least_squares_slope() -> None:
    # In logs to base 2: x = 0, 1, 2 and y = 0, 2, 3, so slope = (-1 · 0 + 0 · 2 + 1 · 3) / 2 = 1.5.
    assert fitted_exponent([1, 2, 4], [1, 4, 8]) == pytest.approx(1.5)
    # Between the last two alone: 3 - 2 = 1.
    assert fitted_exponent([2, 4], [4, 8]) == pytest.approx(1)


def test_exponent_needs_two_sizes() -> None:
    with pytest.raises(ValueError, match="two sizes"):
        fitted_exponent([8, 8], [1, 2])


def growth_by_hand() -> pd.DataFrame:
    """Two sizes twice: seconds 1 and 2, then 3 and 12; the medians are 2 and 7."""
    rows = [(4, 0, 1.0), (16, 0, 2.0), (4, 1, 3.0), (16, 1, 12.0)]
    return pd.DataFrame(
        [
            dict(model="m", benchmark="t2i_flow", curve="steps", size=size, repetition=repetition, processor_seconds=seconds,
                 wall_seconds=seconds, peak_mb=seconds)
            for size, repetition, seconds in rows
        ]
    )  # fmt: skip


def test_exponents_of_a_curve_come_from_medians_and_their_range_from_single_repetitions() -> None:
    (row,) = exponents(growth_by_hand()).to_dict("records")
    assert row["exponent"] == pytest.approx(math.log(3.5, 4))
    assert (row["exponent_low"], row["exponent_high"]) == (pytest.approx(0.5), pytest.approx(1))
    assert row["exponent_last"] == pytest.approx(math.log(3.5, 4))
    sizes = summarise(growth_by_hand())
    assert sizes["seconds"].tolist() == [2, 7]
    assert sizes["seconds_high"].tolist() == [3, 12]


def test_figure_shows_medians_and_every_repetition() -> None:
    growth = growth_by_hand()
    figure = plot_growth(growth, exponents(growth))
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn["median"] == [2, 7]
    assert drawn["one repetition"] == [1, 2, 3, 12]
    assert drawn["in proportion"] == [7 / 4, 7]
    assert "exponent 0.90" in figure.layout.annotations[0].text  # log 3.5 / log 4


# ---------------------------------------------------------------------- comparisons

LABELS = {"model": "m", "benchmark": "t2i_flow", "kind": "speed", "case": "by hand", "amount_name": "numbers"}


def apart(first: float, other: float) -> tables.Difference:
    return tables.Difference("difference", abs(first - other), 1, 0.1)


def test_ways_are_held_against_the_first() -> None:
    ways = {("toolkit", "a"): lambda: 1.0, ("baseline", "b"): lambda: 1.05}
    rows = tables.compare(LABELS, ways, 2, apart, lambda _way, result: result)
    assert [(row["way"], row["repetition"]) for row in rows] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [row["difference"] for row in rows][1::2] == [pytest.approx(0.05)] * 2
    assert np.isnan(rows[0]["difference"])
    assert rows[1]["ratio"] == rows[1]["processor_seconds"] / rows[0]["processor_seconds"]
    assert rows[0]["ratio"] == 1


@pytest.mark.parametrize("other", [1.2, float("nan")])
def test_a_comparison_of_different_results_is_refused(other: float) -> None:
    ways = {("toolkit", "a"): lambda: 1.0, ("baseline", "b"): lambda: other}
    with pytest.raises(RunError, match="by hand: b differs"):
        tables.compare(LABELS, ways, 1, apart, lambda *_: 1)


def test_a_peak_is_seen_though_it_is_given_back() -> None:
    cost, kept = measure(lambda: float(torch.ones(50_000_000).sum()))
    assert kept == 5e7
    assert cost.peak_mb == pytest.approx(4 * 50_000_000 / 2**20, rel=0.1)
    again, _ = measure(lambda: 0)
    assert again.peak_mb < 20


def test_processor_seconds_do_not_count_waiting() -> None:
    import time

    cost, _ = measure(lambda: time.sleep(0.3))
    assert cost.wall_seconds >= 0.3
    assert cost.processor_seconds < 0.1


def test_pairs_counted_otherwise_are_a_share() -> None:
    ours = {(0, 1): 2, (0, 2): 1, (3, 4): 5, (3, 5): 1}
    assert counts_apart(ours, dict(ours)).largest == 0
    assert counts_apart(ours, {**ours, (3, 4): 6}).largest == 0.25
    assert counts_apart(ours, {(0, 1): 2, (0, 2): 1, (9, 9): 1, (3, 5): 1}).largest == 0.5  # one missing, one too many


def test_a_surprisal_that_is_missing_is_no_small_difference() -> None:
    key, other = ("t", "intact", 1, "repeat", 2, 0), ("t", "intact", 1, "repeat", 2, 1)
    assert surprisals_apart({key: 3.0, other: 1.0}, {key: 3.5}).largest == 0.5
    assert surprisals_apart({key: 3.0}, {key: 3.0, other: 1.0}).largest == float("inf")


def test_one_pixel_is_enough() -> None:
    first = np.zeros((2, 4, 4, 3), dtype=np.float32)
    other = first.copy()
    other[1, 2, 3, 0] = 0.5
    assert pixels_apart(first, other).largest == 0.5


def test_random_dictionary_lets_its_features_through() -> None:
    shipped = Dictionary.from_folder(shipped_dictionaries("smollm2-135m")[0])
    random = random_dictionary(shipped, 1 << 12)
    vectors = torch.nn.functional.normalize(torch.randn(400, 576, generator=torch.Generator().manual_seed(3)), dim=1)
    assert random.n_features == 4096
    # 32 of a row on average, which is a count of near-independent events: 400 rows give it to within 1%.
    assert count_vectors(random, vectors) / 400 == pytest.approx(32, rel=0.05)
    assert shipped.n_features == 4096
    assert shipped.sae.W_enc.data_ptr() != random.sae.W_enc.data_ptr()


# ---------------------------------------------------------------------- tiny runs


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_runs_and_its_tables_are_read_as_written(name: str, tmp_path) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    found = module.run(module.QUICK)
    written = tables.Results(found.comparison, found.growth, tables.Machine.here(0.5), found.more)
    tables.write(written, tmp_path / name)
    stored = tables.read(tmp_path / name)
    assert stored.machine == written.machine
    pd.testing.assert_frame_equal(stored.comparison, found.comparison, rtol=1e-5)
    pd.testing.assert_frame_equal(stored.growth, found.growth, rtol=1e-5)
    speed = found.comparison[found.comparison["kind"] == "speed"]
    assert {"toolkit", "baseline"} <= set(speed["side"])
    assert set(found.comparison["benchmark"]) == set(found.growth["benchmark"]) == {name}
    assert (found.growth.groupby("curve")["size"].nunique() >= 2).all()
    assert name in page.section(name, stored)


def test_draws_of_another_policy_are_refused() -> None:
    from benchmarks.critical_tokens import LEAST_CHANCE, combined

    # Two p of e^-8 make the statistic 32; with 4 degrees of freedom its tail is (1 + 16) e^-16.
    assert combined(np.exp([-8.0, -8.0])) == pytest.approx(17 * math.exp(-16))
    assert combined(np.exp([-8.0, -8.0])) < LEAST_CHANCE < combined(np.array([0.2, 0.5]))


# ---------------------------------------------------------------------- the page


def test_the_page_is_what_the_stored_tables_give() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.stored())


def test_every_figure_of_the_page_is_there() -> None:
    folder = page.PAGE.with_suffix("")
    assert sorted(path.stem for path in folder.glob("*.png")) == sorted(NAMES)


def test_what_was_not_measured_is_said(tmp_path) -> None:
    with pytest.raises(RunError, match="python -m benchmarks retrieval_heads"):
        page.stored(tmp_path)


def test_the_stored_measurement_beside_busy_processes_keeps_its_bound() -> None:
    table = pd.read_csv(crowded.TABLE)
    assert set(table["neighbours"]) == {0, crowded.NEIGHBOURS}
    assert crowded.times_as_long(table)["toolkit"] <= crowded.AT_MOST
