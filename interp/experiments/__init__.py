"""Experiments: their definition, discovery, execution, storage and reports."""

from interp.experiments.bounds import Count
from interp.experiments.experiment import Experiment, Finding, WorkUnit
from interp.experiments.options import RunOptions

__all__ = ["Count", "Experiment", "Finding", "RunOptions", "WorkUnit"]
