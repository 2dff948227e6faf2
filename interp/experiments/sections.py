"""What pages are put together from: sections with a list of links before them, lists of sentences, tables of facts."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def render_sections(sections: Mapping[str, str]) -> list[str]:
    """Returns links to the sections and the sections under their titles, those that are empty left out."""
    shown = {title: body for title, body in sections.items() if body}
    links = "".join(f"<li><a href='#{anchor(title)}'>{title}</a></li>" for title in shown)
    return [
        f"<nav aria-label='Sections'><ul>{links}</ul></nav>",
        "<main>",
        *(
            f"<section aria-labelledby='{anchor(title)}'><h2 id='{anchor(title)}'>{title}</h2>{body}</section>"
            for title, body in shown.items()
        ),
        "</main>",
    ]


def anchor(title: str) -> str:
    """Returns the id of a section."""
    return title.lower().replace(" ", "-")


def render_list(items: Sequence[str], kind: str) -> str:
    """Returns sentences as a list of a kind: findings or warnings."""
    return f"<ul class='{kind}'>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def render_facts(facts: Mapping[str, Any], caption: str) -> str:
    """Returns names and values as a table, those without a value left out."""
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
        if value is not None
    )
    return render_fact_rows(rows, caption)


def render_fact_rows(rows: str, caption: str) -> str:
    """Returns rows of HTML as a table of facts under a caption."""
    return (
        f"<div class='scroll facts' tabindex='0' role='region' aria-label='{escape(caption)}'><table>"
        f"<caption>{escape(caption)}</caption><tbody>{rows}</tbody></table></div>"
    )


def render_duration(seconds: float) -> str:
    """Returns seconds in words: "40 s", "12 min", "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
