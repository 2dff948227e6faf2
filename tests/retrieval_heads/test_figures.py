"""Figures show the numbers of their tables, say what their axes are, and can be told apart by everybody."""

import json
import re
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from figures.retrieval_heads import draw_all
from figures.retrieval_heads_comparison import draw_comparison
from figures.style import BLUE, GREEN, ORANGE, PALETTE, RED, SEQUENTIAL, faint
from interp.tables import empty
from probes.retrieval_heads.summaries import BUCKETS
from probes.retrieval_heads.tables import SCHEMAS

NAMES = [
    "ablation",
    "head_map",
    "ranked_scores",
    "sparsity",
    "activation",
    "needle_grid",
    "detector_ablation",
    "detectors",
    "agreement",
    "convergence",
]  # fmt: skip
SET = [0.5, 0.02, 0.0, 0.3]
"""Set scores of the heads 0-0, 0-1, 1-0 and 1-1."""


def frame(columns: str, *rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split()).assign(model="tiny")


def small_tables(*, half: float = 0.1, n_heads: int = 4, literal_too: bool = True) -> dict[str, pd.DataFrame]:
    """A small run: `half` the width of every interval, NaN for none; two heads are one layer."""
    factors = {"set": 1, "count": 2, "echo": 0.5, "induction": -1, "locos": 10, "direct": 5}
    scores = [
        (i // 2, i % 2, 0, definition, factor * SET[i], factor * SET[i] - half, factor * SET[i] + 2 * half, SET[i] > 0)
        for definition, factor in factors.items()
        for i in range(n_heads)
    ]
    curves = {  # condition, ranking, K: recall, rise of prose surprisal
        ("top", "set", 4): (0.2, 0.30), ("none", "none", 0): (0.9, 0.0), ("top", "set", 2): (0.4, 0.10),
        ("random", "set", 2): (0.8, 0.05), ("random", "set", 4): (0.7, 0.06), ("top", "echo", 2): (0.6, 0.02),
    }  # fmt: skip
    shifts = {"all": 0, "non-literal": -0.05, **({"literal": 0.05} if literal_too else {})}
    ablation = [
        (*key, "zero", "decode", needles, outcome, value, value - half, value + half, lost, lost - half, lost + half, 2)
        for key, (recall, rise) in curves.items()
        for needles, shift in shifts.items()
        for outcome, value, lost in (
            ("recall", recall - shift, 0.9 - recall + shift),
            ("prose_surprisal_nats", 3 + rise, rise),
        )
    ]
    asked = [
        (needle, True, tokens, depth, recall)
        for needle, recalls in (("a", (1.0, 0.5, 0.0, 0.25)), ("b", (1.0, 1.0, 0.0, 0.75)))
        for (tokens, depth), recall in zip([(n, d) for n in (384, 1024) for d in (0.1, 0.5)], recalls, strict=True)
    ]
    shares = {"set": (0.25, 0.25, 0.25, 0.25), "count": (0.25, 0.25, 0.0, 0.5)}
    return {
        **{name: empty(schema) for name, schema in SCHEMAS.items()},
        "head_scores": frame("layer head kv_head definition score ci_low ci_high activation_frequency", *scores),
        "ablation_summary": frame(
            "condition ranking k mode phase needles outcome mean ci_low ci_high lost lost_ci_low lost_ci_high n_needles",
            *ablation,
        ),
        "samples": frame(
            "needle_id has_needle context_tokens depth_fraction recall", *asked, ("a", False, 384, np.nan, 0.0)
        ),
        "sparsity": frame(
            "definition bucket share ci_low ci_high",
            *[(d, b, s, s - half, s + half) for d, row in shares.items() for b, s in zip(BUCKETS, row, strict=True)],
        ),
        "agreement": frame(
            "first second k spearman top_k_overlap", ("set", "count", 2, 0.8, 0.5), ("set", "echo", 2, -0.25, 1.0),
            ("count", "echo", 2, np.nan, 0.0),
        ),
        "convergence": frame(
            "definition n_needles k pearson_with_final top_k_overlap_with_final stability",
            ("set", 1, 2, 0.5, 0.5, np.nan), ("set", 2, 2, 1.0, 1.0, 0.75), ("count", 1, 2, 0.1, 0.0, np.nan),
        ),
    }  # fmt: skip


COMPARED = {
    "pairs": frame("first second pearson", ("one", "two", 0.9), ("one", "six", np.nan), ("two", "six", np.nan)),
    "sparsity": pd.DataFrame(
        {"run": ["one"] * 4 + ["two"] * 4, "bucket": BUCKETS * 2, "share": [0.25] * 4 + [0, 0, 0, 1]}
    ),
}
COMPARISONS = ["compared correlation", "compared sparsity"]


@cache
def everything() -> dict[str, go.Figure]:
    compared = {f"compared {name}": figure for name, figure in draw_comparison(COMPARED).items()}
    return {**draw_all(small_tables()), **compared}


def drawn(name: str) -> go.Figure:
    """One figure of the small run, or of the comparison."""
    return everything()[name]


def trace(figure: go.Figure, name: str, **selector: Any) -> Any:
    (found,) = figure.select_traces({"name": name, **selector})
    return found


def axes(figure: go.Figure) -> list[Any]:
    """The visible axes. A figure of one panel has its two, one of several has those of each panel."""
    every = [*figure.select_xaxes(), *figure.select_yaxes()]
    return [axis for axis in every if axis.visible is not False]


def test_all_figures_come_in_the_order_of_the_report():
    assert list(everything()) == NAMES + COMPARISONS


@pytest.mark.parametrize("name", [*NAMES, *COMPARISONS])
def test_every_axis_says_what_it_shows_in_words(name):
    figure = drawn(name)
    assert axes(figure)
    titles = [axis.title.text for axis in axes(figure)]
    assert all(titles), titles
    bars = [t.colorbar.title.text for t in figure.data if t.type == "heatmap" and t.showscale is not False]
    for text in (*titles, *filter(None, bars), figure.layout.title.text, *(t.name for t in figure.data if t.name)):
        assert not re.search(r"[a-z]_[a-z]", text)  # no raw column name


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("head_map", ["head", "layer"]),
        ("sparsity", ["copy-paste score", "share of heads, %"]),
        ("needle_grid", ["context, tokens", "depth of the needle"]),
        (
            "ablation",
            ["heads masked (K)", "heads masked (K)", "recall on held-out needles", "rise of prose surprisal, nats"],
        ),
        ("convergence", ["needles measured", "agreement"]),
    ],
)
def test_axis_titles_tell_the_unit(name, titles):
    assert [axis.title.text for axis in axes(drawn(name))] == titles


@pytest.mark.parametrize("name", [*NAMES, *COMPARISONS])
def test_every_figure_carries_its_caption_and_its_model(name):
    figure = drawn(name)
    assert re.fullmatch(r"[A-Z].{30,}\.", figure.layout.meta["caption"])
    assert name in COMPARISONS or figure.layout.title.text.endswith(" · tiny")


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param(small_tables(half=np.nan), id="no intervals"),
        pytest.param(small_tables(n_heads=2), id="one layer"),
        pytest.param(small_tables(n_heads=1), id="one head"),
        pytest.param(small_tables(half=np.nan, literal_too=False), id="one needle, not literal"),
    ],
)
def test_figures_are_drawn_of_the_smallest_runs(tables):
    if "literal" not in set(tables["ablation_summary"]["needles"]):
        tables["samples"] = tables["samples"].query("needle_id == 'a' and context_tokens == 384")
    figures = draw_all(tables)
    assert list(figures) == NAMES
    for figure in figures.values():
        json.loads(figure.to_json(), parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))


def test_the_head_map_has_each_score_in_its_cell():
    heatmap = drawn("head_map").data[0]
    assert (list(heatmap.x), list(heatmap.y)) == ([0, 1], [0, 1])
    assert np.asarray(heatmap.z).tolist() == [[0.5, 0.02], [0.0, 0.3]]  # row: layer, column: head
    assert (heatmap.zmin, heatmap.zmax) == (0, 0.5)


def test_ranked_heads_fall_in_set_score_and_carry_both_definitions_with_their_intervals():
    for name, factor in (("set", 1), ("count", 2)):
        points = trace(drawn("ranked_scores"), name)
        assert list(points.x) == ["0-0", "1-1", "0-1", "1-0"]
        assert list(points.y) == pytest.approx([factor * score for score in (0.5, 0.3, 0.02, 0.0)])
        assert list(points.error_y.array) == pytest.approx([0.2] * 4)
        assert list(points.error_y.arrayminus) == pytest.approx([0.1] * 4)
    (axis,) = drawn("ranked_scores").select_xaxes()
    assert axis.type == "category"  # "1-1" is no date


def test_sparsity_bars_are_per_cent_of_heads():
    bars = trace(drawn("sparsity"), "count")
    assert list(bars.x) == list(BUCKETS)
    assert list(bars.y) == [25, 25, 0, 50]
    assert list(trace(drawn("compared sparsity"), "two").y) == [0, 0, 0, 100]


def test_the_needle_grid_has_mean_recall_per_cell_and_leaves_controls_out():
    heatmap = drawn("needle_grid").data[0]
    assert (list(heatmap.x), list(heatmap.y)) == (["384", "1,024"], ["10%", "50%"])
    # Rows are depths. The control (recall 0) is in no cell.
    assert np.asarray(heatmap.z).tolist() == [[1.0, 0.0], [0.75, 0.5]]


def test_ablation_curves_begin_unmasked_and_follow_k_with_their_bands():
    wanted = {
        ("top", "x"): [0.9, 0.4, 0.2], ("random", "x"): [0.9, 0.8, 0.7],
        ("top", "x2"): [0, 0.10, 0.30], ("random", "x2"): [0, 0.05, 0.06],
    }  # fmt: skip
    for (name, panel), values in wanted.items():
        curve = trace(drawn("ablation"), name, xaxis=panel, mode="lines+markers")
        assert list(curve.x) == [0, 2, 4]
        assert list(curve.y) == pytest.approx(values)
        shade = trace(drawn("ablation"), name, xaxis=panel, fill="toself")
        assert list(shade.x) == [0, 2, 4, 4, 2, 0]
        upper, lower = [value + 0.1 for value in values], [value - 0.1 for value in values]
        assert list(shade.y) == pytest.approx(upper + lower[::-1])
        assert shade.fillcolor == faint(curve.line.color)


def test_detectors_are_compared_at_one_k_with_random_heads_beside_them():
    for name, shift in (("literal", 0.05), ("non-literal", -0.05)):
        bars = trace(drawn("detector_ablation"), name)
        found = dict(zip(bars.x, zip(bars.y, bars.error_y.array, bars.error_y.arrayminus, strict=True), strict=True))
        assert found == {
            "set": pytest.approx((0.5 + shift, 0.1, 0.1)),
            "echo": pytest.approx((0.3 + shift, 0.1, 0.1)),
            "random heads": pytest.approx((0.1 + shift, 0.1, 0.1)),
        }


def test_scatter_points_are_heads():
    points = drawn("activation").data[0]
    assert dict(zip(points.text, zip(points.x, points.y, strict=True), strict=True)) == {
        "0-0": (1, 0.5), "0-1": (1, 0.02), "1-1": (1, 0.3)
    }  # fmt: skip
    panels = dict(zip((a.text for a in drawn("detectors").layout.annotations), drawn("detectors").data, strict=True))
    assert list(panels) == ["echo", "induction", "LOCOS, raw logits", "direct logit contribution"]
    for panel, factor in zip(panels.values(), (0.5, -1, 10, 5), strict=True):
        assert list(panel.x) == SET
        assert list(panel.y) == pytest.approx([factor * score for score in SET])


def test_matrices_are_symmetric_with_ones_on_the_diagonal_and_gaps_where_nothing_is_known():
    spearman, overlap = (np.asarray(heatmap.z, dtype=float) for heatmap in drawn("agreement").data)
    np.testing.assert_array_equal(spearman, [[1, 0.8, -0.25], [0.8, 1, np.nan], [-0.25, np.nan, 1]])
    np.testing.assert_array_equal(overlap, [[1, 0.5, 1], [0.5, 1, 0], [1, 0, 1]])
    runs = drawn("compared correlation").data[0]
    assert list(runs.x) == ["one", "two", "six"]
    np.testing.assert_array_equal(runs.z, [[1, 0.9, np.nan], [0.9, 1, np.nan], [np.nan, np.nan, 1]])


def test_convergence_shows_the_ranking_definition_only():
    curves = [list(curve.y) for curve in drawn("convergence").data]
    np.testing.assert_array_equal(curves, [[0.5, 1.0], [0.5, 1.0], [np.nan, 0.75]])
    assert {tuple(curve.x) for curve in drawn("convergence").data} == {(1, 2)}


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"ablation_summary": lambda t: t.iloc[:0]}, {"ablation", "detector_ablation"}),
        ({"ablation_summary": lambda t: t[t["ranking"] != "echo"]}, {"detector_ablation"}),
        ({"convergence": lambda t: t.iloc[:0]}, {"convergence"}),
        pytest.param(
            {
                "head_scores": lambda t: t[t["definition"].isin(["echo", "induction"])],
                "convergence": lambda t: t.iloc[:0],
            },
            {"head_map", "ranked_scores", "sparsity", "activation", "detectors", "convergence"},
            id="no answer passed the filter: only echo and induction have scores",
        ),
    ],
)
def test_figures_without_data_are_left_out(changes, gone):
    tables = small_tables()
    figures = draw_all({**tables, **{name: change(tables[name]) for name, change in changes.items()}})
    assert set(NAMES) - set(figures) == gone


# Machado, Oliveira and Fernandes 2009: full deuteranopia and protanopia, on linear RGB.
DEUTERANOPE = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]])
PROTANOPE = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
TO_XYZ = np.array([[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.9503]])
JUST_NOTICEABLE = 2.3
"""Distance in CIELAB (Mahy et al. 1994)."""


def lab(colour: str, eye: np.ndarray) -> np.ndarray:
    """CIELAB of a "#RRGGBB" colour as that eye sees it."""
    s = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(eye @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", [np.eye(3), DEUTERANOPE, PROTANOPE], ids=["most", "deuteranope", "protanope"])
def test_colours_are_told_apart_by_every_eye(eye):
    assert lab("#FFFFFF", eye) == pytest.approx([100, 0, 0], abs=0.5)
    distance = {pair: np.linalg.norm(lab(pair[0], eye) - lab(pair[1], eye)) for pair in combinations(PALETTE, 2)}
    assert min(distance.values()) > 3 * JUST_NOTICEABLE
    for pair in ((BLUE, ORANGE), (BLUE, RED), (BLUE, GREEN), (ORANGE, GREEN)):  # drawn into one figure
        assert distance.get(pair, distance.get(pair[::-1])) > 10 * JUST_NOTICEABLE
        assert abs(lab(pair[0], np.eye(3))[0] - lab(pair[1], np.eye(3))[0]) > 3 * JUST_NOTICEABLE  # in grey print


def test_the_scale_of_heat_maps_darkens_all_the_way():
    lightness = [lab(colour, np.eye(3))[0] for _, colour in SEQUENTIAL]
    assert lightness == sorted(lightness, reverse=True)
    assert lightness[0] - lightness[-1] > 70
