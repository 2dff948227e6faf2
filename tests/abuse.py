"""Kills runs at random moments and asks for the tables of a run that nobody disturbed.

    python -m tests.abuse --kills 20 [--experiment retrieval_heads] [--seed 0] [--folder FOLDER]

Every experiment is run once in peace, on small settings. Then it is started and killed (SIGKILL, after a time drawn
between nothing and what the run took in peace) until it has been killed often enough, and finished; a run that ends
before it is killed begins anew elsewhere. Each time the tables must be the bytes of the first. An attempt is a fork of
one process that has imported everything, so an attempt costs little more than what it measures.
"""

import argparse
import dataclasses
import importlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from interp.experiments.catalogue import find_experiment
from interp.experiments.experiment import Experiment

HEAVY = ("interp.experiments.runner", "figures.style", "plotly.graph_objects", "pandera.pandas", "scipy.stats")
"""What a run imports when it needs it, and a fork should find imported."""
SMALL: dict[str, dict[str, object]] = {
    "retrieval_heads": dict(
        context_tokens=(96,), depths=(0.5,), samples_per_needle=1, max_new_tokens=8, k=(2,), other_k=2, random_draws=2,
        ablation_context_tokens=(96,), echo_block_tokens=32, echo_repeats=2, prose_tokens=8, held_out_share=0.5,
    ),
    "verbatim_memory": dict(
        model="transformer-news-1", list_lengths=(3, 5), n_base_lists=4, rotations=1, intervening=(1,), contexts=("intact",),
        mask_k=(2,), mask_draws=2,
    ),
    "function_tokens": dict(
        tokens=1500, blocks=3, context_tokens=32, loss_tokens=300, reactivation_prompts=4, steering_prompts=2, shuffles=2,
        random_sets=2,
    ),
    "critical_tokens": dict(
        levels=("tally-3-1", "arithmetic-2-5"), calibration_problems=3, responses_per_problem=8, max_problems=2, n_trajectories=1,
        max_new_tokens=32, scan_rollouts=4, rule_rollouts=59, max_pairs=20, exact_tokens=2, exact_nodes=4,
        replacement_rollouts=2, contrastive_examples=4, contrastive_epochs=1,
    ),
    "t2i_flow": dict(model="shapes-t2i", n_prompts=2, n_items=2, seeds=1, judge_check=2, steps=2),
}  # fmt: skip
"""Settings with which an experiment goes through all its kinds of units in seconds."""


def attempt(experiment: Experiment, out: Path, killed_after: float | None = None) -> bool:
    """Runs the experiment in a fork; returns whether it ended before it was killed.

    Raises RuntimeError when it fails, which a resumed run must not.
    """
    child = os.fork()
    if not child:
        status = 1
        try:
            sys.stderr = (out.parent / "errors.txt").open("a")
            experiment.run(out=out, device="cpu")
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if killed_after is not None:
        deadline = time.monotonic() + killed_after
        while time.monotonic() < deadline:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return _ended(status, out)
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return _ended(os.waitpid(child, 0)[1], out)


def _ended(status: int, out: Path) -> bool:
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"a run failed: {(out.parent / 'errors.txt').read_text()}")
    return os.WIFEXITED(status)


def tables(out: Path) -> dict[str, bytes]:
    """The bytes of every table of the one run under a folder."""
    return {path.name: path.read_bytes() for path in out.glob("*/*/*/tables/*.parquet")}


def left_over(out: Path) -> list[str]:
    """Files that a run which was not killed would not leave."""
    return [str(path) for path in out.rglob(".*") if path.name != ".lock"]


def abuse(experiment: Experiment, kills: int, draws: random.Random, folder: Path, say: Callable[[str], None]) -> bool:
    """Kills runs of the experiment that many times; returns whether all of them ended as if nobody had."""
    started = time.monotonic()
    attempt(experiment, folder / "whole")
    seconds = time.monotonic() - started
    whole = tables(folder / "whole")
    assert whole, "the run left no table"
    killed, lives, sound = 0, 0, True
    while killed < kills:
        lives += 1
        out = folder / f"killed-{lives}"
        while killed < kills:
            started = time.monotonic()
            if attempt(experiment, out, draws.uniform(0, seconds)):
                # On a machine less busy than it was, kills must come earlier.
                seconds = min(seconds, time.monotonic() - started)
                break
            killed += 1
        attempt(experiment, out)
        different = sorted(name for name, content in whole.items() if tables(out).get(name) != content)
        sound = sound and not different and tables(out).keys() == whole.keys() and not left_over(out)
        if different or left_over(out):
            say(f"{experiment.name}: {out}: other than in peace: {different}; left over: {left_over(out)}")
    say(
        f"{experiment.name}: {killed} kills in {lives} runs of {seconds:.1f} s: {len(whole)} tables "
        f"{'equal' if sound else 'NOT EQUAL'}"
    )
    return sound


def small(name: str, folder: Path) -> Experiment:
    """The experiment with small settings and, where its own texts are many, few texts that are written to the folder."""
    experiment = dataclasses.replace(find_experiment(name)(), **SMALL[name])
    if name == "retrieval_heads":
        from probes.retrieval_heads.needles import OWN_NEEDLES

        needles = folder / "needles.jsonl"
        needles.write_text("\n".join(OWN_NEEDLES.read_text().splitlines()[:4]))
        return dataclasses.replace(experiment, needles=needles)
    if name == "function_tokens":
        from interp.stimuli.prose import news_articles

        (folder / "corpus").mkdir()
        for index, text in enumerate(news_articles()[:30]):
            (folder / "corpus" / f"{index:02d}.txt").write_text(text[:600])
        return dataclasses.replace(experiment, corpus=folder / "corpus")
    return experiment


def main() -> int:
    """Abuses the experiments that are named; returns 0 when every table came out equal."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--experiment", nargs="+", default=list(SMALL), choices=list(SMALL))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a fork has the threads of its parent in name only
    for name in HEAVY:
        importlib.import_module(name)
    sound = True
    for name in arguments.experiment:
        with tempfile.TemporaryDirectory(dir=arguments.folder, ignore_cleanup_errors=True) as folder:
            draws = random.Random(f"{arguments.seed} {name}")
            experiment = small(name, Path(folder))
            sound &= abuse(experiment, arguments.kills, draws, Path(folder), lambda text: print(text, flush=True))  # noqa: T201
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
