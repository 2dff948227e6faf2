"""Trains one of the small news models: `python -m training.train lstm-news --out FOLDER`.

If interrupted, run it again: it resumes from its last checkpoint, so a kill loses at most `checkpoint_steps` steps, and the
final weights equal those of an uninterrupted run.
"""

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM

from training.corpus import cut_windows, pad_windows, plan_batches, split_articles, train_tokenizer
from training.loss import mean_nats
from training.recipe import SIZES, Recipe, architecture
from training.shipping import ship

CHECKPOINT = "checkpoint.safetensors"
CURVE_WINDOWS = 40
"""Held-out windows that the learning curve is measured on."""


@dataclass
class Progress:
    """How far a training run has come."""

    step: int = 0
    tokens: int = 0
    """Targets the loss was taken over, all epochs together."""
    cpu_seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def train(
    model: Any,
    windows: Sequence[list[int]],
    held_out: Sequence[list[int]],
    recipe: Recipe,
    folder: Path,
    *,
    stop_after: int | None = None,
    look: Callable[[int, Any], None] = lambda step, model: None,
) -> Progress:
    """Trains the model in place, from the folder's checkpoint if there is one; returns how far it came.

    `stop_after` ends the run after that step, as a kill would. `look` is shown the model before the first step and after
    every one, and must leave it as it is.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    progress = restore(folder / CHECKPOINT, model, optimizer)
    batches = all_batches([len(window) for window in windows], recipe)
    schedule = partial(learning_rate, recipe=recipe, steps=len(batches))
    losses: list[float] = []
    began = time.process_time() - progress.cpu_seconds
    look(progress.step, model)
    for batch in tqdm(batches[progress.step : stop_after], initial=progress.step, total=len(batches), disable=None):
        for group in optimizer.param_groups:
            group["lr"] = schedule(progress.step)
        inputs, targets = pad_windows([windows[window] for window in batch])
        losses.append(take_step(model, optimizer, inputs, targets, recipe.clip_norm))
        progress.step += 1
        progress.tokens += int((targets != -100).sum())
        if progress.step % recipe.checkpoint_steps == 0 or progress.step == len(batches):
            progress.curve.append(
                {
                    "step": progress.step,
                    "tokens": progress.tokens,
                    "learning_rate": schedule(progress.step - 1),
                    "train_nats": float(np.mean(losses)),
                    "held_out_nats": mean_nats(model, held_out, recipe.batch_tokens)[0],
                }
            )
            losses.clear()
            progress.cpu_seconds = time.process_time() - began
            tqdm.write(json.dumps({**progress.curve[-1], "cpu_seconds": round(progress.cpu_seconds)}))
            keep(folder / CHECKPOINT, model, optimizer, progress)
        look(progress.step, model)
    return progress


def take_step(model: Any, optimizer: Any, inputs: torch.Tensor, targets: torch.Tensor, clip_norm: float) -> float:
    """One step of the optimiser; returns the mean loss over the batch's targets, in nats."""
    model.train()
    kind = inputs.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=computes_in_bfloat16(kind)):
        logits = model(input_ids=inputs, use_cache=False).logits
    loss = cross_entropy(logits.float().flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return loss.item()


def computes_in_bfloat16(device_type: str) -> bool:
    """Whether a kind of device has kernels for bfloat16: some processors have none for recurrent layers, and torch refuses."""
    return device_type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def all_batches(lengths: Sequence[int], recipe: Recipe) -> list[list[int]]:
    """Returns the batches of all epochs, a function of the lengths and the seed alone."""
    epochs = (np.random.default_rng((recipe.seed, epoch)) for epoch in range(recipe.epochs))
    return [batch for rng in epochs for batch in plan_batches(lengths, recipe.batch_tokens, rng)]


def learning_rate(step: int, recipe: Recipe, steps: int) -> float:
    """Returns the learning rate of a step: a linear rise, then half a cosine down to zero."""
    rise = max(1, round(recipe.warm_up * steps))
    if step < rise:
        return recipe.learning_rate * (step + 1) / rise
    return recipe.learning_rate * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise))) / 2


def keep(path: Path, model: Any, optimizer: Any, progress: Progress) -> None:
    """Writes a checkpoint aside and renames it: there is a whole one at every moment."""
    tensors = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        tensors |= {name: parameter.detach(), f"first/{name}": state["exp_avg"], f"second/{name}": state["exp_avg_sq"]}
    aside = path.with_suffix(".aside")
    save_file(tensors, aside, metadata={"progress": json.dumps(asdict(progress))})
    os.replace(aside, path)


@torch.no_grad()
def restore(path: Path, model: Any, optimizer: Any) -> Progress:
    """Puts a checkpoint's weights and moments in place; returns how far it had come, or a beginning without one."""
    if not path.is_file():
        return Progress()
    with safe_open(path, framework="pt") as kept:
        progress = Progress(**json.loads(kept.metadata()["progress"]))
        for name, parameter in model.named_parameters():
            parameter.copy_(kept.get_tensor(name))
            optimizer.state[parameter] = {
                "step": torch.tensor(float(progress.step)),
                "exp_avg": kept.get_tensor(f"first/{name}"),
                "exp_avg_sq": kept.get_tensor(f"second/{name}"),
            }
    return progress


def main() -> None:
    """Trains the model named on the command line and leaves it, with its card, in the folder given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SIZES)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and finished models")
    parser.add_argument(
        "--snapshots",
        type=int,
        nargs="*",
        default=(0, 50, 100, 200, 400, 800),
        help="steps whose weights are kept as NAME-training/stepN (with no number behind it: none)",
    )
    arguments = parser.parse_args()
    recipe = Recipe()
    texts, held_out = split_articles()
    tokenizer = train_tokenizer(texts, recipe.vocab_size, falls_back=arguments.name.startswith("fallback"))
    windows = cut_windows(tokenizer, texts, recipe.window_tokens)
    curve_windows = cut_windows(tokenizer, held_out, recipe.window_tokens)[:CURVE_WINDOWS]
    torch.manual_seed(recipe.seed)
    model = AutoModelForCausalLM.from_config(architecture(arguments.name, recipe))
    workplace = arguments.out / f"{arguments.name}-training"
    workplace.mkdir(parents=True, exist_ok=True)

    def snapshot(step: int, model: Any) -> None:
        if step in arguments.snapshots:
            copy.deepcopy(model).half().save_pretrained(workplace / f"step{step}")
            tokenizer.save_pretrained(workplace / f"step{step}")

    progress = train(model, windows, curve_windows, recipe, workplace, look=snapshot)
    seen = {
        "train_articles": len(texts),
        "train_tokens": sum(len(window) - 1 for window in windows),
        "tokens_seen": progress.tokens,
        "steps": progress.step,
        "cpu_seconds": round(progress.cpu_seconds),
    }
    ship(arguments.out / arguments.name, model, tokenizer, recipe, seen, progress.curve, held_out)


if __name__ == "__main__":
    main()
