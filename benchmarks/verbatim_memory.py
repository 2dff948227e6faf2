"""What reading shared parts once saves: `python -m benchmarks verbatim_memory`.

Three ways compute the surprisal of every noun of the same trials:
  shared    this toolkit: preface and first list once, each text between once, vocabulary scores for lists only;
  script    transformers used well: trials of one first list and text between are a batch, what they begin with is read once, and
            vocabulary scores are asked for where the lists are;
  obvious   what one writes first: one forward pass per trial over the whole text with all its logits.
Then both read some trials at one time, after a short and after a long text, for memory; and the toolkit reads more and more lists.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.tables import Difference, Results, compare, grow, results
from interp.models.language.model import LanguageModel
from interp.models.loading.converted import converted_asset
from interp.models.loading.language import load
from probes.verbatim_memory.experiment import VerbatimMemory
from probes.verbatim_memory.lists import first_lists, second_list
from probes.verbatim_memory.measure import measure_lists
from probes.verbatim_memory.plan import ListUnit, plan_units
from probes.verbatim_memory.trials import Trial, build_trial, read_texts

NAME, MODEL = "verbatim_memory", "smollm2-135m"
GRID = VerbatimMemory(
    list_lengths=(10,),
    n_base_lists=2,
    rotations=1,
    conditions=("repeat", "permute", "novel"),
    intervening=(1, 3, 4, 5),
    contexts=("intact", "scrambled", "incongruent", "short"),
    exact_rotations=0,
    mask_sets=(),
)
"""The paper's texts and conditions for lists of ten, on few of its 230 first lists."""
TOLERANCE = 1e-3
"""Nats: batches of another size round differently."""

Key = tuple[str, str, int, str, int, int]
"""Trial, context, paragraphs between, condition, list, position."""
Surprisals = dict[Key, float]


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    grid: VerbatimMemory
    repetitions: int
    paragraphs: tuple[int, ...]
    """Between the lists, for memory."""
    lists: tuple[int, ...]
    repetitions_of_growth: int


FULL = Sizes(GRID, 2, (1, 5), (2, 4, 8, 16), 3)
QUICK = Sizes(
    replace(GRID, list_lengths=(3,), conditions=("repeat", "novel"), contexts=("short",), intervening=(1,)),
    1,
    (1,),
    (2, 3),
    1,
)


@dataclass(frozen=True)
class Cell:
    """A trial as the script reads it, and where it stands in the grid."""

    trial: Trial
    context: str
    intervening: int
    condition: str


def run(sizes: Sizes) -> Results:
    """Returns the seconds of both ways, their memory after short and long texts, and growth by lists."""
    model = load(MODEL)
    script = AutoModelForCausalLM.from_pretrained(converted_asset(MODEL), dtype=torch.float32).eval()
    by_lists(model, sizes.grid, 2)()  # warm up
    script(torch.tensor([[1] * 256]))
    comparison = surprisals(model, script, sizes)
    for n in sizes.paragraphs:
        comparison += memory(model, script, sizes.grid, n)
    return results(comparison, growth(model, sizes))


def surprisals(model: LanguageModel, script: torch.nn.Module, sizes: Sizes) -> list[dict]:
    """Rows of both ways of reading every trial of the grid."""
    units = [unit for unit in plan_units(sizes.grid, model.facts, {}) if isinstance(unit, ListUnit)]
    cells = cells_of(model, sizes.grid, units)
    n_tokens = sum(len(cell.trial.ids) for cell in cells)

    def script_way() -> Surprisals:
        read = [noun_surprisals(script, cell.trial) for cell in cells]
        return {key: nats for cell, lists in zip(cells, read, strict=True) for key, nats in keyed(cell, lists).items()}

    return compare(
        {
            "model": MODEL, "benchmark": NAME, "kind": "speed", "case": f"{len(cells)} trials, {n_tokens:,} tokens",
            "amount_name": "trials measured",
        },
        {
            ("toolkit", "shared parts read once"): lambda: shared_way(model, sizes.grid, units),
            ("baseline", "trials that differ in the second list alone as a batch, scores of lists only"): lambda: (
                script_well(script, cells)
            ),
            ("obvious", "one forward pass per trial, all its logits"): script_way,
        },
        sizes.repetitions,
        surprisals_apart,
        lambda *_: len(cells),
    )  # fmt: skip


def surprisals_apart(ours: Surprisals, theirs: Surprisals) -> Difference:
    """The largest difference of a noun's surprisal; infinite where the toolkit lacks one."""
    gaps = [abs(ours.get(key, float("inf")) - nats) for key, nats in theirs.items()]
    return Difference("largest difference of a surprisal, in nats", max(gaps), len(gaps), TOLERANCE)


def cells_of(model: LanguageModel, grid: VerbatimMemory, units: list[ListUnit]) -> list[Cell]:
    """Every trial of the grid in one piece."""
    everyone = first_lists(grid, grid.pools[0], max(grid.list_lengths))
    return [
        Cell(
            build_trial(
                model.tokenizer, read_texts(), first, second_list(condition, first, everyone, grid.seed),
                context=context, intervening=n, bos=grid.bos, seed=grid.seed,
            ),
            context,
            n,
            condition,
        )
        for unit in units
        for first in everyone
        if first.base_list in unit.base_lists
        for context, n in unit.betweens
        for condition in grid.conditions
    ]  # fmt: skip


def shared_way(model: LanguageModel, grid: VerbatimMemory, units: list[ListUnit]) -> Surprisals:
    """The toolkit's surprisals; the first list's hold for every text and second list of its trial."""
    found: Surprisals = {}
    for unit in units:
        table = measure_lists(grid, model, unit)["token_surprisals"]
        table = table[(table["mode"] == "raw") & (table["list_index"] > 0)]
        columns = ("trial_id", "context_type", "intervening", "condition", "list_index", "position", "surprisal_nats")
        for trial, context, n, condition, index, position, nats in zip(*(table[name] for name in columns), strict=True):
            found[trial, context, n, condition, index, position] = nats
    return found


def keyed(cell: Cell, lists: list[list[float]]) -> Surprisals:
    """The script's surprisals under the toolkit's keys."""
    own = "short" if cell.context == "short" else "intact"
    first = {(cell.trial.first.id, own, 0, "first", 1, position): nats for position, nats in enumerate(lists[0])}
    second = {
        (cell.trial.first.id, cell.context, cell.intervening, cell.condition, 2, position): nats
        for position, nats in enumerate(lists[1])
    }
    return {**first, **second}


def script_well(hf: Any, cells: list[Cell]) -> Surprisals:
    """The script of a good engineer: one batch for each first list and text between."""
    found: Surprisals = {}
    key = lambda cell: (cell.trial.first.id, cell.context, cell.intervening)  # noqa: E731
    for _, group in groupby(sorted(cells, key=key), key=key):
        batch = list(group)
        for cell, lists in zip(batch, batch_surprisals(hf, [cell.trial for cell in batch]), strict=True):
            found.update(keyed(cell, lists))
    return found


@torch.inference_mode()
def batch_surprisals(hf: Any, trials: list[Trial]) -> list[list[list[float]]]:
    """Nouns' surprisals of both lists of trials that are equal up to the second list: that part is read once."""
    start, first = trials[0].starts[1], trials[0].starts[0]
    end = first + len(trials[0].lists[0].ids)
    cache = DynamicCache(config=hf.config)
    ids = torch.tensor([trials[0].ids[: start - 1]])
    once = hf(ids, past_key_values=cache, logits_to_keep=torch.arange(first - 1, end - 1)).logits
    first_nats = -torch.log_softmax(once, dim=-1).gather(-1, ids[:, first:end, None]).squeeze(-1)[0]
    cache.batch_repeat_interleave(len(trials))
    width = max(len(trial.ids) for trial in trials)
    rest = torch.tensor([[*trial.ids[start - 1 :], *[0] * (width - len(trial.ids))] for trial in trials])
    log_p = torch.log_softmax(hf(rest, past_key_values=cache).logits[:, :-1], dim=-1)
    second_nats = -log_p.gather(-1, rest[:, 1:, None]).squeeze(-1)
    return [
        [
            [float(first_nats[a - first : b - first].sum()) for a, b in trial.noun_spans(1)],
            [float(nats[a - start : b - start].sum()) for a, b in trial.noun_spans(2)],
        ]
        for trial, nats in zip(trials, second_nats, strict=True)
    ]


@torch.inference_mode()
def noun_surprisals(hf: torch.nn.Module, *trials: Trial) -> list[list[float]]:
    """One forward pass over whole trials of equal length; returns the nouns' surprisals of both lists of the first one."""
    ids = torch.tensor([trial.ids for trial in trials])
    log_p = torch.log_softmax(hf(ids, use_cache=False).logits, dim=-1)
    nats = -log_p[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)[0]
    return [[float(nats[start - 1 : end - 1].sum()) for start, end in trials[0].noun_spans(index)] for index in (1, 2)]


def memory(model: LanguageModel, script: torch.nn.Module, grid: VerbatimMemory, n: int) -> list[dict]:
    """Rows of both ways that read the same repeated lists at one time, after n paragraphs."""
    length = max(grid.list_lengths)
    unit = ListUnit("memory", "none", grid.pools[0], length, tuple(range(grid.n_base_lists)), (("intact", n),))
    cells = [cell for cell in cells_of(model, grid, [unit]) if cell.condition == "repeat"]
    width = min(len(cell.trial.ids) for cell in cells)
    same = [cell.trial for cell in cells if len(cell.trial.ids) == width]
    trials = (same * len(cells))[: len(cells)]

    def script_way() -> Surprisals:
        return keyed(next(cell for cell in cells if cell.trial is trials[0]), noun_surprisals(script, *trials))

    return compare(
        {
            "model": MODEL, "benchmark": NAME, "kind": "memory", "case": f"{len(cells)} trials at one time, {width} tokens each",
            "amount_name": "trials read",
        },
        {
            ("toolkit", "shared parts read once, lists of three conditions"): lambda: shared_way(model, grid, [unit]),
            ("obvious", "one batch, all logits"): script_way,
        },
        1,
        surprisals_apart,
        lambda *_: len(cells),
    )  # fmt: skip


def growth(model: LanguageModel, sizes: Sizes) -> list[dict]:
    """Rows by first lists."""
    labels = {"model": MODEL, "benchmark": NAME, "curve": "first_lists"}
    return grow(labels, sizes.lists, sizes.repetitions_of_growth, lambda n: by_lists(model, sizes.grid, n))


def by_lists(model: LanguageModel, grid: VerbatimMemory, n: int) -> Callable[[], Surprisals]:
    """Measures n first lists, each in all conditions after one intact paragraph."""
    grid = replace(grid, n_base_lists=n, rotations=1, contexts=("intact",), intervening=(1,))
    units = [unit for unit in plan_units(grid, model.facts, {}) if isinstance(unit, ListUnit)]
    return lambda: shared_way(model, grid, units)
