"""What a report prints under a figure draws it again, and the figure that answers the question comes first: on the gallery's tables."""

import json
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from experiments.gallery import read_tables
from interp.experiments.page import redrawing

FIRST = {
    "retrieval_heads": "ablation",
    "verbatim_memory": "list_length",
    "critical_tokens": "replacement",
    "t2i_flow": "roles",
}


def drawing_of(figure: go.Figure) -> dict[str, Any]:
    drawing = json.loads(str(figure.to_json()))
    del drawing["layout"]["meta"]
    return drawing


@pytest.mark.parametrize(("wing", "first"), FIRST.items())
def test_printed_lines_draw_every_figure_again_from_the_tables_named_under_it(
    wing: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = {"heat_maps": pd.DataFrame(), **read_tables(wing)}
    figures = import_module(f"figures.{wing}").draw_all(tables)
    assert next(iter(figures)) == first
    run: Any = SimpleNamespace(folder=Path("runs/a/b/c"), figures=figures)
    for figure in figures.values():
        named = {name: tables[name] for name in figure.layout.meta["tables"]}  # and no others
        monkeypatch.setattr("interp.experiments.run.open_run", lambda place, named=named: SimpleNamespace(tables=named))
        *lines, last = redrawing(figure, run).splitlines()
        names: dict[str, Any] = {}
        exec("\n".join(lines), names)
        again = eval(last, names)
        assert drawing_of(again) == drawing_of(figure)
        assert again.layout.meta["caption"] == figure.layout.meta["caption"]
