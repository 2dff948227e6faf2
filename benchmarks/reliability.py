"""How much measurement a result needs until it stops changing: `python -m benchmarks.reliability` (about 50 processor minutes).

A protocol is judged by repeating it: two repeats that share no needle, rollout or picture should name the same ten heads, the same
token, the same rate. For each protocol and size, this measures how often two repeats agree and what one repeat costs.
  heads     needles × prompts of each. Published: 3 needles in 200 cells of length and depth (Wu et al. 2024), here in up to 25;
            ours: two cells of each needle. Agreement is the share of the top ten heads that two repeats have in common.
  token     rollouts of a wrong trajectory. Published: 64 after every token (Lin et al. 2024); ours: shared branches, the same rule,
            and the search for cliffs. Agreement is the share of pairs of repeats that name the same token.
  leak      pictures of prompts with a homonym. Many seeds of few prompts against one seed of many; agreement is the share of pairs of
            repeats whose rates are within five points.
All costs are for this toolkit's code, except that published prompts are counted in full, each read by itself.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.critical_tokens import FULL, brute, cliff, explorers, paper
from benchmarks.stopwatch import measure, one_thread, say
from benchmarks.tables import RESULTS, Machine, write_machine
from interp.agreement import top_overlap
from interp.experiments.run import Run, open_run
from interp.models.language.model import LanguageModel
from interp.models.loading.language import load
from probes.critical_tokens.definitions import critical_by_rule
from probes.critical_tokens.explorer import Explorer
from probes.retrieval_heads.experiment import RetrievalHeads
from probes.retrieval_heads.needles import OWN_NEEDLES
from probes.t2i_flow.experiment import T2IFlow

NAME, MODEL, IMAGE_MODEL = "reliability", "smollm2-135m", "shapes-t2i-free"
DRAWS = 400
TOP = 10
N_NEEDLES, LENGTHS, DEPTHS = 24, (160, 256, 384, 512, 640), (0.0, 0.25, 0.5, 0.75, 1.0)
SHAPES = [(3, 1), (3, 5), (3, 25), (2, 2), (4, 2), (6, 2), (8, 2), (12, 2), (12, 1)]
"""Needles and prompts of each."""
REPEATS, N_TRAJECTORIES = 6, 3
CHUNK, CHUNKS = 16, 8
"""Rollouts after every token that are drawn at a time, and how often: two repeats of the published 64 share none."""
POINTS = 0.05
PICTURES = [(2, 8), (4, 8), (8, 8), (4, 1), (8, 1), (16, 1), (24, 1)]
"""Prompts and seeds of each."""
COLUMNS = ["result", "protocol", "size", "agreement", "low", "high", "prompts", "tokens", "processor_seconds"]


# ---------------------------------------------------------------------- heads


def pool_of_prompts(out: Path) -> Run:
    """Returns a run that holds every needle in every cell."""
    few = out / "needles.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    lines = OWN_NEEDLES.read_text(encoding="utf-8").splitlines()[: N_NEEDLES + 1]
    few.write_text("\n".join(lines) + "\n", encoding="utf-8")
    experiment = RetrievalHeads(
        needles=few, context_tokens=LENGTHS, depths=DEPTHS, samples_per_needle=None, held_out_share=0.03, k=(2,),
        random_draws=1,
    )  # fmt: skip
    return experiment.run(out=out)


def head_rows(run: Run, seconds_of: Callable[[int, int], float]) -> list[dict[str, Any]]:
    """Returns how far two repeats agree in their top ten heads, for every shape of protocol."""
    samples = run.tables["samples"].query("has_needle")
    length = samples.set_index("sample_id")["context_tokens"]
    scores = run.tables["sample_head_scores"]
    scores = scores[scores["sample_id"].isin(length.index)]
    wide = scores.set_index(["needle_id", "sample_id", "layer", "head"])["set_score"].unstack(["layer", "head"])
    by_needle = {str(needle): part.to_numpy() for needle, part in wide.groupby(level=0)}
    generator = np.random.default_rng(0)
    rows = []
    for needles, cells in SHAPES:
        if 2 * needles > len(by_needle):
            continue
        overlaps = [overlap_of_two(by_needle, needles, cells, generator) for _ in range(DRAWS)]
        prompts = needles * cells
        rows.append(
            row("top ten heads", f"{needles} needles, {cells} prompts of each", prompts, overlaps, prompts=prompts,
                tokens=prompts * float(length.mean()), processor_seconds=seconds_of(needles, cells))
        )  # fmt: skip
    return rows


def overlap_of_two(by_needle: dict[str, np.ndarray], needles: int, cells: int, generator: np.random.Generator) -> float:
    """Returns the share of the top ten that two disjoint draws of needles, and of cells of each, have in common."""
    chosen = generator.permutation(sorted(by_needle))
    tops = []
    for half in (chosen[:needles], chosen[needles : 2 * needles]):
        means = [by_needle[name][generator.permutation(len(by_needle[name]))[:cells]].mean(axis=0) for name in half]
        tops.append(np.mean(means, axis=0))
    return float(top_overlap(tops[0], tops[1], TOP))


def seconds_of_prompts(model: LanguageModel) -> Callable[[int, int], float]:
    """Returns what a protocol takes: measured for one needle with 1, 2, 5 and 25 prompts, times the needles."""
    measured = {}
    for cells, lengths, depths in (
        (1, (384,), (0.5,)),
        (2, (160, 640), (0.5,)),
        (5, LENGTHS, (0.5,)),
        (25, LENGTHS, DEPTHS),
    ):
        experiment = RetrievalHeads(context_tokens=lengths, depths=depths, samples_per_needle=None)
        unit = experiment.plan(model.facts, {"samples": pd.DataFrame({"needle_id": []})})[0]
        cost, _ = measure(lambda experiment=experiment, unit=unit: experiment.measure(model, unit))
        measured[cells] = cost.processor_seconds
        say(f"one needle, {cells} prompts: {cost.processor_seconds:.1f} s")
    return lambda needles, cells: needles * measured[cells]


# ---------------------------------------------------------------------- tokens


def token_rows(model: LanguageModel) -> list[dict[str, Any]]:
    """Returns how often two repeats name the same token, for every way of looking, over a few trajectories."""
    chosen = explorers(model, replace(FULL, n_trajectories=N_TRAJECTORIES))
    rows = brute_rows(chosen)
    ways: dict[tuple[str, int], Callable[[Explorer], tuple[int | None, int]]] = {
        ("the same rule, backward scan, shared branches", 64): lambda explorer: by_scan(explorer, 64),
        ("cliffs: curve, screening, fresh pairs", FULL.settings.scan_rollouts): by_cliff,
    }
    for (protocol, size), way in ways.items():
        same, tokens, seconds = [], [], []
        for explorer in chosen:
            repeats = []
            for repeat in range(REPEATS):
                cost, (named, generated) = measure(partial(way, _again(explorer, repeat)))
                repeats.append(named)
                tokens.append(generated)
                seconds.append(cost.processor_seconds)
            say(f"{protocol}: {explorer.key} {repeats} {np.mean(seconds):.1f} s")
            same += [float(a == b) for a, b in combinations(repeats, 2)]
        rows.append(
            row("critical token", protocol, size, same, prompts=float(size), tokens=float(np.mean(tokens)),
                processor_seconds=float(np.mean(seconds)))
        )  # fmt: skip
    return rows


def _again(explorer: Explorer, repeat: int) -> Explorer:
    """The same trajectory with rollouts of its own."""
    key = f"{explorer.key}-again{repeat}"
    return Explorer(explorer.model, explorer.problem, key, explorer.token_ids, explorer.setting)


def brute_rows(chosen: Sequence[Explorer]) -> list[dict[str, Any]]:
    """The published protocol with 64 rollouts after every token, and with 16: repeats are disjoint draws from one pool."""
    same: dict[int, list[float]] = {CHUNK * CHUNKS // 2: [], CHUNK: []}
    tokens, seconds = [], []
    for explorer in chosen:
        pool = []
        for chunk in range(CHUNKS):
            cost, (right, generated) = measure(partial(brute, _again(explorer, chunk), CHUNK))
            pool.append(right[1:])
            tokens.append(generated / CHUNK)
            seconds.append(cost.processor_seconds / CHUNK)
            say(f"{CHUNK} rollouts after every token: {explorer.key} {chunk} {cost.processor_seconds:.1f} s")
        for size, pairs in same.items():
            pairs += [float(a == b) for a, b in disjoint_pairs(np.array(pool), size)]
    return [
        row("critical token", f"{size} rollouts after every token{', published' if size == 64 else ''}", size, pairs,
            prompts=float(size), tokens=float(np.mean(tokens)) * size, processor_seconds=float(np.mean(seconds)) * size)
        for size, pairs in same.items()
    ]  # fmt: skip


def disjoint_pairs(pool: np.ndarray, size: int) -> list[tuple[int | None, int | None]]:
    """The tokens that two repeats name, for every two sets of the pool's chunks of `size` rollouts that share none."""
    parts = size // CHUNK
    named = {
        part: critical_by_rule(pool[list(part)].sum(axis=0).tolist(), size)
        for part in combinations(range(len(pool)), parts)
    }
    return [(named[a], named[b]) for a, b in combinations(named, 2) if not set(a) & set(b)]


def by_scan(explorer: Explorer, n: int) -> tuple[int | None, int]:
    """The same rule on shared branches, from the end on."""
    scan, generated = paper(explorer, n)
    return scan.critical, generated


def by_cliff(explorer: Explorer) -> tuple[int | None, int]:
    """The first confirmed cliff."""
    cliffs, generated = cliff(explorer, FULL.settings)
    return (min(token for token, _ in cliffs) if cliffs else None), generated


# ---------------------------------------------------------------------- pictures


def leak_rows(out: Path) -> list[dict[str, Any]]:
    """Returns how often the leak rates of two repeats are within five points, for every shape of protocol."""
    prompts = max(2 * shape[0] for shape in PICTURES)
    seeds = max(shape[1] for shape in PICTURES)
    experiment = T2IFlow(model=IMAGE_MODEL, n_prompts=prompts * 3 // 2, seeds=seeds, parts=("inter_item",))
    cost, run = measure(lambda: experiment.run(out=out))
    variants = run.tables["variants"].query("part == 'inter_item' and asked == 'leak'")
    kept = variants[(variants["variant"] == "item") & (variants["source_item"] == variants["item_id"])]
    leaks = kept.groupby(["prompt_id", "item_id", "seed"])["visible"].max().dropna()
    by_prompt = {str(prompt): part.unstack("seed").to_numpy() for prompt, part in leaks.groupby(level=0)}
    n_pictures = len(
        run.tables["variants"].drop_duplicates(["prompt_id", "variant", "source_item", "kept_positions", "seed"])
    )
    generator, rows = np.random.default_rng(0), []
    for n, per_prompt in PICTURES:
        if 2 * n > len(by_prompt):
            continue
        close = []
        for _ in range(DRAWS):
            first, other = two_rates(by_prompt, n, per_prompt, generator)
            close.append(float(abs(first - other) <= POINTS))
        pictures = n * per_prompt
        rows.append(
            row("leak rate", f"{n} prompts, {per_prompt} seeds of each", pictures, close, prompts=float(n), tokens=float("nan"),
                processor_seconds=cost.processor_seconds / n_pictures * pictures)
        )  # fmt: skip
    return rows


def two_rates(
    by_prompt: dict[str, np.ndarray], n: int, seeds: int, generator: np.random.Generator
) -> tuple[float, float]:
    """Returns the leak rates of two disjoint draws of prompts, and of seeds of each."""
    chosen = generator.permutation(sorted(by_prompt))
    rates = []
    for half in (chosen[:n], chosen[n : 2 * n]):
        drawn = [by_prompt[name][:, generator.permutation(by_prompt[name].shape[1])[:seeds]] for name in half]
        rates.append(float(np.mean([one.mean() for one in drawn])))
    return rates[0], rates[1]


# ---------------------------------------------------------------------- all


def row(result: str, protocol: str, size: float, agreements: Sequence[float], **costs: float) -> dict[str, Any]:
    """Returns one protocol's row: mean agreement, and the range that holds 95% of the pairs of repeats."""
    low, high = np.percentile(agreements, [2.5, 97.5])
    return {
        "result": result, "protocol": protocol, "size": size, "agreement": float(np.mean(agreements)), "low": float(low),
        "high": float(high), **costs,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measures, and writes the table that docs/performance.md shows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reliability", description=str(__doc__).partition(":")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the runs that are resampled")
    parser.add_argument("--pool", help="a finished run of retrieval_heads to resample, instead of measuring one")
    parser.add_argument("--parts", nargs="+", choices=("heads", "token", "leak"), default=("heads", "token", "leak"))
    chosen = parser.parse_args(arguments)
    one_thread()
    started = time.perf_counter()
    model, rows = load(MODEL), []
    if "heads" in chosen.parts:
        run = open_run(chosen.pool, chosen.out) if chosen.pool else pool_of_prompts(chosen.out)
        rows += head_rows(run, seconds_of_prompts(model))
    if "token" in chosen.parts:
        rows += token_rows(model)
    if "leak" in chosen.parts:
        rows += leak_rows(chosen.out)
    table = pd.DataFrame(rows, columns=COLUMNS)
    place = RESULTS / NAME / f"{NAME}.csv"
    if place.exists():
        kept = pd.read_csv(place)
        table = pd.concat([kept[~kept["result"].isin(table["result"])], table])
    place.parent.mkdir(exist_ok=True)
    table.to_csv(place, index=False, float_format="%.4g", lineterminator="\n")
    write_machine(Machine.here((time.perf_counter() - started) / 60), place.parent)
    say(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
