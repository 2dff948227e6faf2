"""What a run will do and need, from its settings, the model's configuration and its tokenizer. Computes and writes nothing."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from interp.experiments.engine import worker_device
from interp.experiments.experiment import Experiment, Work, WorkUnit, total
from interp.experiments.listing import state_of
from interp.experiments.options import RunOptions
from interp.experiments.run import with_checked_settings
from interp.experiments.run_names import run_hash
from interp.experiments.runner import check_kind, check_usable, facts_of
from interp.experiments.store import MeasuredTables, RunStore
from interp.models.identity import DtypeName, ModelFacts

if TYPE_CHECKING:
    from interp.models.image.model import ImageModel
    from interp.models.language.model import LanguageModel

BYTES: Mapping[DtypeName, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number."""
COLUMNS, LABEL = 80, 11
"""Width of the lines for a terminal, and of the words that they begin with."""


@dataclass(frozen=True)
class Memory:
    """Bytes needed in addition to activations, and bytes free on the device (None if unknown)."""

    weights_bytes: int
    cache_bytes: int
    free_bytes: int | None


@dataclass(frozen=True, eq=False)
class Forecast:
    """A run before it starts: its folder, its units, and what the units left will read and write."""

    experiment: Experiment
    options: RunOptions
    facts: ModelFacts
    outline: "LanguageModel | ImageModel"
    """The model without weights."""
    folder: Path
    description: Mapping[str, Any]
    """What run.json says; empty for a new run."""
    done: Mapping[str, float]
    """Seconds of every unit that is measured."""
    units: Sequence[WorkUnit]
    """All that are expected, the done ones among them."""

    @property
    def state(self) -> str:
        """State of the run: new, or as in `interp runs`."""
        return state_of(self.folder, str(self.description.get("status"))) if self.description else "new"

    @property
    def left(self) -> list[WorkUnit]:
        """The units that are not done."""
        return [unit for unit in self.units if unit.id not in self.done]

    @cached_property
    def works(self) -> dict[str, Work | None]:
        """What each unit left reads and writes; None if unknown."""
        return {unit.id: self.experiment.work_of(self.outline, unit) for unit in self.left}

    @property
    def work(self) -> Work | None:
        """What all units left read and write, or None if one of them is unknown."""
        known = [work for work in self.works.values() if work is not None]
        return total(known) if len(known) == len(self.works) else None

    @property
    def device(self) -> str:
        """The torch device of the run."""
        return worker_device(self.options)

    @property
    def memory(self) -> Memory:
        """Bytes of the weights, and of the most keys and values held at once."""
        from interp.models.loading.footprint import free_bytes

        size, geometry = BYTES[self.facts.identity.dtype], self.facts.geometry
        held = 0 if self.work is None or geometry is None else self.work.tokens_held
        per_token = 0 if geometry is None else 2 * len(geometry.layers) * geometry.n_kv_heads * geometry.head_dim * size
        free = free_bytes(self.device, self.options.device_map)
        return Memory(size * n_parameters(self.outline), held * per_token, free)


@dataclass(frozen=True)
class TimeRange:
    """A range of seconds and what it is based on; or the reason why there is none (both None)."""

    low_seconds: float | None
    high_seconds: float | None
    basis: str


def forecast(experiment: Experiment, options: RunOptions) -> Forecast:
    """Returns what `experiment.run(…)` would do, without running it.

    Raises UserError as the run would before its first unit.
    """
    experiment = with_checked_settings(experiment)
    check_kind(experiment)
    facts = facts_of(experiment, options)
    check_usable(experiment, facts)
    folder = options.out / experiment.name / facts.name / run_hash(experiment, facts)
    store = RunStore(folder, experiment.schemas())
    description = {} if options.fresh else store.read_description()
    done = {} if options.fresh else seconds_of_units(folder)
    outline = outline_of(experiment, facts)
    units = experiment.expected_units(outline, MeasuredTables(store, list(done)))
    return Forecast(experiment, options, facts, outline, folder, description, done, units)


def outline_of(experiment: Experiment, facts: ModelFacts) -> "LanguageModel | ImageModel":
    """Returns the experiment's model with its tokenizer and without weights."""
    if experiment.model_kind == "image":
        from interp.models.loading.image import load_image_outline

        return load_image_outline(
            experiment.model, dtype=facts.identity.dtype, revision=experiment.revision, **experiment.of_weights
        )
    from interp.models.loading.language import load_outline

    return load_outline(experiment.model, dtype=facts.identity.dtype, revision=experiment.revision)


def n_parameters(model: "LanguageModel | ImageModel") -> int:
    """Returns the number of a model's parameters, counting tied ones once."""
    from torch import nn

    whole: Any = model
    parts = whole.pipeline.components.values() if hasattr(whole, "pipeline") else [whole.hf]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    return sum(weight.numel() for module in modules for weight in module.parameters())


def seconds_of_units(folder: Path) -> dict[str, float]:
    """Returns the seconds of every unit measured in a run's folder, in the order of measurement.

    Parts are taken to be whole: whether they are is looked at by the run that goes on from there.
    """
    found = {}
    for path in sorted((folder / "parts" / "done").glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            found[path.stem] = float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # damaged: the run measures it again
    return found


def kind_of(unit: WorkUnit) -> str:
    """Returns the kind of a unit, in one word: detection, echo, ablation."""
    return type(unit).__name__.removesuffix("Unit").lower()


def count_kinds(units: Sequence[WorkUnit]) -> dict[str, int]:
    """Returns how many units there are of each kind, in the order of the plan."""
    return dict(Counter(kind_of(unit) for unit in units))


# ---------------------------------------------------------------------- as lines for the terminal


def lines_of(forecast: Forecast, estimate: TimeRange | None) -> Iterator[str]:
    """Yields what `interp plan` prints: a title, then one labelled paragraph per item.

    No line is wider than 80 columns where no path or name is longer.
    """
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


def duration(seconds: float) -> str:
    """Returns a duration for people: 40 s, 12 min, 3.5 h, 2 d."""
    for unit, length, enough in (("d", 86400, 2), ("h", 3600, 2), ("min", 60, 2)):
        if seconds >= enough * length:
            return f"{seconds / length:.2g} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
