"""How a run is carried out: options that change where and how fast it runs, never what it measures. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from interp.errors import ArgumentError, did_you_mean
from interp.experiments.bounds import flag_of

EngineName = Literal["local", "ray"]
FigureFormat = Literal["pdf", "svg", "png"]
ExportFormat = Literal["csv", "pdf", "svg", "png"]
TrackerName = Literal["wandb", "mlflow", "trackio"]
TRACKER_PACKAGES: Mapping[TrackerName, str] = {"wandb": "wandb", "mlflow": "mlflow-skinny", "trackio": "trackio"}
"""What to install for each tracker; the module has the tracker's name."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where the run is stored and what it runs on."""

    out: Path = Path("runs")
    """Folder of runs."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    device_map: Literal["auto"] | None = None
    """auto: split a model that is too large for one GPU across all of them."""
    engine: EngineName = "local"
    """local: measure in this process; ray: on the Ray cluster at RAY_ADDRESS, or on one started on this machine."""
    workers: int | None = None
    """With --engine ray: number of models loaded at once; by default as many as fit."""
    gpus_per_worker: float | None = None
    """With --engine ray: GPUs per model; 0.5 puts two models on one GPU. By default 1 if this machine has a GPU, else 0."""
    cpus_per_worker: float = 1.0
    """With --engine ray: CPU cores per model."""
    fresh: bool = False
    """Start over instead of resuming a run that exists."""
    export: tuple[ExportFormat, ...] = ()
    """Also write the tables as CSV, or the figures as PDF, SVG or PNG (figures need Chromium)."""
    log: TrackerName | None = None
    """Log the finished run's headlines, configuration and wall time to Weights & Biases, MLflow or Trackio."""
    debug: bool = False
    """Show the full traceback of an error."""

    def __post_init__(self) -> None:
        """Takes folder names as they are typed in Python."""
        object.__setattr__(self, "out", Path(self.out))
        self._check_engine()
        self._check_log()

    def _check_log(self) -> None:
        """Refuses a tracker that is not installed, before anything is computed."""
        if self.log is None:
            return
        if self.log not in get_args(TrackerName):
            trackers = list(get_args(TrackerName))
            raise ArgumentError(f"There is no tracker called {self.log}.{did_you_mean(self.log, trackers)}")
        if find_spec(self.log) is None:
            raise ArgumentError(
                f"--log {self.log} needs a package that is not installed: python -m pip install {TRACKER_PACKAGES[self.log]}"
            )

    def _check_engine(self) -> None:
        if self.engine not in get_args(EngineName):
            engines = list(get_args(EngineName))
            raise ArgumentError(f"There is no engine called {self.engine}.{did_you_mean(self.engine, engines)}")
        if self.engine == "local":
            for name in ("workers", "gpus_per_worker", "cpus_per_worker"):
                if getattr(self, name) != getattr(type(self), name):
                    raise ArgumentError(f"{flag_of(name)} applies only with --engine ray: add that.")
            return
        if self.workers is not None and self.workers < 1:
            raise ArgumentError(f"--workers must be 1 or more, not {self.workers}.")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ArgumentError(
                f"--device {self.device} is on this machine only: with --engine ray say cpu, cuda or auto."
            )
        if self.device == "cpu" and self.gpus_per_worker:
            raise ArgumentError("--device cpu and --gpus-per-worker contradict each other: leave one out.")
        if not self.cpus_per_worker > 0:
            raise ArgumentError(f"--cpus-per-worker must be above 0, not {self.cpus_per_worker:g}.")
        for name, share in (("gpus", self.gpus_per_worker or 0.0), ("cpus", self.cpus_per_worker)):
            if share < 0 or (share > 1 and share != int(share)):
                raise ArgumentError(f"--{name}-per-worker can be a fraction of one or a whole number, not {share:g}.")
