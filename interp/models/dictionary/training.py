"""Trains the dictionaries that the toolkit ships: `python -m interp.models.dictionary.training --layers 15`.

SAELens' trainer and its BatchTopK autoencoder do the work; this module adds the recipe for small budgets: vectors
without attention sinks, centred and scaled to a mean squared entry of about 1, an encoder that begins as the transpose of a unit-norm
decoder, a learning rate of 3e-3 and a mild auxiliary loss on features that stopped firing. After training one threshold
for all features is set so that the mean number of active features is the target, and centring, scaling and norms are
folded into the weights: the saved folder is a JumpReLU autoencoder that takes the plain residual stream and that
`sae_lens.SAE.load_from_disk` reads.

Stopped at any time and restarted, it resumes from the last batch of windows harvested or the last checkpoint.
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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from interp.models.dictionary.fidelity import describe
from interp.models.dictionary.windows import (
    SKIP_FIRST,
    Windows,
    cut_windows,
    deal_texts,
    harvest,
    read_harvest,
    text_name,
    tokenize,
)
from interp.models.identity import DtypeName
from interp.models.language.model import LanguageModel
from interp.tables import write_aside

TRAINING_SHARE, VALIDATION_SHARE = 0.28, 0.04
"""Shares of the articles that vectors are trained and checked on; the others are left for experiments."""
EVALUATE_EVERY, CHECKPOINT_EVERY = 25, 100
DEAD_AFTER = 30
"""Batches without firing after which the auxiliary loss works on a feature."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Size and training hyperparameters of a dictionary."""

    layers: tuple[int, ...]
    """Layers on whose output to train, one dictionary each."""
    out: Path
    """Output folder: one subfolder per layer, and the names of the training texts."""
    work: Path
    """Folder for harvested vectors and checkpoints."""
    model: str = "smollm2-135m"
    """Model to train dictionaries for: name, Hugging Face id, or folder."""
    dtype: DtypeName = "bfloat16"
    """Precision of the model's forward pass; float32 is many times faster on a CPU without bfloat16 support."""
    width: int = 4096
    """Number of features."""
    l0: int = 32
    """Mean number of active features per token."""
    context_tokens: int = 128
    """Length of the windows that are read, in tokens."""
    windows: int = 1664
    """Number of windows to harvest from the training texts."""
    samples: int = 1_638_400
    """Number of training vectors, drawn with replacement from those harvested."""
    batch: int = 2048
    """Batch size: vectors per step."""
    learning_rate: float = 3e-3
    """Learning rate after 50 warm-up steps; it decays to 0 over the last 30% of the steps."""
    auxiliary: float = 1 / 32
    """Weight of the auxiliary loss."""
    seed: int = 0
    """Seed for initial weights and batches."""


def train_all(recipe: Recipe) -> None:
    """Harvests once, then trains, checks and saves one dictionary per layer; finished ones are skipped."""
    from interp.models.loading.language import load
    from interp.stimuli.prose import news_articles

    model = load(recipe.model, dtype=recipe.dtype)
    training, validation, _ = deal_texts(news_articles(), (TRAINING_SHARE, VALIDATION_SHARE))
    windows = {"validation": _windows(model, validation, recipe), "training": _windows(model, training, recipe)}
    windows["training"] = windows["training"][slice(0, recipe.windows)]
    seen = validation + [training[index] for index in np.unique(windows["training"].document)]
    names = "".join(f"{name}\n" for name in sorted(map(text_name, seen)))
    write_aside(recipe.out / "training_texts.txt", lambda aside: aside.write_text(names, encoding="utf-8"))
    for group in ("validation", "training"):
        harvest(model, windows[group], recipe.layers, recipe.work / group)
    for layer in recipe.layers:
        folder = recipe.out / f"layer_{layer}"
        if (folder / "card.json").is_file():
            continue
        vectors, held_out = (read_harvest(recipe.work / group, layer) for group in ("training", "validation"))
        curve = train(vectors, held_out, recipe, layer, recipe.work / f"layer_{layer}", folder)
        card = describe(model, windows["validation"], vectors, held_out, folder)
        card |= {"vectors_seen": recipe.samples // recipe.batch * recipe.batch, "recipe": _settings(recipe)}
        write_aside(folder / "learning_curve.csv", lambda aside, text=curve: aside.write_text(text, encoding="utf-8"))
        text = json.dumps(card, indent=2)
        write_aside(folder / "card.json", lambda aside, text=text: aside.write_text(text, encoding="utf-8"))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What decides the weights, beside the layer."""
    return {key: value for key, value in dataclasses.asdict(recipe).items() if key not in ("out", "work", "layers")}


def _windows(model: LanguageModel, texts: Sequence[str], recipe: Recipe) -> Windows:
    return cut_windows(tokenize(model.tokenizer, texts), recipe.context_tokens, shortest=2 * SKIP_FIRST)


# ---------------------------------------------------------------------- training


def train(
    vectors: Float[Tensor, "vector residual"],
    held_out: Float[Tensor, "held_out residual"],
    recipe: Recipe,
    layer: int,
    work: Path,
    out: Path,
) -> str:
    """Trains one dictionary and saves it for use; returns its learning curve as CSV."""
    mean = _mean(vectors)
    sample = vectors[: 1 << 16].float() - mean
    scale = float(vectors.shape[1] ** 0.5 / sample.norm(dim=1).mean())
    trainer = _trainer(vectors.shape[1], recipe)
    curve = _resume(trainer, work)
    check = (held_out[:: max(1, len(held_out) // 8192)].float() - mean) * scale
    while trainer.n_training_samples + recipe.batch <= recipe.samples:
        step = trainer.n_training_steps
        rows = np.random.default_rng([recipe.seed, step]).integers(len(vectors), size=recipe.batch)
        trainer.step((vectors[torch.from_numpy(rows)].float() - mean) * scale)
        trainer.n_training_steps += 1
        _to_unit_norm(trainer.sae.W_dec)
        if (step + 1) % EVALUATE_EVERY == 0:
            curve.append(_point(trainer, check))
            print(curve[-1], flush=True)  # noqa: T201 (a training script tells how it goes)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            _checkpoint(trainer, curve, work)
    _save(trainer.sae, mean, scale, (vectors, recipe, layer), out)
    names = list(curve[0])
    return "\n".join([",".join(names), *(",".join(f"{row[name]:.6g}" for name in names) for row in curve)]) + "\n"


def _trainer(d_in: int, recipe: Recipe) -> Any:
    from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(recipe.seed)
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(
            d_in=d_in,
            d_sae=recipe.width,
            k=recipe.l0,
            apply_b_dec_to_input=False,  # the mean is subtracted already
            decoder_init_norm=1.0,
            aux_loss_coefficient=recipe.auxiliary,
            rescale_acts_by_decoder_norm=False,  # rows are kept at unit norm instead, which is a fifth faster
        )
    )
    sae.activation_fn = SampledBatchTopK(recipe.l0)
    steps = recipe.samples // recipe.batch
    return SAETrainer(
        SAETrainerConfig(
            total_training_samples=steps * recipe.batch,
            train_batch_size_samples=recipe.batch,
            lr=recipe.learning_rate,
            lr_end=recipe.learning_rate / 10,
            lr_warm_up_steps=min(50, steps // 4),
            lr_decay_steps=int(0.3 * steps),
            autocast=True,
            dead_feature_window=DEAD_AFTER,
        ),
        sae,
        data_provider=iter(()),  # batches are handed to `step` one by one
    )


class SampledBatchTopK(nn.Module):
    """BatchTopK (Bussmann et al. 2024, arXiv:2412.06410) with its cut estimated from every seventh entry of the batch.

    The exact cut sorts eight million numbers, a third of a step; this one keeps k features per vector to within a few per
    cent. 7 divides no width, so every feature is looked at.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, pre: Float[Tensor, "vector feature"]) -> Float[Tensor, "vector feature"]:
        """Returns the activations above the cut, 0 elsewhere."""
        sample = pre.detach().flatten()[::7]
        cut = sample.topk(int(self.k * len(pre) / 7)).values[-1].clamp(min=0)
        return pre * (pre > cut)


def _mean(vectors: Float[Tensor, "vector residual"]) -> Float[Tensor, " residual"]:
    total = sum(part.double().sum(dim=0) for part in vectors.split(1 << 16))
    assert isinstance(total, Tensor)
    return (total / len(vectors)).float()


@torch.no_grad()
def _to_unit_norm(rows: Float[Tensor, "feature residual"]) -> None:
    rows /= rows.norm(dim=1, keepdim=True)


def _point(trainer: Any, check: Float[Tensor, "vector residual"]) -> dict[str, float]:
    """One point of the learning curve, on held-out vectors (top activations of each batch, as in training)."""
    with torch.no_grad():
        active = trainer.sae.encode(check)
        error = (trainer.sae.decode(active) - check).pow(2).sum()
    return {
        "step": float(trainer.n_training_steps),
        "samples": float(trainer.n_training_samples),
        "explained_variance": float(1 - error / (check - check.mean(dim=0)).pow(2).sum()),
        "resting_share": float(trainer.dead_neurons.float().mean()),
        "processor_seconds": time.process_time(),
    }


def _checkpoint(trainer: Any, curve: list[dict[str, float]], work: Path) -> None:
    """Keeps two checkpoints in turn: one of them is whole whenever the process is killed."""
    name = f"checkpoint_{trainer.n_training_steps // CHECKPOINT_EVERY % 2}"
    trainer.save_checkpoint(name, base_path=work)
    latest = json.dumps({"checkpoint": name, "curve": curve})
    write_aside(work / "latest.json", lambda aside: aside.write_text(latest, encoding="utf-8"))


def _resume(trainer: Any, work: Path) -> list[dict[str, float]]:
    latest = work / "latest.json"
    if not latest.is_file():
        return []
    kept = json.loads(latest.read_text(encoding="utf-8"))
    trainer.sae.load_weights_from_checkpoint(work / kept["checkpoint"])
    trainer.load_trainer_state(work / kept["checkpoint"])
    return kept["curve"]


# ---------------------------------------------------------------------- saving


@torch.no_grad()
def _save(sae: Any, mean: Tensor, scale: float, source: tuple[Tensor, Recipe, int], folder: Path) -> None:
    """Sets the threshold, folds centring and scaling into the weights, and saves float16 weights for use."""
    from sae_lens.constants import SAE_CFG_FILENAME, SAE_WEIGHTS_FILENAME

    vectors, recipe, layer = source
    sample = torch.from_numpy(np.random.default_rng(recipe.seed).integers(len(vectors), size=1 << 15))
    pre = [((vectors[rows].float() - mean) * scale) for rows in sample.split(recipe.batch)]
    sae.topk_threshold = torch.tensor(common_threshold(sae, pre, recipe.l0), dtype=torch.double)
    eye = torch.eye(len(mean))
    sae.fold_activation_whitening(mean, scale * eye, eye / scale)
    sae.cfg.metadata.model_name = recipe.model
    sae.cfg.metadata.hook_name = f"blocks.{layer}.hook_resid_post"
    sae.cfg.metadata.context_size = recipe.context_tokens
    sae.cfg.metadata.prepend_bos = False
    sae.save_inference_model(folder)
    weights = {name: tensor.half() for name, tensor in load_file(folder / SAE_WEIGHTS_FILENAME).items()}
    write_aside(folder / SAE_WEIGHTS_FILENAME, lambda aside: save_file(weights, aside))
    configuration = json.loads((folder / SAE_CFG_FILENAME).read_text(encoding="utf-8"))
    text = json.dumps(configuration, indent=2)
    write_aside(folder / SAE_CFG_FILENAME, lambda aside: aside.write_text(text, encoding="utf-8"))


def common_threshold(sae: Any, batches: Sequence[Float[Tensor, "vector residual"]], l0: int) -> float:
    """Returns the threshold above which `l0` features are active at a vector on average."""
    highest = []
    for batch in batches:
        _, pre = sae.encode_with_hidden_pre(batch)
        highest.append(pre.flatten().topk(2 * l0 * len(batch)).values)
    n = sum(len(batch) for batch in batches)
    return float(torch.cat(highest).sort(descending=True).values[l0 * n])


if __name__ == "__main__":
    import tyro

    train_all(tyro.cli(Recipe))
