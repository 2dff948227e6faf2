"""Mechanistic interpretability of memory and retrieval in transformers: models, tables, statistics and the experiment runner."""

import os
import sys

from interp.imports import MovedModules

__version__ = "0.1.0"

# Read once, when torch is first imported. Threads that wait for their like would spin, and on a machine that others use they
# would spin on the processors that the others need: a unit then takes ninety times as long. Asleep they cost nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

sys.meta_path.append(MovedModules())
