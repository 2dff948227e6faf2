"""How long a run will take: from units measured on this machine, or from a pass timed now."""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import UserError
from interp.experiments.engine import computing_threads
from interp.experiments.experiment import Work, WorkUnit
from interp.experiments.forecast import Forecast, TimeRange, duration, kind_of, seconds_of_units
from interp.experiments.run import experiment_of
from interp.experiments.store import MeasuredTables, RunStore, read_description

if TYPE_CHECKING:
    from interp.models.image.model import ImageModel
    from interp.models.language.model import LanguageModel

RUNS_AT_MOST = 5
"""Earlier runs that an estimate rests on, the newest."""
SPREAD = 1.3
"""Two runs of the same work on a machine that others use differ by up to this factor."""
PASS_SPREAD = (0.7, 3.0)
"""From what a timed pass promises to what runs took: they also look inside, judge and store."""
TOKENS_TIMED, ROWS_TIMED, STEPS_TIMED = 256, 16, 4
LARGE_BYTES = 4e9
"""Weights that are not loaded only to time a pass."""


@dataclass(frozen=True)
class MeasuredRun:
    """Measured units: the seconds and amounts of work of each kind."""

    name: str
    units: Sequence[tuple[str, float, float | None]]
    """Kind, seconds, and amount (None where it is not known)."""
    besides: float = 0.0
    """Seconds of the run that were spent on no unit: loading, tables, figures, report."""

    @property
    def total(self) -> float:
        """Seconds of all that was measured, and besides."""
        return sum(seconds for _, seconds, _ in self.units) + self.besides

    def seconds(self, kind: str, amount: float | None) -> float | None:
        """Returns the seconds of a unit at the rate of its kind, or of all units if its kind was not measured."""
        same = [unit for unit in self.units if unit[0] == kind]
        known = [(seconds, own) for _, seconds, own in same or self.units if own]
        if amount and known:
            return amount * sum(seconds for seconds, _ in known) / sum(own for _, own in known)
        return statistics.mean(seconds for _, seconds, _ in same) if same else None

    def predict(self, units: Sequence[WorkUnit], forecast: Forecast) -> float | None:
        """Returns the seconds of those units, or None if one of them cannot be estimated."""
        found = [self.seconds(kind_of(unit), amount_of(forecast.works[unit.id])) for unit in units]
        known = [seconds for seconds in found if seconds is not None]
        return sum(known) + self.besides if len(known) == len(found) else None


def estimate(forecast: Forecast) -> TimeRange:
    """Returns how long the units left will take, one after the other."""
    left = forecast.left
    samples = [sample for sample in _samples(forecast) if sample.units]
    found = {sample.name: seconds for sample in samples if (seconds := sample.predict(left, forecast)) is not None}
    if found:
        told = [f"{sample.name} ({duration(sample.total)} in all)" for sample in samples if sample.name in found]
        basis = "units measured before: " + ", ".join(told)
        return TimeRange(min(found.values()) / SPREAD, max(found.values()) * SPREAD, basis)
    if forecast.work is None:
        return TimeRange(None, None, f"no run of {forecast.experiment.name} on {forecast.facts.name} to go by")
    return _by_a_pass(forecast, forecast.work)


def amount_of(work: Work | None) -> float | None:
    """Returns the amount that a unit's time is proportional to: its tokens, or the steps of its pictures."""
    return None if work is None else float(work.tokens + work.denoising_steps)


# ---------------------------------------------------------------------- runs that were measured


def _samples(forecast: Forecast) -> Iterator[MeasuredRun]:
    if forecast.done:
        here = [
            (kind_of(unit), forecast.done[unit.id], amount_of(forecast.experiment.work_of(forecast.outline, unit)))
            for unit in forecast.units
            if unit.id in forecast.done
        ]
        yield MeasuredRun(f"{len(here)} of this run", here)
    model = forecast.folder.parent
    runs = [path for path in model.glob("*/run.json") if path.parent != forecast.folder]
    found = 0
    for path in sorted(runs, key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(UserError):  # damaged, or of another version of the toolkit: others may do
            if (sample := _sample_of(path.parent, forecast)) is not None:
                yield sample
                found += 1
        if found == RUNS_AT_MOST:
            return


def _sample_of(folder: Path, forecast: Forecast) -> MeasuredRun | None:
    """The units of a finished run with the same weights on the same device."""
    description = read_description(folder)
    own: Any = description.get("model")
    identity = own.get("identity", {}) if isinstance(own, dict) else {}
    expected = forecast.facts.identity
    if description.get("status") != "done" or description.get("device") != forecast.device:
        return None
    if (identity.get("revision"), identity.get("dtype")) != (expected.revision, expected.dtype):
        return None
    experiment = experiment_of(description)
    seconds = seconds_of_units(folder)
    tables = MeasuredTables(RunStore(folder, experiment.schemas()), list(seconds))
    planned = [unit for unit in experiment.plan(forecast.facts, tables) if unit.id in seconds]
    units = [
        (kind_of(unit), seconds[unit.id], amount_of(experiment.work_of(forecast.outline, unit))) for unit in planned
    ]
    return MeasuredRun(folder.name, units, _besides(description, sum(seconds.values())))


def _besides(description: dict[str, Any], in_units: float) -> float:
    """Seconds of a run outside its units; 0 for one that was taken up again, whose beginning nobody knows."""
    try:
        started, finished = (datetime.fromisoformat(str(description[name])) for name in ("started", "finished"))
    except (KeyError, ValueError):
        return 0.0
    return max(0.0, (finished - started).total_seconds() - in_units)


# ---------------------------------------------------------------------- a pass that is timed now


def _by_a_pass(forecast: Forecast, work: Work) -> TimeRange:
    weights, free = forecast.memory.weights_bytes, forecast.memory.free_bytes
    if forecast.options.engine == "ray":
        return TimeRange(None, None, "no run to go by, and workers of a cluster are not timed from here")
    if not weights_are_here(forecast):
        return TimeRange(None, None, "no run to go by, and the model's weights are not on this machine")
    if weights > LARGE_BYTES or (free is not None and weights > free):
        return TimeRange(None, None, f"no run to go by, and {weights / 1e9:.3g} GB are not loaded only to time a pass")
    load_model, place = _loader(forecast)
    with computing_threads({}):
        started = time.perf_counter()
        model = load_model(forecast.experiment.model, revision=forecast.experiment.revision, **place)
        loading = time.perf_counter() - started
        if forecast.experiment.model_kind == "image":
            seconds, basis = work.denoising_steps / _steps_per_second(model), "a picture drawn just now"
        else:
            reading, writing = _tokens_per_second(model)
            seconds = work.tokens_read / reading + work.tokens_written / writing
            basis = f"passes timed just now: {reading:,.0f} tokens/s read, {writing:,.0f} tokens/s written"
    low, high = (loading + factor * seconds for factor in PASS_SPREAD)
    return TimeRange(low, high, basis)


def _loader(forecast: Forecast) -> tuple[Any, dict[str, Any]]:
    place = {
        "device": forecast.device,
        "dtype": forecast.facts.identity.dtype,
        "device_map": forecast.options.device_map,
        **forecast.experiment.of_weights,
    }
    if forecast.experiment.model_kind == "image":
        from interp.models.loading.image import load_image

        return load_image, place
    from interp.models.loading.language import load

    return load, place


def weights_are_here(forecast: Forecast) -> bool:
    """Whether the model's weights are on this machine, so that loading them needs no download."""
    from huggingface_hub import try_to_load_from_cache

    from interp.models.loading.adapters import base_of, is_adapter
    from interp.models.loading.names import resolve

    entry = resolve(forecast.experiment.model, forecast.experiment.revision)
    if entry.folder is not None and is_adapter(entry.folder):
        entry = resolve(*base_of(entry.folder))
    if (
        entry.folder is not None or entry.gguf is not None or entry.source.startswith("asset:")
    ):  # the tokenizer came with the asset's weights
        return True
    names = ["model.safetensors", "model.safetensors.index.json"]
    if forecast.experiment.model_kind == "image":
        names = [f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "transformer")]
    revision = (forecast.facts.identity.base or forecast.facts.identity).revision
    return any(isinstance(try_to_load_from_cache(entry.source, name, revision=revision), str) for name in names)


def _tokens_per_second(model: "LanguageModel") -> tuple[float, float]:
    """Tokens read and written in a second: one text, and rows of a batch token by token behind it."""
    n = min(TOKENS_TIMED, (model.context_window or TOKENS_TIMED) - STEPS_TIMED - 1)
    ids = [1 + index % 50 for index in range(n)]
    float(
        model.extend(model.rows(1, n), [ids[:8]]).sum()
    )  # the first pass of a process takes longer; a sum waits for a GPU
    started = time.perf_counter()
    float(model.extend(model.rows(1, n), [ids]).sum())
    read = time.perf_counter()
    batch = model.rows(ROWS_TIMED, n)
    float(model.extend(batch, [ids[:32]] * ROWS_TIMED).sum())
    begun = time.perf_counter()
    for _ in range(STEPS_TIMED):
        float(model.extend(batch, [[1]] * ROWS_TIMED).sum())
    written = time.perf_counter()
    return n / (read - started), ROWS_TIMED * STEPS_TIMED / (written - begun)


def _steps_per_second(model: "ImageModel") -> float:
    """Steps of the denoiser in a second, over the pictures of a small batch."""
    n_pictures, steps = 4, 2
    text = model.clean()
    model.generate(text, model.noise([0]), steps=steps)  # the first picture of a process takes longer
    started = time.perf_counter()
    model.generate(text, model.noise(range(n_pictures)), steps=steps, batch=n_pictures)
    return n_pictures * steps / (time.perf_counter() - started)
