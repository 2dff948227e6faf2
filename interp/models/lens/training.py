"""Trains a tuned lens: `python -m interp.models.lens.training --model gpt2 --out gpt2-lens.safetensors`.

The hidden states of some articles are read once. The map of each depth is initialised by ridge regression from its states to those of the
last depth, truncated to the rank that best preserves the logits. Adam then minimises the KL divergence from the model's predictions over
the whole vocabulary, on a few tokens per step. The KL of every depth on held-out articles is printed and stored in the file.

If interrupted, run it again: it resumes from the last checkpoint and ends with the same maps.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from interp.errors import ArgumentError, RunError
from interp.models.identity import DtypeName
from interp.models.language.model import LanguageModel
from interp.models.language.norms import take_apart
from interp.models.lens.lens import LogitLens
from interp.models.lens.tuned import Kind, Translators, save_lens
from interp.models.tokens.encoding import beginning, encode_piece
from interp.tables import write_aside

TRAINING_SHARE, HELD_OUT_SHARE = 0.28, 0.04
"""Shares of the articles that a lens is trained and checked on; the others are left for experiments."""
CHECKPOINT_EVERY = 20
PARTS = ("down", "up", "bias")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Size and training hyperparameters of a lens."""

    out: Path
    """Output file (.safetensors); checkpoints are kept next to it until training is done."""
    model: str = "smollm2-135m"
    """Model to train a lens for: name, Hugging Face id, or folder."""
    dtype: DtypeName = "float32"
    """Precision of the weights; a lens works only with the precision it was trained in."""
    device: str = "auto"
    """Device to run the model on."""
    kind: Kind = "tuned"
    """shuffled: a control with the targets of other tokens, which can learn only token frequencies."""
    rank: int = 32
    """Rank of each depth's map."""
    windows: int = 40
    """Number of training articles; the beginning of each is used."""
    held_out_windows: int = 4
    """Number of held-out articles for validation."""
    context_tokens: int = 128
    """Number of tokens read from each article; the first is not trained on."""
    steps: int = 80
    """Number of Adam steps."""
    tokens_per_step: int = 12
    """Tokens per step; each is used at every depth."""
    learning_rate: float = 1e-3
    """Initial learning rate; it decays linearly to 0."""
    seed: int = 0
    """Seed for the choice of articles and batches."""


def train_lens(recipe: Recipe) -> None:
    """Trains a lens on the prose asset and writes it; one that is there already is left alone.

    Raises UserError for a model that a lens cannot read, and RunError for a training that diverges: the last checkpoint is kept.
    """
    from interp.models.dictionary.windows import deal_texts
    from interp.models.loading.language import load
    from interp.stimuli.prose import news_articles

    if recipe.out.is_file():
        return
    model = load(recipe.model, dtype=recipe.dtype, device=recipe.device)
    training, held_out, _ = deal_texts(news_articles(), (TRAINING_SHARE, HELD_OUT_SHARE))
    train_on(model, training, held_out, recipe)


def train_on(model: LanguageModel, training: Sequence[str], held_out: Sequence[str], recipe: Recipe) -> None:
    """Trains a lens of a loaded model on some texts, checks it on others, prints the KL of every depth and writes the file.

    Raises what train_lens raises.
    """
    lens = LogitLens(model)
    states = read_states(lens, training, recipe.windows, recipe.context_tokens)
    maps = _train(lens, states, recipe)
    check = read_states(lens, held_out, recipe.held_out_windows, recipe.context_tokens)
    nats = {"logit": held_out_nats(lens, None, check), recipe.kind: held_out_nats(lens, maps.folded(), check)}
    for depth, (plain, tuned) in enumerate(zip(*nats.values(), strict=True)):
        print(f"depth {depth:3d}: held-out KL {tuned:.3f} nats, logit lens {plain:.3f}", flush=True)  # noqa: T201
    facts = {"held_out_nats": nats, "recipe": _settings(recipe), "curve": maps.curve}
    save_lens(recipe.out, maps.folded(), model.identity, recipe.kind, facts)
    _checkpoint_of(recipe).unlink(missing_ok=True)


@torch.inference_mode()
def read_states(
    lens: LogitLens, texts: Sequence[str], n_texts: int, n_tokens: int
) -> Float[Tensor, "depth token residual"]:
    """Returns the states at every depth of the beginnings of the first texts that are long enough, first tokens left out.

    Raises ArgumentError when there are fewer such texts.
    """
    tokenizer: Any = lens.model.tokenizer
    lead, found = beginning(tokenizer, "auto"), []
    for text in texts:
        ids = [*lead, *encode_piece(tokenizer, text[: 12 * n_tokens], first=True).ids][:n_tokens]
        if len(ids) == n_tokens:
            found.append(lens.states(torch.tensor([ids]))[:, 0, 1:])
        if len(found) == n_texts:
            return torch.cat(found, dim=1).clone()
    raise ArgumentError(f"{len(found)} texts have {n_tokens} tokens and {n_texts} are needed: lower --windows.")


# ---------------------------------------------------------------------- training


@dataclass
class _Maps:
    """The maps while they are trained: of states over their scale, in units of the last depth's."""

    parameters: dict[str, Tensor]
    scale: Float[Tensor, " below"]
    unit: float
    curve: list[dict[str, float]]

    def translated(self, states: Float[Tensor, "below token residual"]) -> Float[Tensor, "below token residual"]:
        down, up, bias = (self.parameters[name] for name in PARTS)
        return states + self.unit * (states / self.scale[:, None, None] @ down @ up + bias[:, None])

    def folded(self) -> Translators:
        down, up, bias = (self.parameters[name].detach() for name in PARTS)
        return Translators(down / self.scale[:, None, None], self.unit * up, self.unit * bias)


def _train(lens: LogitLens, states: Float[Tensor, "depth token residual"], recipe: Recipe) -> _Maps:
    maps = _Maps(*_begin(lens, states, recipe), curve=[])
    maps.parameters = {name: part.requires_grad_() for name, part in maps.parameters.items()}
    adam = torch.optim.Adam(list(maps.parameters.values()), betas=(0.9, 0.98))
    first = _resume(maps, adam, recipe)
    for step in range(first, recipe.steps):
        for group in adam.param_groups:
            group["lr"] = recipe.learning_rate * (1 - step / recipe.steps)
        generator = np.random.default_rng([recipe.seed, step])
        tokens = torch.from_numpy(generator.choice(states.shape[1], recipe.tokens_per_step, replace=False))
        others = tokens.roll(1) if recipe.kind == "shuffled" else tokens
        with torch.no_grad():
            target = log_softmax(lens.head.logits(states[-1, others]), dim=-1)
        found = lens.head.logits(maps.translated(states[:-1, tokens].float()).to(states.dtype))
        loss = kl_div(log_softmax(found, dim=-1), target, log_target=True, reduction="none").sum(-1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        if not bool(loss.isfinite()) or not all(bool(part.isfinite().all()) for part in maps.parameters.values()):
            raise RunError(
                f"Training diverged at step {step}; the maps of step {step // CHECKPOINT_EVERY * CHECKPOINT_EVERY} are kept in "
                f"{_checkpoint_of(recipe)}: lower --learning-rate."
            )
        maps.curve.append({"step": step, "nats": float(loss.detach()), "processor_seconds": time.process_time()})
        if (step + 1) % CHECKPOINT_EVERY == 0:
            recent = np.mean([one["nats"] for one in maps.curve[-CHECKPOINT_EVERY:]])
            print(f"step {step + 1}: KL {recent:.3f} nats in training", flush=True)  # noqa: T201
            _keep(maps, adam, recipe)
    return maps


@torch.no_grad()
def _begin(
    lens: LogitLens, states: Float[Tensor, "depth token residual"], recipe: Recipe
) -> tuple[dict[str, Tensor], Float[Tensor, " below"], float]:
    """Ridge regression of what is missing to the last depth, cut to the rank in the metric that the logits give the stream."""
    last = states[-1].double()
    if recipe.kind == "shuffled":
        last = last[torch.from_numpy(np.random.default_rng(recipe.seed).permutation(len(last)))]
    root, inverse = _metric(lens)
    per_token = 1 / last.square().mean(-1, keepdim=True).sqrt()  # the final norm divides by this
    parts: dict[str, list[Tensor]] = {name: [] for name in PARTS}
    scales = states[:-1].float().square().mean((1, 2)).sqrt()
    unit = float(last.square().mean().sqrt())
    for state, scale in zip(states[:-1], scales, strict=True):
        x = torch.cat([state.double() / scale, torch.ones_like(per_token)], dim=1) * per_token
        y = (last - state.double()) / unit * per_token
        gram = x.T @ x
        ridge = 1e-2 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        map_ = torch.linalg.solve(gram + ridge, x.T @ y)
        kept = root @ map_[:-1].T @ gram[:-1, :-1] @ map_[:-1] @ root
        directions = torch.linalg.eigh(kept).eigenvectors[:, -recipe.rank :]
        down, up = map_[:-1] @ root @ directions, directions.T @ inverse
        size = (state.double() / scale @ down).std(0).clamp(min=1e-6)
        for name, part in zip(PARTS, (down / size, up * size[:, None], map_[-1]), strict=True):
            parts[name].append(part.float())
    return {name: torch.stack(part) for name, part in parts.items()}, scales, unit


def _metric(lens: LogitLens) -> tuple[Tensor, Tensor]:
    """Root and inverse root of what a step of the final residual does to the logits, each [residual, residual]."""
    head: Any = lens.head.head
    weight = head.weight.detach().double() * take_apart(lens.head.norm, head.weight.shape[1]).gain.double()
    weight = weight - weight.mean(0)  # a constant on all logits says nothing
    values, vectors = torch.linalg.eigh(weight.T @ weight)
    values = values.clamp(min=1e-4 * float(values[-1])).sqrt()
    return vectors * values @ vectors.T, vectors / values @ vectors.T


@torch.inference_mode()
def held_out_nats(
    lens: LogitLens, maps: Translators | None, states: Float[Tensor, "depth token residual"], at_once: int = 256
) -> list[float]:
    """Returns the mean KL from the model's predictions at every depth but the last, without maps that of the logit lens."""
    totals = np.zeros(len(states) - 1)
    for part in states.split(at_once, dim=1):
        target = log_softmax(lens.head.logits(part[-1]), dim=-1)
        for depth, state in enumerate(part[:-1]):
            read = state if maps is None else maps(state, depth).to(state.dtype)
            found = log_softmax(lens.head.logits(read), dim=-1)
            totals[depth] += float(kl_div(found, target, log_target=True, reduction="sum"))
    return [round(float(total) / states.shape[1], 5) for total in totals]


# ---------------------------------------------------------------------- checkpoints


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What decides the maps."""
    return {key: value for key, value in dataclasses.asdict(recipe).items() if key not in ("out", "device")}


def _checkpoint_of(recipe: Recipe) -> Path:
    return recipe.out.with_name(f"{recipe.out.name}.checkpoint")


def _keep(maps: _Maps, adam: torch.optim.Adam, recipe: Recipe) -> None:
    tensors = {name: part.detach() for name, part in maps.parameters.items()}
    for name, part in maps.parameters.items():
        tensors |= {f"{name}.{key}": torch.as_tensor(value) for key, value in adam.state[part].items()}
    about = {"recipe": json.dumps(_settings(recipe)), "curve": json.dumps(maps.curve)}
    write_aside(_checkpoint_of(recipe), lambda aside: save_file(tensors, aside, about))


def _resume(maps: _Maps, adam: torch.optim.Adam, recipe: Recipe) -> int:
    """Takes over the checkpoint, if there is one; returns the step to go on with."""
    path = _checkpoint_of(recipe)
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    if json.loads(about["recipe"]) != json.loads(json.dumps(_settings(recipe))):
        raise ArgumentError(f"{path} is the checkpoint of another recipe: delete it, or name another --out.")
    kept = load_file(path)
    for name, part in maps.parameters.items():
        part.data.copy_(kept[name])
        adam.state[part] = {
            key: kept[f"{name}.{key}"].to("cpu" if key == "step" else part.device)
            for key in ("step", "exp_avg", "exp_avg_sq")
        }
    maps.curve = json.loads(about["curve"])
    return len(maps.curve)


if __name__ == "__main__":
    import tyro

    train_lens(tyro.cli(Recipe))
