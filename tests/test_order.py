"""No number hangs on the order of a set, which is another in every process: equal seeds give equal tables."""

import ast
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("interp", "probes", "figures", "training", "benchmarks", "experiments")
SCRIPT = """
import numpy as np
from probes.prediction_depth.scores import shuffled_within
from probes.sequence_representation.words import held
groups = [name for name in ("north", "south", "east", "west", "up", "down") for _ in range(8)]
print(shuffled_within(np.random.default_rng(0).random(48) > 0.5, groups, 0).astype(int).tolist())
letters = "abcdefghijklmnopqrstuvwxyz"
words = [first + second for first in letters for second in letters]
print(np.flatnonzero(held([" ".join(words)] * 3, "first")[0]).tolist(), held([" ".join(words)] * 3, "first").shape)
"""


def is_unordered(node: ast.expr) -> bool:
    of_set = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
    return of_set or isinstance(node, ast.Set | ast.SetComp)


def test_nothing_goes_through_a_set_one_by_one() -> None:
    found = []
    for folder in PRODUCT:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.For | ast.comprehension) and is_unordered(node.iter):
                    found.append(f"{path.relative_to(ROOT)}:{node.iter.lineno}")
    assert not found, f"write dict.fromkeys(…) or sorted(…) in place of set(…): {found}"


def test_equal_seeds_give_equal_numbers_in_every_process() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(said) == 1
