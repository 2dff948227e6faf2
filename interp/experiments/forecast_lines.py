"""A forecast as lines for the terminal, no wider than 80 columns where no path or name is longer."""

from collections.abc import Iterator
from textwrap import wrap

from interp.experiments.forecast import Forecast, count_kinds
from interp.experiments.timing import TimeRange, duration
from interp.experiments.work import Work

COLUMNS, LABEL = 80, 11


def lines_of(forecast: Forecast, estimate: TimeRange | None) -> Iterator[str]:
    """Yields what `interp plan` prints: a title, then one labelled paragraph for each thing that is known."""
    identity = forecast.facts.identity
    yield f"{forecast.experiment.name} on {identity.name} ({identity.source}, {identity.dtype}, {forecast.device})"
    for label, text in _paragraphs(forecast, estimate):
        written = [text] if label == "folder" else wrap(text, COLUMNS - LABEL, break_on_hyphens=False)
        for place, line in enumerate(written):
            yield f"{label if place == 0 else '':<{LABEL}}{line}"


def _paragraphs(forecast: Forecast, estimate: TimeRange | None) -> Iterator[tuple[str, str]]:
    left = forecast.left
    yield "folder", str(forecast.folder)
    yield "state", forecast.state
    yield "units", _units(forecast)
    if not forecast.units:
        yield "work", "nothing is measured: tables are made of finished runs"
        return
    if not left:
        yield "work", "none is left: the run returns at once, or makes its tables from its parts"
        return
    if forecast.work is None:
        yield "work", "cannot be counted beforehand"
    else:
        yield from _amounts(forecast.work)
    if forecast.experiment.uncounted():
        yield "besides", f"{forecast.experiment.uncounted()} (not counted here)"
    yield "memory", _memory(forecast)
    assert estimate is not None
    yield from _time(forecast, estimate)


def _units(forecast: Forecast) -> str:
    kinds = ", ".join(f"{n} {kind}" for kind, n in count_kinds(forecast.units).items())
    n_done = len(forecast.units) - len(forecast.left)
    done = f"; {n_done} done, {len(forecast.left)} left" if n_done else ""
    return f"{len(forecast.units)}: {kinds}{done}" if forecast.units else "none"


def _amounts(work: Work) -> Iterator[tuple[str, str]]:
    if work.tokens_read:
        yield "reads", f"{work.tokens_read:,} tokens"
    if work.tokens_written:
        yield "writes", f"at most {work.tokens_written:,} tokens"
    if work.pictures:
        yield "draws", f"{work.pictures:,} pictures in {work.denoising_steps:,} denoising steps"


def _memory(forecast: Forecast) -> str:
    memory = forecast.memory
    words = f"{_gb(memory.weights_bytes)} of weights"
    if memory.cache_bytes:
        words += f", up to {_gb(memory.cache_bytes)} of keys and values"
    words += ", and what a pass computes with"
    if memory.free_bytes is None:
        return words
    room = "" if memory.weights_bytes + memory.cache_bytes < memory.free_bytes else ", which is not enough"
    return f"{words}; {forecast.device} has {_gb(memory.free_bytes)} free{room}"


def _time(forecast: Forecast, estimate: TimeRange) -> Iterator[tuple[str, str]]:
    if estimate.low_seconds is None or estimate.high_seconds is None:
        yield "time", f"no estimate: {estimate.basis}"
        return
    more = ", and more for what is not counted" if forecast.experiment.uncounted() else ""
    shared = ", shared by the workers" if forecast.options.engine == "ray" else ""
    yield "time", f"{duration(estimate.low_seconds)} to {duration(estimate.high_seconds)}{more}{shared}"
    yield "estimated", f"from {estimate.basis}"


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.3g} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.3g} MB"
