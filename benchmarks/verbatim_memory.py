"""What reading shared parts once saves: `python -m benchmarks.verbatim_memory`.

Two ways compute the surprisal of every noun of the same trials:
  shared    this toolkit: preface and first list once, each text between once, vocabulary scores for lists only;
  script    what one writes first: transformers, one forward pass per trial over the whole text with all its logits.
"""

import subprocess
import sys
import time
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM

from interp.models.language import LanguageModel
from interp.models.loading import converted_asset, load
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.lists import second_list
from probes.verbatim_memory.plan import ListUnit, first_lists, plan_units
from probes.verbatim_memory.texts import read_texts
from probes.verbatim_memory.trials import Trial, build_trial
from probes.verbatim_memory.units import measure_lists

MODEL = "smollm2-135m"
GRID = VerbatimMemory(
    list_lengths=(10,),
    n_base_lists=2,
    rotations=3,
    conditions=("repeat", "permute", "novel"),
    intervening=(1, 3, 4, 5),
    contexts=("intact", "scrambled", "incongruent", "short"),
    exact_rotations=0,
    mask_sets=(),
)
"""The paper's texts and conditions for lists of ten, on six of its 230 first lists."""
LONG, SHORT = 5, 1
"""Paragraphs between the lists, for the memory of long and short texts."""

Key = tuple[str, str, int, str, int, int]
"""Trial, context, paragraphs between, condition, list, position."""


@dataclass(frozen=True)
class Cell:
    """A trial as the script reads it, and where it stands in the grid."""

    trial: Trial
    context: str
    intervening: int
    condition: str


def main() -> None:
    """Prints the seconds and the largest difference, then the peak memory of both ways for short and long texts."""
    torch.set_num_threads(1)  # waiting threads would count as work
    model = load(MODEL)
    model.prefix([1] * 256)  # warm up
    units = [unit for unit in plan_units(GRID, model.facts, {}) if isinstance(unit, ListUnit)]
    cells = cells_of(model, units)
    shared_seconds, ours = timed(lambda: shared_way(model, units))
    script = script_model()
    script_seconds, theirs = timed(lambda: [noun_surprisals(script, cell.trial) for cell in cells])
    n_tokens = sum(len(cell.trial.ids) for cell in cells)
    say(f"{len(cells)} trials, {n_tokens:,} tokens, {MODEL} float32, one thread, processor seconds\n")
    say("| way | processor seconds | times the shared way |\n|---|---|---|")
    for name, seconds in (("shared", shared_seconds), ("script", script_seconds)):
        say(f"| {name} | {seconds:.1f} | {seconds / shared_seconds:.1f} |")
    gaps = [
        abs(ours[key] - nats)
        for cell, lists in zip(cells, theirs, strict=True)
        for key, nats in keyed(cell, lists).items()
    ]
    say(f"\n{len(gaps):,} surprisals compared, largest difference {max(gaps):.1e} nats\n")
    memory()


def cells_of(model: LanguageModel, units: list[ListUnit]) -> list[Cell]:
    """Every trial of the grid in one piece."""
    everyone = first_lists(GRID, GRID.pools[0], max(GRID.list_lengths))
    return [
        Cell(
            build_trial(
                model.tokenizer, read_texts(), first, second_list(condition, first, everyone, GRID.seed),
                context=context, intervening=n, bos=GRID.bos, seed=GRID.seed,
            ),
            context,
            n,
            condition,
        )
        for unit in units
        for first in everyone
        if first.base_list in unit.base_lists
        for context, n in unit.betweens
        for condition in GRID.conditions
    ]  # fmt: skip


def shared_way(model: LanguageModel, units: list[ListUnit]) -> dict[Key, float]:
    """The toolkit's surprisals; the first list's hold for every text and second list of its trial."""
    found: dict[Key, float] = {}
    for unit in units:
        table = measure_lists(GRID, model, unit)["token_surprisals"]
        table = table[(table["mode"] == "raw") & (table["list_index"] > 0)]
        columns = ("trial_id", "context_type", "intervening", "condition", "list_index", "position", "surprisal_nats")
        for trial, context, n, condition, index, position, nats in zip(*(table[name] for name in columns), strict=True):
            found[trial, context, n, condition, index, position] = nats
    return found


def keyed(cell: Cell, lists: list[list[float]]) -> dict[Key, float]:
    """The script's surprisals under the toolkit's keys."""
    own = "short" if cell.context == "short" else "intact"
    first = {(cell.trial.first.id, own, 0, "first", 1, position): nats for position, nats in enumerate(lists[0])}
    second = {
        (cell.trial.first.id, cell.context, cell.intervening, cell.condition, 2, position): nats
        for position, nats in enumerate(lists[1])
    }
    return {**first, **second}


def script_model() -> torch.nn.Module:
    """The model as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(converted_asset(MODEL), dtype=torch.float32).eval()


@torch.inference_mode()
def noun_surprisals(hf: torch.nn.Module, *trials: Trial) -> list[list[float]]:
    """One forward pass over whole trials of equal length; returns the nouns' surprisals of both lists of the first one."""
    ids = torch.tensor([trial.ids for trial in trials])
    log_p = torch.log_softmax(hf(ids, use_cache=False).logits, dim=-1)
    nats = -log_p[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)[0]
    return [[float(nats[start - 1 : end - 1].sum()) for start, end in trials[0].noun_spans(index)] for index in (1, 2)]


def timed(work):
    """Processor seconds of one call, and what it gave: unlike wall time they do not count what else the machine does."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


# ---------------------------------------------------------------------- peak memory


def memory() -> None:
    """Peak memory of processes of their own, that read the same six trials at one time."""
    say("| way | short text, peak MB | long text, peak MB | growth, MB |\n|---|---|---|---|")
    for way in ("shared", "script"):
        short, long = (peak_of(way, n) for n in (SHORT, LONG))
        say(f"| {way} | {short:.0f} | {long:.0f} | {long - short:.0f} |")


def peak_of(way: str, n: int) -> float:
    """Runs one way in a process of its own and returns its peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.verbatim_memory", way, str(n)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def read_once(way: str, n: int) -> None:
    """Reads six repeated lists after n paragraphs at one time and prints the peak memory."""
    import resource

    torch.set_num_threads(1)
    model = load(MODEL)
    unit = ListUnit("memory", "none", GRID.pools[0], 10, (0, 1), (("intact", n),))
    cells = [cell for cell in cells_of(model, [unit]) if cell.condition == "repeat"]
    if way == "shared":
        measure_lists(GRID, model, unit)
    else:
        del model
        width = min(len(cell.trial.ids) for cell in cells)
        same = [cell.trial for cell in cells if len(cell.trial.ids) == width]
        noun_surprisals(script_model(), *(same * len(cells))[: len(cells)])
    say(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def say(text: str) -> None:
    """Prints at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        read_once(sys.argv[1], int(sys.argv[2]))
    else:
        main()
