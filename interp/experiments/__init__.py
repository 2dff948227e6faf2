"""Running experiments: what they are, how they are found, run, stored and reported."""

from interp.experiments.experiment import Experiment, Finding, WorkUnit
from interp.experiments.options import RunOptions

__all__ = ["Experiment", "Finding", "RunOptions", "WorkUnit"]
