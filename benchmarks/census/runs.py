"""Whole runs on a tiny random model: it is saved as a folder, loaded from there, and experiments go through it as a run goes.

Settings are those of the quick presets with fewer texts and shorter ones, so that every kind of unit is measured once or more.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.census.one import quiet, random_model, said
from benchmarks.census.overrides import VARIANTS
from benchmarks.census.plausible import impossible, rows_that_do_not_sum
from benchmarks.census.shrink import tiny_config
from benchmarks.census.whole import go_through
from benchmarks.census.words import tokenizer
from interp.errors import UserError
from interp.experiments.catalogue import find_experiment
from interp.experiments.experiment import Experiment
from interp.models.language.model import LanguageModel
from interp.models.loading.language import load

SETTINGS: dict[str, dict[str, Any]] = {
    "retrieval_heads": dict(
        context_tokens=(192,), samples_per_needle=1, finding_needles=3, max_new_tokens=6, k=(1,), other_k=2, random_draws=1,
        ablation_context_tokens=(192,), held_out_share=0.07, echo_block_tokens=24, echo_repeats=2, prose_tokens=8,
    ),
    "verbatim_memory": dict(
        list_lengths=(3,), n_base_lists=3, rotations=1, conditions=("repeat", "permute", "novel"), intervening=(1,),
        contexts=("intact",), exact_rotations=1, mask_sets=("postmatch",), mask_k=(1,), mask_draws=1,
    ),
    "surprisal": dict(modes=("raw", "boundary")),
    "kv_policies": dict(
        policies=("random", "streaming", "knorm", "h2o_mean", "snapkv(window=8)", "oracle"), budgets=(0.2,), protections=("sinks_recent",),
        scopes=("context_only",), prompt_tokens=96, recent=6, prose_texts=1, dynamics_texts=1, lists=1, list_words=3, needles=1,
        finding_needles=2, restored_k=(1,), random_draws=1, role_share=0.25,
    ),
    "context_recall": dict(
        tasks=("mqar(pairs=4)", "forgetting", "list_recall(anchor=comma)"), samples=2, lengths=(64,), length_samples=2,
        finding_needles=2, random_draws=1, role_share=0.1,
    ),
}  # fmt: skip
"""The experiments that every family goes through, each with its settings."""
RAN = "ran"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "--no-contributions": ("--no-contributions", {"contributions": False}),
    "--mask-phase everything": ("--mask-phase everything", {"mask_phase": "everything"}),
    "--mask-sets with nothing": ("--mask-sets (none)", {"mask_sets": ()}),
}
"""What a refusal may say to type: how the table has it, and what it changes. Whoever does so is not refused again."""


def ends_of(name: str, dtype: str, experiments: Sequence[str], *, pages: bool = False) -> Iterator[tuple[str, str]]:
    """Yields each experiment and how its run on a family or a variant ended.

    `ran`, or with what a refusal said to type `ran with --no-contributions`, `refused: …`, `wrong: …` for a number that cannot be, or
    `fault: …` for an error that is no sentence of the toolkit.
    """
    quiet()
    with tempfile.TemporaryDirectory(prefix="census-") as place, _cached_in(_cache(Path(place))):
        folder = Path(place) / "model"
        model = _loaded(name, dtype, folder)
        for experiment in experiments:
            if isinstance(model, str):
                yield experiment, model.replace(str(folder), folder.name)
                continue
            chosen = replace(find_experiment(experiment)(), model=str(folder), dtype=dtype, **SETTINGS[experiment])
            end = end_of(chosen, model, Path(place) / "runs" if pages else None)
            yield experiment, end.replace(str(folder), folder.name)


@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("INTERP_CACHE")
    os.environ["INTERP_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("INTERP_CACHE")
        if before is not None:
            os.environ["INTERP_CACHE"] = before


def _loaded(name: str, dtype: str, folder: Path) -> LanguageModel | str:
    """Saves a model and loads it again; returns what is wrong with it where something is."""
    try:
        saved(name, dtype, folder)
    except Exception as error:
        return f"not saved: {said(error)}"
    try:
        model = load(str(folder), device="cpu", dtype=dtype)
        off = rows_that_do_not_sum(model)
    except UserError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"fault: {said(error)}"
    return f"wrong: {off}" if off else model


def end_of(experiment: Experiment, model: LanguageModel, out: Path | None, typed: tuple[str, ...] = ()) -> str:
    """Returns how the experiment ends on a model: in memory, or through the runner with its pages, into the folder `out`."""
    try:
        tables = go_through(experiment, model) if out is None else experiment.run(out=out, device="cpu").tables
    except UserError as error:
        for said_so, (name, changes) in WAYS.items():
            if said_so in str(error) and name not in typed:
                return end_of(replace(experiment, **changes), model, out, (*typed, name))
        return f"refused: {error}"
    except Exception as error:
        return f"fault: {said(error)}"
    if wrong := impossible(tables, experiment.schemas()):
        return f"wrong: {wrong}"
    return " ".join([RAN, *(["with", *typed] if typed else [])])


def saved(name: str, dtype: str, folder: Path) -> Path:
    """Returns the folder that holds the tiny model of a family or variant, with its tokenizer."""
    family, changes = VARIANTS.get(name, (name, {}))
    hf = random_model(tiny_config(family, changes)).to(getattr(torch, dtype))
    hf.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def _cache(place: Path) -> Path:
    """A cache folder of its own, for verdicts of models that no one meets again; fetched assets are those of the real one."""
    from interp.assets import cache_folder

    own = place / "cache"
    own.mkdir()
    if cache_folder().is_dir():
        for kept in cache_folder().iterdir():
            if kept.name != "checks":
                (own / kept.name).symlink_to(kept)
    return own
