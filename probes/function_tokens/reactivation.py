"""Re-activation: does a feature at a token come from attention to where it was active before?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import UserError
from interp.models.attention import AttentionCall, Barred
from interp.models.hooks import EditPhase, Phase
from interp.models.language import LanguageModel
from interp.models.residuals import read_residuals
from probes.function_tokens.inputs import Corpus, Inputs, Loaded
from probes.function_tokens.token_classes import CONTENT, FUNCTION

ROWS_AT_ONCE = 8
EARLIEST = 16
"""Tokens of context that stand before the token looked at, at least."""
TOO_COMMON = 0.25
"""Features active at more than this share of a prompt's positions say nothing about where they come from."""


@dataclass(frozen=True, eq=False)
class BlockedPairs:
    """An edit: row by row of the batch, no head may look from the chosen queries to the chosen keys; the rest renormalises."""

    blocked: Bool[Tensor, "row query key"]
    phase: EditPhase = "both"

    def check(self, n_rows: int) -> None:
        """Raises UserError unless there are pairs for each row of the batch."""
        if len(self.blocked) != n_rows:
            raise UserError(f"Pairs are blocked in {len(self.blocked)} rows of {n_rows}: give pairs for each row.")

    def applies(self, layer: int, phase: Phase | None) -> bool:
        """Always."""
        return True

    def evened(self, call: AttentionCall) -> None:
        """Returns None."""

    def barred(self, call: AttentionCall) -> Barred:
        """Returns the pairs, for every head."""
        everywhere = torch.ones(call.query.shape[1], dtype=torch.bool, device=call.query.device)
        return Barred(everywhere, self.blocked.to(call.query.device)[call.rows])

    def replaced(
        self,
        call: AttentionCall,
        output: Float[Tensor, "row query head dim"],
    ) -> Float[Tensor, "row query head dim"]:
        """Returns the outputs as they are."""
        return output


@dataclass(frozen=True)
class Case:
    """One feature at one token of one prompt, the earlier positions where it was active, and as many where it was not."""

    prompt: int
    window: int
    token_class: str
    position: int
    feature: int
    sources: tuple[int, ...]
    controls: tuple[int, ...]


def measure_reactivation(inputs: Inputs, loaded: Loaded, prompts: range) -> pd.DataFrame:
    """Returns one row per prompt: the feature's activation as it is, with its sources knocked out, and with controls knocked out."""
    cases = [
        case
        for first in range(prompts.start, prompts.stop, ROWS_AT_ONCE)
        for case in _cases(inputs, loaded, range(first, min(first + ROWS_AT_ONCE, prompts.stop)))
    ]
    rows = []
    for first in range(0, len(cases), ROWS_AT_ONCE):
        part = cases[first : first + ROWS_AT_ONCE]
        found = activations_under_knockout(inputs.model, loaded, inputs.corpus.windows.ids, part)
        for case, values in zip(part, found.tolist(), strict=True):
            token_id = int(inputs.corpus.windows.ids[case.window, case.position])
            rows.append(
                {
                    "prompt": case.prompt,
                    "token_class": case.token_class,
                    "position": case.position,
                    "token_id": token_id,
                    "feature_id": case.feature,
                    "n_sources": len(case.sources),
                    "nearest_distance": case.position - max(case.sources),
                    "control_nearest_distance": case.position - max(case.controls),
                    "activation": values[0],
                    "activation_sources_out": values[1],
                    "activation_controls_out": values[2],
                }
            )
    return pd.DataFrame(rows)


def activations_under_knockout(
    model: LanguageModel, loaded: Loaded, ids: Tensor, cases: list[Case]
) -> Float[Tensor, "case 3"]:
    """Returns each case's activation with nothing, its sources, and its controls knocked out."""
    width = max(case.position for case in cases) + 1
    rows = torch.stack([ids[case.window, :width] for case in cases for _ in range(3)])
    blocked = torch.zeros((len(rows), width, width), dtype=torch.bool)
    for index, case in enumerate(cases):
        blocked[3 * index + 1, case.position, list(case.sources)] = True
        blocked[3 * index + 2, case.position, list(case.controls)] = True
    edit = BlockedPairs(blocked)
    with model.hooks.opened(edit):
        residuals = read_residuals(model, rows, [loaded.dictionary.layer])[loaded.dictionary.layer]
    positions = torch.tensor([case.position for case in cases]).repeat_interleave(3)
    features = torch.tensor([case.feature for case in cases]).repeat_interleave(3)
    vectors = residuals[torch.arange(len(rows)), positions.to(residuals.device)]
    return loaded.dictionary.encode(vectors).cpu()[torch.arange(len(rows)), features].reshape(-1, 3)


def prompt_windows(corpus: Corpus, seed: int, stream: int) -> np.ndarray:
    """Returns the windows that prompts are taken from, in a random order; those too short to hold one are left out."""
    order = np.random.default_rng([seed, stream]).permutation(len(corpus.windows))
    return order[corpus.windows.lengths.numpy()[order] >= EARLIEST + 8]


def _cases(inputs: Inputs, loaded: Loaded, prompts: range) -> list[Case]:
    """Chooses a feature and a token in each prompt: even prompts a function token, odd ones a content token."""
    order = prompt_windows(inputs.corpus, inputs.settings.seed, 7)
    prompts = range(prompts.start, min(prompts.stop, len(order)))
    if not prompts:
        return []
    chosen = order[prompts.start : prompts.stop]
    windows = inputs.corpus.windows
    ids, counted = windows.ids[chosen], inputs.counted(windows)[chosen]
    residuals = read_residuals(inputs.model, ids, [loaded.dictionary.layer])[loaded.dictionary.layer]
    sink = residuals.float().norm(dim=-1).cpu() > loaded.norm_limit
    function = torch.isin(ids, torch.from_numpy(inputs.corpus.function_ids()))
    cases = []
    for row, prompt in enumerate(prompts):
        active = (loaded.dictionary.encode(residuals[row]) > 0).cpu()
        token_class = FUNCTION if prompt % 2 == 0 else CONTENT
        wanted = counted[row] & ~sink[row] & (function[row] == (token_class == FUNCTION))
        generator = np.random.default_rng([inputs.settings.seed, 8, prompt])
        case = choose_case(active.numpy(), wanted.numpy(), counted[row].numpy(), generator)
        if case is not None:
            cases.append(Case(prompt, int(chosen[row]), token_class, *case))
    return cases


def choose_case(
    active: np.ndarray, wanted: np.ndarray, usable: np.ndarray, generator: np.random.Generator
) -> tuple[int, int, tuple[int, ...], tuple[int, ...]] | None:
    """Returns a random (position, feature, sources, controls), or None where no feature comes back at a wanted position.

    `active` [position, feature]; sources are the usable earlier positions where the feature is active, controls as many
    usable earlier positions where it is not, each the nearest there is to a source.
    """
    positions = np.arange(len(active))
    common = active[usable].mean(axis=0) > TOO_COMMON
    seen = np.cumsum(active & usable[:, None], axis=0) - (active & usable[:, None])
    candidates = active & (seen > 0) & ~common & (wanted & (positions >= EARLIEST))[:, None]
    found = np.argwhere(candidates)
    for index in generator.permutation(len(found)):
        position, feature = (int(value) for value in found[index])
        earlier = usable & (positions < position)
        sources = np.flatnonzero(earlier & active[:, feature])
        free = np.flatnonzero(earlier & ~active[:, feature])
        if len(free) < len(sources):
            continue
        controls: list[int] = []
        for source in sources:
            left = free[~np.isin(free, controls)]
            controls.append(int(left[np.argmin(np.abs(left - source))]))
        return position, feature, tuple(int(source) for source in sources), tuple(controls)
    return None
