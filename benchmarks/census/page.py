"""The page on the census, from its stored table alone: `python -m benchmarks.census.page` tries nothing."""

import sys
from pathlib import Path

import pandas as pd

from benchmarks.census.runs import RAN, SETTINGS
from benchmarks.census.table import NOT_TRIED
from benchmarks.page_tables import markdown
from benchmarks.tables import RESULTS
from interp.models.check.verdicts import WAYS_OUT

PLACE = RESULTS / "census"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "model_census.md"
WITHOUT_READING = [name for name in WAYS_OUT if name != "reading"]

OUTCOMES = {
    "all": "every check holds",
    "some": "heads can be looked at; the checks that are named are refused",
    "no attention": "no attention heads; read right",
    "without heads": "read right by transformers' own attention; its heads cannot be looked at",
    "refused": "refused",
    "not built": "no tiny model of it can be made here",
    "traceback": "a fault",
    "crash": "a fault",
    "hangs": "nothing within a minute",
}
"""What each outcome of the table means, in the order of the page."""

HEAD = """# Census of language models

Every causal language model of transformers {version}, and the multimodal ones whose text model is read here, as a tiny random model
(two to four layers, four heads, windows of 8 tokens, float32), built from its own configuration class and checked
[as at load](models.md#the-check-at-load), on texts of 40 tokens. Then each model is saved to a folder and loaded from there, and
experiments are run on it. `python -m benchmarks.census` tries all of them and writes this page; `--families NAME …` tries some, and
`--experiments` with nothing after it runs only the checks (about five minutes). Names with a comma are variants of a family.

{counts}

`contributions` are the basis of the `locos` and `direct` scores of `retrieval_heads`. They are refused where the logits are not a sum
of head outputs (norms after the sum, as in BERT; attention modules that add the residual stream themselves, as in BLOOM); use
`--no-contributions` then. How a model can continue a text is also determined at load: `copies` (branches get copies of the shared
keys), `level` (rows at different positions are read separately), `single` (one token at a time after a recurrent state), `whole`
(every text is read anew). A random model shows that the numbers are those of transformers; it says nothing about trained models or
GPUs.

"""


def page(table: pd.DataFrame, version: str) -> str:
    """Returns the page of a table."""
    parts = [HEAD.format(version=version, counts=counts(table)), runs(table)]
    for outcome, meaning in OUTCOMES.items():
        rows = table[table["outcome"] == outcome]
        if len(rows):
            parts.append(f"## {meaning.capitalize()}\n\n{section(outcome, rows)}\n")
    return "\n".join(parts).rstrip() + "\n"


def counts(table: pd.DataFrame) -> str:
    """Returns how many families and variants ended in each way."""
    is_variant = table["family"].str.contains(",")
    rows = []
    for outcome, meaning in OUTCOMES.items():
        ended = table["outcome"] == outcome
        if ended.any():
            rows.append([meaning, str(int((ended & ~is_variant).sum())), str(int((ended & is_variant).sum()))])
    only = table[(table["outcome"] == "some") & ~is_variant]
    others = only[[name for name in WITHOUT_READING if name != "contributions"]].eq("").all(axis=1)
    rows.append(["of the second line: everything but `contributions`", str(int(others.sum())), "—"])
    rows.append(["in all", str(int((~is_variant).sum())), str(int(is_variant.sum()))])
    return markdown(["outcome", "families", "variants"], rows)


RUNS = """## Runs

For each experiment, every planned unit is measured, and every table is checked against its schema, summarised and turned into findings,
with the settings of `benchmarks/census/runs.py`: the quick presets with fewer and shorter texts. Attention rows must sum to one (with a
sink, to less), shares must lie between 0 and 1, nothing may be infinite, and an estimate must be a number if anything was counted. If a
refusal says what to type, that is tried once. `--pages` uses the full runner, with figures and reports.

{counts}

{ends}
"""


def runs(table: pd.DataFrame) -> str:
    """Returns how the experiments ended: how many in each way, and the families that did not simply run."""
    tried = {name: table[~table[name].isin((NOT_TRIED,))] for name in SETTINGS}
    rows, lines = [], []
    for name, own in tried.items():
        ends = own[name]
        plain, fault = ends == RAN, ends.str.startswith(("fault", "wrong"))
        typed = ends.str.startswith(RAN) & ~plain
        left = ~(plain | typed | fault)
        numbers = [*(int(kind.sum()) for kind in (plain, typed, left, fault)), len(table) - len(own)]
        rows.append([f"`{name}`", *map(str, numbers)])
        lines += [
            f"- `{name}` {_cell(end, 300)}: {', '.join(f'`{family}`' for family in group['family'])}."
            for end, group in own[~plain].groupby(name)
        ]
    head = ["experiment", "ran", "ran with what a refusal said to type", "refused", "faults", "not tried"]
    return RUNS.format(counts=markdown(head, rows), ends="\n".join(lines))


def section(outcome: str, rows: pd.DataFrame) -> str:
    """Returns one outcome's families: a list where there is nothing more to say, otherwise a table."""
    if outcome in ("all", "no attention"):
        limited = rows[rows["limits"] != ""]
        names = ", ".join(f"`{family}`" for family in rows["family"])
        notes = "; ".join(f"`{row.family}` {row.limits}" for row in limited.itertuples())
        return names + "." + (f"\n\nRead on with limits: {notes}." if notes else "")
    if outcome == "some":
        lines = [
            [
                f"`{row['family']}`",
                ", ".join(f"`{name}`" for name in WITHOUT_READING if row[name]),
                _first(row),
                row["limits"],
            ]
            for _, row in rows.iterrows()
        ]
        return markdown(["family", "refused", "why the first", "limits"], lines)
    return markdown(
        ["family", "in words"], [[f"`{row['family']}`", _cell(row["sentence"])] for _, row in rows.iterrows()]
    )


def _first(row: pd.Series) -> str:
    return _cell(next(str(row[name]) for name in WITHOUT_READING if row[name]))


def _cell(text: object, longest: int = 160) -> str:
    """A sentence that fits a table's cell."""
    return str(text).replace("|", "∣").replace("<", "‹").replace(">", "›")[:longest]


def write_page(folder: Path = PLACE, path: Path = PAGE) -> Path:
    """Writes the page from the stored table; returns its path."""
    table = pd.read_csv(folder / "census.csv", keep_default_na=False)
    version = (folder / "version.txt").read_text(encoding="utf-8").strip()
    path.write_text(page(table, version), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{write_page()}\n")
