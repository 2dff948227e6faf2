"""Running experiments: what they are, how they are found, run, stored and reported."""

from interp.experiments.bounds import Count
from interp.experiments.experiment import Experiment, Finding, WorkUnit
from interp.experiments.options import RunOptions

__all__ = ["Count", "Experiment", "Finding", "RunOptions", "WorkUnit"]
