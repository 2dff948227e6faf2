"""What every process of the census needs, made once: the forkserver imports this file, and each process is a fork of it."""

from importlib import import_module

import torch

from benchmarks.census.runs import SETTINGS
from benchmarks.census.words import tokenizer
from interp.experiments.catalogue import find_experiment

torch.set_num_threads(1)  # a process that has threads cannot be forked
tokenizer()
for name in SETTINGS:
    for schema in find_experiment(name)().schemas().values():
        schema.to_schema()
    for part in ("measure", "summaries", "findings"):
        import_module(f"probes.{name}.{part}")
