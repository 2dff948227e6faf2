"""Layers left out: which arms and schedules cost least at one budget (SkipDecode), and earlier states put in again at strength β."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ArgumentError
from interp.models.language.forward import LOGITS_AT_ONCE
from interp.models.language.kept_logits import check_numbers
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import changed_residuals, skipped_layers
from probes.prediction_depth.materials import read_ids
from probes.prediction_depth.settings import Arm, Schedule, Settings


@dataclass(frozen=True)
class Skip:
    """One way to leave layers out."""

    arm: Arm
    schedule: Schedule
    budget: float


def layers_at(
    schedule: Schedule, budget_layers: int, spread: float, n_tokens: int, n_layers: int
) -> Int[np.ndarray, " token"]:
    """Returns how many layers each token passes: the same sum for all schedules.

    Falling goes in a line from budget · (1 + spread), or all layers if that is more, to as far below the budget.
    """
    reach = min(spread * budget_layers, n_layers - budget_layers, budget_layers - 1)
    if schedule == "constant":
        return np.full(n_tokens, budget_layers)
    falling = np.rint(np.linspace(budget_layers + reach, budget_layers - reach, n_tokens)).astype(int)
    return falling if schedule == "falling" else falling[::-1].copy()


def layers_run(arm: Arm, n_run: int, n_layers: int, warm_up: int, order: Sequence[int]) -> list[int]:
    """Returns the layers that a token passes: the first ones (drop_top); the first few and the last ones (drop_lower_middle); evenly
    spaced ones with first and last (stride); the first of a random order.
    """
    if arm == "drop_top":
        return list(range(n_run))
    if arm == "drop_lower_middle":
        first = min(warm_up, n_run)
        return [*range(first), *range(n_layers - (n_run - first), n_layers)]
    if arm == "stride":
        return np.rint(np.linspace(0, n_layers - 1, n_run)).astype(int).tolist()
    return sorted(order[:n_run])


def runs_of(
    settings: Settings, skip: Skip, n_tokens: int, n_layers: int, order: Sequence[int]
) -> Bool[Tensor, "layer token"]:
    """Returns which layers each token of a text passes: all of them at the first tokens."""
    runs = torch.ones((n_layers, n_tokens), dtype=torch.bool)
    n_budget = max(2, round(skip.budget * n_layers))
    counts = layers_at(skip.schedule, n_budget, settings.budget_spread, n_tokens - settings.full_tokens, n_layers)
    for place, n_run in enumerate(counts, start=settings.full_tokens):
        runs[:, place] = False
        runs[layers_run(skip.arm, int(n_run), n_layers, settings.warm_up_layers, order), place] = True
    return runs


@torch.inference_mode()
def measure_skips(settings: Settings, model: LanguageModel, number: int) -> pd.DataFrame:
    """Returns the table `skips` of one text: a row for each way to leave layers out, none left out first.

    Raises ArgumentError for a model of one layer.
    """
    n = model.n_layers
    if n < 2:
        raise ArgumentError(f"{model.identity.name} has one layer, so none can be left out: name another model.")
    ids = read_ids(settings, model, number, settings.text_tokens)
    order = np.random.default_rng([settings.seed, number]).permutation(n).tolist()
    skips = [
        Skip(arm, schedule, budget)
        for budget in settings.budgets for arm in get_args(Arm) for schedule in get_args(Schedule)
    ]  # fmt: skip
    runs = torch.stack([runs_of(settings, skip, len(ids), n, order) for skip in skips])
    whole, whole_tops = _read(model, [ids])
    rows, first = [], settings.full_tokens
    for part in _parts(model, len(skips), len(ids)):
        with skipped_layers(model, runs[list(part)]):
            nats, tops = _read(model, [ids] * len(part))
        for row, index in enumerate(part):
            change = (nats[row] - whole[0])[first:]
            early, late = change.chunk(2)
            rows.append(
                {
                    "text_id": f"decode-{number:03d}", **vars(skips[index]),
                    "mean_layers": float(runs[index, :, first:-1].sum(0).float().mean()),
                    "change_nats": float(change.mean()), "early_change_nats": float(early.mean()), "late_change_nats": float(late.mean()),
                    "agreement": float((tops[row] == whole_tops[0])[first:].float().mean()),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def _read(
    model: LanguageModel, rows: Sequence[Sequence[int]]
) -> tuple[Float[Tensor, "row token"], Int[Tensor, "row token"]]:
    """-ln p of every token but the first, and the likeliest token in its place."""
    ids = torch.tensor([list(row) for row in rows], device=model.device)
    logits = model.hf(input_ids=ids, use_cache=False).logits[:, :-1].float()
    check_numbers(model, logits)
    log_p = torch.log_softmax(logits, dim=-1)
    return -log_p.gather(-1, ids[:, 1:, None])[..., 0].cpu(), log_p.argmax(dim=-1).cpu()


def _parts(model: LanguageModel, n_rows: int, n_tokens: int) -> Iterator[range]:
    vocabulary = model.hf.config.get_text_config(decoder=True).vocab_size
    size = max(1, LOGITS_AT_ONCE // (2 * n_tokens * vocabulary))
    yield from (range(first, min(first + size, n_rows)) for first in range(0, n_rows, size))


# ---------------------------------------------------------------------- contextual memory reweaving

ADDED = ("earlier states", "random direction")
SITES = ("middle layer", "every layer")


@contextmanager
def rewoven(
    model: LanguageModel, sites: Sequence[int], beta: float, *, at_random: bool, seed: int = 0
) -> Iterator[None]:
    """Adds β times the mean of all earlier layers' outputs to the output of each site; at random: a random vector as long in its place."""
    earlier: list[Tensor] = []
    generator = torch.Generator().manual_seed(seed)

    def change(layer: int, stream: Tensor) -> Tensor:
        if layer == 0:
            earlier.clear()
        if layer in sites and earlier:
            mean = torch.stack(earlier).float().mean(dim=0)
            if at_random:
                drawn = torch.randn(mean.shape, generator=generator).to(mean.device)
                mean = drawn / drawn.norm(dim=-1, keepdim=True) * mean.norm(dim=-1, keepdim=True)
            stream = (stream.float() + beta * mean).to(stream.dtype)
        earlier.append(stream)
        return stream

    with ExitStack() as stack:
        for layer in range(model.n_layers):
            stack.enter_context(changed_residuals(model, layer, lambda stream, layer=layer: change(layer, stream)))
        yield


@torch.inference_mode()
def measure_reweaving(settings: Settings, model: LanguageModel, number: int) -> pd.DataFrame:
    """Returns the table `reweaving` of one text: the change of surprisal at every strength, site and kind of what is added."""
    ids = read_ids(settings, model, number, settings.text_tokens)
    whole, tops = _read(model, [ids])
    places = {SITES[0]: [model.n_layers // 2], SITES[1]: list(range(1, model.n_layers))}
    rows = []
    for site, layers in places.items():
        for added in ADDED:
            for beta in settings.betas:
                seed = settings.seed + number
                with rewoven(model, layers, beta, at_random=added == ADDED[1], seed=seed):
                    nats, now = _read(model, [ids])
                rows.append(
                    {
                        "text_id": f"decode-{number:03d}", "site": site, "added": added, "beta": beta,
                        "change_nats": float((nats - whole)[0, 1:].mean()), "agreement": float((now == tops)[0, 1:].float().mean()),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)
