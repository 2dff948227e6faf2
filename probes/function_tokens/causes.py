"""What causes a feature, attention to where it was active before (re-activation), and what it causes when it is added (steering)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import UserError
from interp.models.language.attention import AttentionCall, Barred
from interp.models.language.hooks import EditPhase, Phase
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import changed_residuals, read_residuals
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


PROMOTED = 10
"""Next tokens that a feature promotes most, by its direction's product with the unembedding."""
EARLIER = range(2, 13)
"""How far before the last token the earlier one may stand."""
PROMPT_STREAM, CELL_STREAM = 9, 10
"""Names of the random streams that choose prompts, and places in them."""


@dataclass(frozen=True)
class Cell:
    """Where a vector is added: at `position` of the prompt that ends at `last`."""

    where: str
    token_class: str
    position: int
    last: int


@torch.inference_mode()
def measure_steering(inputs: Inputs, loaded: Loaded, prompts: range) -> pd.DataFrame:
    """Returns one row per prompt, cell of the 2×2 design and direction (feature or random): what the next token's distribution does.

    `kl_nats`: KL(steered ‖ as it is) at the last token. `promoted_gain_nats`: rise of the log probability of the ten tokens
    that the feature promotes, together.
    """
    model, layer = inputs.model, loaded.dictionary.layer
    order = prompt_windows(inputs.corpus, inputs.settings.seed, PROMPT_STREAM)
    rows = []
    for prompt in range(prompts.start, min(prompts.stop, len(order))):
        generator = np.random.default_rng([inputs.settings.seed, CELL_STREAM, prompt])
        ids = inputs.corpus.windows[slice(int(order[prompt]), int(order[prompt]) + 1)].ids[0]
        cells = cells_of(inputs.corpus, ids, generator)
        if not cells:
            continue
        stream = read_residuals(model, ids[None], [layer])[layer][0]
        counted = stream[max(inputs.settings.skip_first, inputs.corpus.windows.n_before) :]
        activations = loaded.dictionary.encode(counted)
        active = (activations > 0).any(dim=0).nonzero().squeeze(-1).cpu().numpy()
        feature = int(generator.choice(active))
        strength = inputs.settings.steering_strength * float(activations[:, feature].max())
        direction = loaded.dictionary.direction(feature, counted[activations[:, feature].argmax()])
        vector = strength * direction
        noise = torch.from_numpy(generator.standard_normal(len(vector))).to(vector)
        random = noise * vector.norm() / noise.norm()
        promoted = promoted_tokens(model, direction)
        for cell in cells:
            outcome = steered(
                model, layer, ids[: cell.last + 1], cell.position, torch.stack([vector, random]), promoted
            )
            for name, values in zip(("feature", "random"), outcome.tolist(), strict=True):
                rows.append(
                    {
                        "prompt": prompt,
                        "feature_id": feature,
                        "where": cell.where,
                        "token_class": cell.token_class,
                        "direction": name,
                        "distance": cell.last - cell.position,
                        "vector_norm": float(vector.norm()),
                        "kl_nats": values[0],
                        "promoted_gain_nats": values[1],
                    }
                )
    return pd.DataFrame(rows)


def promoted_tokens(model: LanguageModel, direction: Float[Tensor, " residual"]) -> Tensor:
    """Returns the ids whose logits a direction raises most, straight through the unembedding."""
    head = model.hf.get_output_embeddings().weight  # type: ignore[union-attr]
    return (head.float() @ direction.to(head.device).float()).topk(PROMOTED).indices  # type: ignore[operator]


@torch.inference_mode()
def steered(
    model: LanguageModel,
    layer: int,
    ids: Tensor,
    position: int,
    vectors: Float[Tensor, "vector residual"],
    promoted: Tensor,
) -> Float[Tensor, "vector 2"]:
    """Returns, per vector added after the layer at the position, KL(steered ‖ as it is) and the gain of the promoted tokens."""
    rows = ids.repeat(len(vectors) + 1, 1)
    zero = torch.zeros_like(vectors[:1])
    added = torch.cat([zero, vectors])

    def add(stream: Tensor) -> Tensor:
        stream = stream.clone()
        stream[:, position] += added.to(stream)
        return stream

    prefix = model.rows(len(rows), rows.shape[1])
    with changed_residuals(model, layer, add):
        logits = model.extend(prefix, rows.tolist(), logits="last")[:, -1]
    log_p = torch.log_softmax(logits.double(), dim=-1)
    divergence = (log_p[1:].exp() * (log_p[1:] - log_p[:1])).sum(dim=-1)
    mass = torch.logsumexp(log_p[:, promoted], dim=-1)
    return torch.stack([divergence, mass[1:] - mass[0]], dim=1).float().cpu()


def cells_of(corpus: Corpus, ids: Tensor, generator: np.random.Generator) -> list[Cell]:
    """Returns the four cells of one prompt: last tokens of both classes, and earlier tokens of both classes before one last token.

    None where the prompt has no such tokens.
    """
    function = np.isin(ids.numpy(), corpus.function_ids())
    positions = np.arange(EARLIEST, len(ids))
    by_class = {"function": positions[function[positions]], "content": positions[~function[positions]]}
    if not all(len(found) for found in by_class.values()):
        return []
    cells = [Cell("last", name, int(p), int(p)) for name, found in by_class.items() for p in [generator.choice(found)]]
    last = int(generator.choice(positions))
    for name, found in by_class.items():
        near = found[np.isin(last - found, np.array(EARLIER))]
        if not len(near):
            return []
        cells.append(Cell("earlier", name, int(generator.choice(near)), last))
    return cells
