"""report.html: one page with everything a run found, that opens anywhere without a network."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.tables import write_aside

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.run import Run

ROWS_SHOWN = 10

FIGURE_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,  # plotly offers by default to send a figure's data to its maker
    # A longer bar lies over the title; dragging zooms and a double click shows all without buttons.
    "modeBarButtonsToRemove": ["zoom2d", "pan2d", "select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
}
"""How interactive figures behave: plotly's own options."""

_STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --paper: #fff; --mark: #0072b2; --warn: #b34700; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 1.5rem; color: var(--ink); background: var(--paper);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { margin-top: 2.4rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
.soft, figcaption { color: var(--soft); } code, pre { font: .88em/1.5 ui-monospace, Menlo, Consolas, monospace; }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto; border-radius: 6px; }
ul.findings li { margin: .35rem 0; } ul.warnings li { color: var(--warn); }
figure { margin: 1.6rem 0; overflow-x: auto; } figcaption { font-size: .92rem; max-width: 75ch; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left; white-space: nowrap; max-width: 32ch;
         overflow: hidden; text-overflow: ellipsis; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } a { color: var(--mark); } summary { cursor: pointer; padding: .25rem 0; }
"""


def write_report(run: "Run") -> Path:
    """Writes the run's report.html; returns its path."""
    path = run.folder / "report.html"
    page = render_report(run)
    write_aside(path, lambda aside: aside.write_text(page, encoding="utf-8"))
    return path


def render_report(run: "Run") -> str:
    """Returns the page: findings, warnings, figures, tables, configuration and how to repeat the run."""
    findings = run.experiment.findings(run.tables)
    results = [finding.text for finding in findings if finding.kind == "result"]
    warnings = [finding.text for finding in findings if finding.kind == "warning"]
    title = f"{run.experiment.name} · {run.folder.parent.name}"
    sections = [
        f"<h1>{escape(title)}</h1><p class='soft'>{escape(run.experiment.summary)}</p>",
        "<h2>What was found</h2>" + _list(results, "findings"),
        "<h2>Warnings</h2>" + _list(warnings, "warnings") if warnings else "",
        "<h2>Figures</h2>" + "".join(render_figure(name, figure) for name, figure in run.figures.items()),
        "<h2>Tables</h2>" + "".join(_table(name, run.tables[name]) for name in run.tables),
        "<h2>Model and configuration</h2>" + _facts(run.description),
        f"<h2>How to repeat it</h2><pre>{escape(str(run.description.get('command')))}</pre>",
        f"<h2>How to cite</h2><p>{escape(run.experiment.paper)}</p>",
    ]
    return page(title, sections)


def page(title: str, sections: list[str]) -> str:
    """Returns a whole HTML page in the toolkit's style, plotly's script included, from sections of HTML."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><script>{_plotly_script()}</script></head>"
        f"<body>{''.join(sections)}</body></html>"
    )


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def _list(items: list[str], kind: str) -> str:
    return f"<ul class='{kind}'>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def render_figure(name: str, figure: "go.Figure") -> str:
    """Returns a figure with its caption as HTML; the page must hold plotly's script."""
    caption = str((figure.layout.meta or {}).get("caption", name))
    chart = figure.to_html(include_plotlyjs=False, full_html=False, config=FIGURE_CONFIG)
    return f"<figure id='{escape(name)}' aria-label='{escape(caption)}'>{chart}<figcaption>{escape(caption)}</figcaption></figure>"


def _table(name: str, frame: "pd.DataFrame") -> str:
    shown = frame.head(ROWS_SHOWN)
    head = "".join(f"<th scope='col'>{escape(str(column))}</th>" for column in shown.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(value))}</td>" for value in row) + "</tr>"
        for row in shown.itertuples(index=False)
    )
    link = f"<a href='tables/{escape(name)}.parquet'>tables/{escape(name)}.parquet</a>"
    return (
        f"<details><summary><code>{escape(name)}</code> <span class='soft'>{len(frame):,} rows</span></summary>"
        f"<p class='soft'>The first {len(shown)}; all of them in {link}</p>"
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = (
        str(list(value))
        if hasattr(value, "tolist") and not isinstance(value, str) and getattr(value, "ndim", 0)
        else str(value)
    )
    return text if len(text) <= 80 else text[:79] + "…"


def _facts(description: Any) -> str:
    flat = {
        **{f"model {key}": value for key, value in description["model"]["identity"].items()},
        **{key: description.get(key) for key in ("device", "started", "finished")},
        **{
            key: value
            for key, value in description["configuration"].items()
            if key not in ("model", "revision", "dtype")
        },
        **{f"version {key}": value for key, value in description["versions"].items()},
    }
    rows = "".join(
        f"<tr><th scope='row'>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>" for key, value in flat.items()
    )
    return f"<div class='scroll'><table><tbody>{rows}</tbody></table></div>"
