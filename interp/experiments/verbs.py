"""Commands other than running an experiment: atlas, plan, list, models, runs, … Docstrings are the help text."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from interp.errors import ArgumentError, RunError
from interp.experiments.atlas_settings import Atlas
from interp.experiments.catalogue import experiments, joins
from interp.experiments.experiment import Experiment
from interp.experiments.listing import State
from interp.experiments.options import FigureFormat, RunOptions
from interp.experiments.run import Run, labelled, open_run
from interp.models.transplant.rules import Rule

if TYPE_CHECKING:
    from interp.tables import Tables


def say(text: str, *, error: bool = False) -> None:
    """Print to the terminal: standard output, or standard error for errors."""
    (sys.stderr if error else sys.stdout).write(text + "\n")


def say_findings(run: Run) -> None:
    """Print a run's headlines and warnings, and the path of its report."""
    say_sentences(run)
    say(f"report: {run.folder / 'report.html'}")


def say_sentences(run: Run) -> None:
    """Print a run's headlines and warnings."""
    for finding in run.findings:
        say(("warning: " if finding.kind == "warning" else "") + finding.text)


def atlas(atlas: Atlas, options: RunOptions) -> None:
    """Run every experiment that applies to a model, then print the joined findings and the path of the report.

    Raises RunError, once the report is written, if an experiment failed.
    """
    from interp.experiments.atlas import run_atlas

    outcome = run_atlas(atlas, options, say)
    for member in outcome.members:
        if member.run and member.is_join:
            say_sentences(member.run)
    say(f"report: {outcome.folder / 'report.html'}")
    if outcome.failed:
        names = ", ".join(member.experiment.name for member in outcome.failed)
        raise RunError(f"{names} failed, and the report says why; the same command runs again only what is missing.")


def plan(experiment: Experiment, options: RunOptions) -> None:
    """Print what a run will do and cost, without running it."""
    from interp.experiments.forecast import forecast, lines_of
    from interp.experiments.timing import estimate

    expected = forecast(experiment, options)
    for line in lines_of(expected, estimate(expected) if expected.left else None):
        say(line)


def list_experiments() -> None:
    """List the experiments, and the questions across their runs."""
    for name, kind in {**experiments(), **joins()}.items():
        say(f"{name:<24} {kind.summary}\n{'':<24} {kind.paper}")


def list_models(
    model: Positional[str | None] = None, *, revision: str | None = None, device: str = "auto", dtype: str = "auto"
) -> None:
    """List the models known by name; given one model (name, Hugging Face id or folder), show what the check at load found.

    Args:
        model: Name of a language model, a Hugging Face id, or a folder.
        revision: Branch, tag or commit on the hub.
        device: Device to load the model on.
        dtype: Precision of the weights.

    """
    from interp.models.loading.names import aliases, known_kind

    if model is not None:
        if known_kind(model) == "image":
            raise ArgumentError(f"{model} is an image model, which has no check at load: name a language model.")
        _say_verdicts(model, revision, device, dtype)
        return
    for entry in aliases().values():
        say(f"{entry.name:<22} {entry.kind:<9} {entry.source:<42} {entry.notes}")


def _say_verdicts(name: str, revision: str | None, device: str, dtype: str) -> None:
    from interp.models.loading.language import load

    model = load(name, revision=revision, device=device, dtype=dtype)
    assert model.verdicts is not None
    identity = model.identity
    say(f"{identity.name} ({identity.source}, {identity.dtype}, {model.hf.config.model_type})")
    for verdict_name, verdict in model.verdicts.by_name.items():
        say(f"  {verdict_name:<14} {verdict.in_words()}")
    if model.without_heads is not None:
        say(model.without_heads)


def list_runs(
    *,
    experiment: str | None = None,
    model: str | None = None,
    state: State | None = None,
    limit: int = 40,
    html: bool = False,
    out: Path = Path("runs"),
) -> None:
    """List runs, newest first: experiment, model, state, age, size and headline.

    Args:
        experiment: List only runs of this experiment.
        model: List only runs on the model of this name.
        state: List only runs in this state.
        limit: Maximum number of runs to list; 0 lists all.
        html: Instead of printing, write a sortable, searchable page that links to every report.
        out: Folder of runs.

    """
    from interp.experiments import listing
    from interp.tables import write_aside

    if limit < 0:
        raise ArgumentError(f"--limit must be 0 or more, not {limit}.")
    limited = None if html or limit == 0 else limit + 1
    runs = listing.list_runs(out, experiment=experiment, model=model, state=state, limit=limited)
    if html:
        page, text = out / "runs.html", listing.render_listing(runs, out)
        write_aside(page, lambda aside: aside.write_text(text, encoding="utf-8"))
        say(f"{len(runs)} runs: {page}")
        return
    for run in runs[: limit or None]:
        age, size = listing.age_in_words(run.age), listing.bytes_in_words(run.n_bytes)
        about = f"{run.experiment:<24} {run.model:<22} {run.folder.name:<13} {run.state:<12}"
        say(f"{about} {age:>7} {size:>8}  {listing.shortened(run.said)}".rstrip())
    if not runs:
        say(f"No run under {out} matches.")
    if limited is not None and len(runs) == limited:
        say(f"There are more: --limit {10 * limit} shows up to {10 * limit}, --limit 0 all.")


def show(run: Positional[str], *, out: Path = Path("runs")) -> None:
    """Print a run's headlines, its tables and where they are.

    Args:
        run: Folder of a run, or the first digits of its hash.
        out: Folder of runs.

    """
    found = open_run(run, out)
    identity = found.description["model"]["identity"]
    say(f"{found.experiment.name} on {identity['name']} ({identity['source']}, {identity['dtype']})")
    say(f"{found.description['command']}")
    say_findings(found)
    for name, table in found.tables.items():
        say(f"  {name:<24} {len(table):>9,} rows  {found.folder / 'tables' / f'{name}.parquet'}")


def figures(
    run: Positional[str], *, format: tuple[FigureFormat, ...] = ("pdf", "svg", "png"), out: Path = Path("runs")
) -> None:
    """Redraw a finished run's figures from its tables.

    Args:
        run: Folder of a run, or the first digits of its hash.
        format: Formats to write in addition to the interactive pages.
        out: Folder of runs.

    """
    from interp.experiments.export import export_figures, write_figures

    found = open_run(run, out)
    for path in [*write_figures(found), *export_figures(found, format)]:
        say(str(path))


def compare(runs: Positional[tuple[str, ...]], *, out: Path = Path("runs")) -> None:
    """Compare two or more runs, or results of other tools, side by side.

    Args:
        runs: Folders of runs, first digits of their hashes, or other tools' files or folders that an experiment can read.
        out: Folder of runs; the comparison is written there too.

    """
    from interp.experiments.report import write_comparison

    if len(runs) < 2:
        raise ArgumentError("There is nothing to compare: name two or more runs.")
    found = [(place, *_side(place, out)) for place in runs]
    kinds = {kind for _, kind, _, _ in found}
    sides = labelled((label, place, tables) for place, _, label, tables in found)
    if len(kinds) > 1:
        raise ArgumentError(
            f"These are runs of {', '.join(sorted(kind.name for kind in kinds))}: compare runs of one experiment."
        )
    folder, text = write_comparison(kinds.pop()(), sides, out)
    say(text)
    say(f"report: {folder / 'report.html'}")


def _side(place: str, out: Path) -> "tuple[type[Experiment], str, Tables]":
    """One side of a comparison: a run, or a file of another tool that one of the experiments reads."""
    path = Path(place)
    if path.exists() and not (path / "run.json").is_file():
        refusals = []
        for kind in experiments().values():
            try:
                tables = kind().read_foreign(path)
            except ArgumentError as error:
                refusals.append(error)
                continue
            if tables is not None:
                return kind, path.stem, tables
        if path.is_file():
            raise refusals[0] if refusals else ArgumentError(f"No experiment reads files like {place}.")
    run = open_run(place, out)
    return type(run.experiment), run.label, run.tables


def transplant(
    *,
    model: str,
    tokenizer: str,
    out: Path,
    rule: Rule | Literal["best"] = "best",
    texts: Path | None = None,
    passages: int = 24,
    device: str = "auto",
    dtype: str = "auto",
) -> None:
    """Give a model another tokenizer's vocabulary and write it to a folder, with its bits per byte before and after.

    Args:
        model: Name of the model, a Hugging Face id, or a folder.
        tokenizer: Model (name, Hugging Face id) or folder whose tokenizer the model gets.
        out: New folder that the model is written to, as transformers' save_pretrained does.
        rule: How rows of new tokens are made; best takes the rule with the fewest bits per byte on other passages.
        texts: Folder of texts to measure on; news articles if not given.
        passages: Number of passages that bits per byte are measured on; a third as many choose the rule.
        device: Device to load the model on.
        dtype: Precision that the model is loaded and written in.

    """
    from interp.experiments.transplanting import transplant_to

    transplant_to(
        model, tokenizer, out, rule=rule, texts=texts, n_passages=passages, device=device, dtype=dtype, say=say
    )
