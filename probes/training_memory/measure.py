"""From a model to the measured tables: trainings, what carries them, how long they last. The model's weights are put back."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.errors import UserError
from interp.experiments.experiment import WorkUnit
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import layer_modules
from probes.training_memory import plan
from probes.training_memory.duplicates import measure_duplicates
from probes.training_memory.scores import exact, mean_nats, second_halves, shared
from probes.training_memory.settings import Settings
from probes.training_memory.stimuli import Item, begun, items_of, later_text
from probes.training_memory.trainer import DivergedError, Trainer, Weights, put, restored, weights_of
from probes.training_memory.values import measure_values

LATER_TOKENS = 32
"""Tokens of a row of other text."""
Rows = list[dict[str, Any]]


def measure_unit(model: LanguageModel, unit: WorkUnit, settings: Settings) -> Mapping[str, pd.DataFrame]:
    """Returns the rows of one unit, by table. A model that is trained has its first weights again afterwards.

    Raises UserError for a model in half precision, and ArgumentError for sentences that cannot be studied.
    """
    if isinstance(unit, plan.ValuesUnit):
        return {"values": measure_values(model, unit.series, settings)}
    if isinstance(unit, plan.DuplicatesUnit):
        return measure_duplicates(model, unit, settings)
    assert isinstance(unit, plan.StudyUnit | plan.AfterUnit)
    with restored(model) as first:
        if isinstance(unit, plan.StudyUnit):
            return _study(model, unit, settings)
        return _after(model, unit, settings, first)


# ---------------------------------------------------------------------- study


def _study(model: LanguageModel, unit: plan.StudyUnit, settings: Settings) -> Mapping[str, pd.DataFrame]:
    items = items_of(model.tokenizer, settings, unit.condition, unit.seed)
    named = {"condition": unit.condition, "learning_rate": unit.learning_rate, "training_seed": unit.seed}
    tested = _Tested(model, items, named)
    tested.test(exposures=0)
    trainer = Trainer(model, unit.learning_rate)
    updates: Rows = []
    for exposure in range(1, max(settings.exposures) + 1):
        if not _pass_over(trainer, items, settings, exposure, named, updates):
            break
        if exposure in settings.exposures:
            tested.test(exposures=exposure)
    return tested.tables() | {"updates": pd.DataFrame(updates)}


def _pass_over(
    trainer: Trainer, items: Sequence[Item], settings: Settings, exposure: int, named: dict[str, Any], updates: Rows
) -> bool:
    """Trains once on every item, in an order of its own; False when training has diverged."""
    order = np.random.default_rng([settings.seed, exposure, 7]).permutation(len(items))
    for first in range(0, len(items), settings.batch):
        rows = [begun(trainer.model.tokenizer, items[place].ids) for place in order[first : first + settings.batch]]
        about = {**named, "exposure": exposure, "update": len(updates) + 1}
        try:
            done = trainer.update(rows)
        except DivergedError as error:
            updates.append({**about, "loss_nats": np.nan, "gradient_norm": np.nan, "stopped": str(error)})
            return False
        updates.append({**about, "loss_nats": done.loss_nats, "gradient_norm": done.gradient_norm, "stopped": ""})
    return True


class _Tested:
    """What a model knows of its items at each time it is tested."""

    def __init__(self, model: LanguageModel, items: Sequence[Item], named: Mapping[str, Any]) -> None:
        self.model, self.items, self.named = model, items, named
        self.recognition: Rows = []
        self.recall: Rows = []

    def test(self, *, exposures: int, **about: Any) -> None:
        """Adds a row for each item and foil, and one for each item's recall."""
        named = {**self.named, "exposures": exposures, **about}
        seen = mean_nats(self.model, [item.ids for item in self.items])
        for foil in self.items[0].foils:
            foils = mean_nats(self.model, [item.foils[foil] for item in self.items])
            for item, own, other in zip(self.items, seen, foils, strict=True):
                self.recognition.append(
                    {
                        **named, "item_id": item.id, "foil": foil, "nats_seen": own, "nats_foil": other,
                        "margin_nats": other - own, "is_recognised": float(own < other) + 0.5 * float(own == other),
                    }
                )  # fmt: skip
        written = second_halves(self.model, self.items)
        for place, (item, tokens) in enumerate(zip(self.items, written, strict=True)):
            wanted, other = item.ids[item.half :], self.items[(place + 1) % len(self.items)]
            self.recall.append(
                {
                    **named, "item_id": item.id, "n_tokens": len(wanted), "exact": exact(tokens, wanted),
                    "rouge_second": shared(tokens, wanted),
                    "rouge_released": shared((*item.ids[: item.half], *tokens), item.ids),
                    "rouge_floor": shared((*item.ids[: item.half],), item.ids),
                    "rouge_of_another": shared(tokens, other.ids[other.half :]),
                }
            )  # fmt: skip

    def tables(self) -> dict[str, pd.DataFrame]:
        """Returns the tables `recognition` and `recall`."""
        return {"recognition": pd.DataFrame(self.recognition), "recall": pd.DataFrame(self.recall)}


# ---------------------------------------------------------------------- what carries it, how long it lasts


def _after(
    model: LanguageModel, unit: plan.AfterUnit, settings: Settings, first: Weights
) -> Mapping[str, pd.DataFrame]:
    items = items_of(model.tokenizer, settings, "natural", unit.seed)
    named = {"condition": "natural", "learning_rate": unit.learning_rate, "training_seed": unit.seed}
    lasting, layers = _Tested(model, items, named), _Tested(model, items, named)
    lasting.test(exposures=0, updates_since=-1)
    trainer = Trainer(model, unit.learning_rate)
    updates: Rows = []
    if not all(
        _pass_over(trainer, items, settings, exposure, named, updates) for exposure in range(1, settings.studied + 1)
    ):
        return {"updates": pd.DataFrame(updates)}
    lasting.test(exposures=settings.studied, updates_since=0)
    if settings.layer_groups:
        _take_back(model, first, settings, layers)
    found: dict[str, pd.DataFrame] = {}
    if settings.kept_for:
        _go_on(trainer, settings, unit, lasting, {**named, "exposure": settings.studied}, updates)
        found = {f"lasting_{name}": table for name, table in lasting.tables().items()}
    if updates[-1]["stopped"]:
        found["updates"] = pd.DataFrame(updates[-1:])  # those of the study are in the tables of its own unit
    return found | {f"layers_{name}": table for name, table in layers.tables().items() if len(table)}


def _go_on(
    trainer: Trainer, settings: Settings, unit: plan.AfterUnit, lasting: _Tested, named: dict[str, Any], updates: Rows
) -> None:
    """Trains on other text, with the same optimiser, and tests on the way; where training diverges, `updates` says so."""
    batches = later_text(trainer.model.tokenizer, max(settings.kept_for), settings.batch, LATER_TOKENS, unit.seed)
    for number, rows in enumerate(batches, start=1):
        try:
            trainer.update(rows)
        except DivergedError as error:
            about = {**named, "update": len(updates) + number}
            updates.append({**about, "loss_nats": np.nan, "gradient_norm": np.nan, "stopped": f"on other text {error}"})
            return
        if number in settings.kept_for:
            lasting.test(exposures=settings.studied, updates_since=number)


def groups_of(model: LanguageModel, n_groups: int) -> dict[str, list[str]]:
    """Returns names of parameters by group: neighbouring layers, and what is in no layer (embedding, last norm).

    Raises UserError for a model whose layers are not in one list.
    """
    place = {
        id(parameter): layer for layer, module in enumerate(layer_modules(model)) for parameter in module.parameters()
    }
    edges = np.linspace(0, model.n_layers, min(n_groups, model.n_layers) + 1).round().astype(int)
    names = {f"layers {a} to {b - 1}" if b - a > 1 else f"layer {a}": range(a, b) for a, b in pairwise(edges)}
    found: dict[str, list[str]] = {name: [] for name in names} | {"embedding and last norm": []}
    for parameter_name, parameter in model.hf.named_parameters():
        layer = place.get(id(parameter))
        group = next((name for name, layers in names.items() if layer in layers), "embedding and last norm")
        found[group].append(parameter_name)
    return found


def _take_back(model: LanguageModel, first: Weights, settings: Settings, tested: _Tested) -> None:
    """Tests with the change of one group taken back; and, as control, with as much of the squared change taken back everywhere.

    Raises UserError for a model whose layers are not in one list.
    """
    try:
        groups = groups_of(model, settings.layer_groups)
    except UserError as error:
        raise UserError(f"{error} Or leave layers out with --layer-groups 0.") from error
    now = weights_of(model)
    trained = {name: now[name].detach().clone() for name in first}
    squared = {
        name: float((trained[name] - first[name]).double().square().sum())
        for names in groups.values()
        for name in names
    }
    total = sum(squared.values())
    named = {"exposures": settings.studied, "n_layers": model.n_layers}
    tested.test(**named, taken_back="nothing", control=False, share=0.0)
    for number, (group, names) in enumerate(groups.items()):
        share = sum(squared[name] for name in names) / total
        put(model, {name: first[name] for name in names})
        tested.test(**named, taken_back=group, control=False, share=share)
        put(model, {name: trained[name] for name in names})
        generator = torch.Generator().manual_seed(settings.seed * 1000 + number)
        put(model, {name: mixed(first[name], trained[name], share, generator) for name in squared})
        tested.test(**named, taken_back=group, control=True, share=share)
        put(model, {name: trained[name] for name in squared})


def mixed(first: Tensor, trained: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Returns the trained weights with a random share of them as they were first."""
    back = (torch.rand(first.shape, generator=generator) < share).to(first.device)
    return torch.where(back, first, trained)
