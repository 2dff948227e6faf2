"""Fidelity of a dictionary: active features, variance explained, cross-entropy recovered.

The card of every shipped dictionary has these figures.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import RunError
from interp.models.dictionary.dictionary import Dictionary
from interp.models.dictionary.windows import MASSIVE, SKIP_FIRST, Windows
from interp.models.language.kept_logits import check_numbers
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import changed_residuals, read_residuals

ROWS_AT_ONCE = 1024
L0_TOLERANCE = 0.25
"""A measured L0 may differ by this share from the published one: corpora differ, mistakes of scale are far larger."""
VARIANCE_TOLERANCE = 0.1
"""Measured unexplained variance may be this much above the published one."""
LOSS_WINDOWS = 128
"""Windows whose loss is measured with the residual stream reconstructed."""


class Fidelity(NamedTuple):
    """Measured on some vectors. Explained variance: 1 − Σ|x − x̂|² / Σ|x − mean|²."""

    l0: float
    explained_variance: float
    dead_share: float
    """Features never active at these vectors."""
    n_vectors: int


def explained(dictionary: Dictionary, vectors: Float[Tensor, "vector residual"]) -> Fidelity:
    """Returns the fidelity of a dictionary on these vectors, in the form it takes them (Dictionary.take)."""
    vectors = dictionary.take(vectors).cpu()
    mean = vectors.double().mean(dim=0).float()
    active, error, variance = 0, 0.0, 0.0
    fired = torch.zeros(dictionary.n_features, dtype=torch.bool)
    for part in vectors.split(ROWS_AT_ONCE):
        activations = dictionary.encode(part)
        active += int((activations > 0).sum())
        fired |= (activations > 0).any(dim=0).cpu()
        error += float((dictionary.decode(activations).cpu() - part).double().pow(2).sum())
        variance += float((part - mean).double().pow(2).sum())
    share = 1 - error / variance if variance else float("nan")
    return Fidelity(active / len(vectors), share, float(1 - fired.float().mean()), len(vectors))


def refuse_mismatch(
    dictionary: Dictionary,
    measured: Fidelity,
    expected_l0: float | None = None,
    expected_explained_variance: float | None = None,
) -> None:
    """Raises RunError if a dictionary's fidelity on these vectors is not what its authors published.

    A wrong layer, a wrong model, a forgotten scaling or centring of the input shows here, before any number is made from it.
    A top-k dictionary has its k features active whatever it reads: for one, explained variance must be known. Where none is
    published, it must at least be above that of the mean.
    """
    if measured.l0 == 0:
        raise RunError(
            f"No feature of {dictionary.name} was active at any of {measured.n_vectors} positions: its weights are dead or it belongs "
            "to another model; name another --dictionary."
        )
    l0 = expected_l0 or dictionary.published_l0
    if l0 is None:
        raise RunError(
            f"No L0 is published for {dictionary.name}, so it cannot be checked (measured: {measured.l0:.1f} active features, "
            f"{1 - measured.explained_variance:.3f} of the variance unexplained): give --expected-l0 from its paper or card."
        )
    if abs(measured.l0 / l0 - 1) > L0_TOLERANCE:
        raise RunError(
            f"{dictionary.name} should have {l0:.1f} active features per position but has {measured.l0:.1f} here: it belongs to "
            "another model, layer or scaling of the input; check --model and --dictionary."
        )
    published = (
        dictionary.published_explained_variance if expected_explained_variance is None else expected_explained_variance
    )
    unexplained = f"{1 - measured.explained_variance:.3f}"
    if published is None and dictionary.architecture == "topk":
        raise RunError(
            f"{dictionary.name} has its {l0:.0f} active features per position whatever it reads, and no explained variance is published "
            f"for it, so it cannot be checked (measured: {unexplained} of the variance unexplained): give "
            "--expected-explained-variance from its paper or card."
        )
    if published is None and not measured.explained_variance > 0:
        raise RunError(
            f"{dictionary.name} leaves {unexplained} of the variance unexplained here, more than the mean alone would: it belongs to "
            "another model, layer or scaling of the input; check --model and --dictionary."
        )
    if published is not None and not measured.explained_variance >= published - VARIANCE_TOLERANCE:
        raise RunError(
            f"{dictionary.name} should leave {1 - published:.3f} of the variance unexplained but leaves {unexplained} here: it "
            "belongs to another model, layer or scaling of the input; check --model and --dictionary."
        )


def cross_entropy_recovered(
    model: LanguageModel, dictionary: Dictionary, windows: Windows, layer: int, *, skip_first: int, rows: int = 8
) -> dict[str, float]:
    """Returns mean next-token losses in nats with the layer's residual stream as it is, reconstructed, its mean, or zero.

    The stream is replaced at the positions from `skip_first` on, which are those that predictions are scored at.
    Recovered: (loss when replaced by zero − loss when reconstructed) / (loss when replaced by zero − loss as it is).
    """
    means = _mean_stream(model, windows, layer, skip_first, rows)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "reconstructed": lambda x: dictionary.decode(dictionary.encode(x)).to(x),
        "mean": lambda x: means.to(x).expand_as(x),
        "zero": torch.zeros_like,
    }
    losses = {"as_it_is": _loss(model, windows.batches(rows), skip_first)}
    for name, change in changes.items():

        def replace(x: Tensor, change: Callable[[Tensor], Tensor] = change) -> Tensor:
            return torch.cat([x[:, :skip_first], change(x[:, skip_first:])], dim=1)

        with changed_residuals(model, layer, replace):
            losses[name] = _loss(model, windows.batches(rows), skip_first)
    gap = losses["zero"] - losses["as_it_is"]
    mean_gap = losses["mean"] - losses["as_it_is"]
    return {
        **{f"loss_{name}_nats": loss for name, loss in losses.items()},
        "cross_entropy_recovered": (losses["zero"] - losses["reconstructed"]) / gap,
        "cross_entropy_recovered_over_mean": (losses["mean"] - losses["reconstructed"]) / mean_gap,
    }


@torch.inference_mode()
def _loss(model: LanguageModel, batches: Iterable[Windows], skip_first: int) -> float:
    total, n = 0.0, 0
    for batch in batches:
        logits = model.hf(input_ids=batch.ids.to(model.device), use_cache=False).logits[:, :-1].float()
        scored: Bool[Tensor, "row token"] = batch.present(skip_first)[:, :-1] & batch.present()[:, 1:]
        check_numbers(model, logits, scored)
        targets = batch.ids[:, 1:].to(logits.device)
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").cpu()
        total += float(losses[scored].double().sum())
        n += int(scored.sum())
    return total / n


def _mean_stream(model: LanguageModel, windows: Windows, layer: int, skip_first: int, rows: int) -> Tensor:
    total, n = None, 0
    for batch in windows.batches(rows):
        vectors = read_residuals(model, batch.ids, [layer])[layer].cpu()[batch.present(skip_first)].double()
        total = vectors.sum(dim=0) if total is None else total + vectors.sum(dim=0)
        n += len(vectors)
    assert total is not None
    return (total / n).float()


def describe(
    model: LanguageModel,
    windows: Windows,
    vectors: Float[Tensor, "vector residual"],
    held_out: Float[Tensor, "held_out residual"],
    folder: Path,
) -> dict[str, Any]:
    """Returns the card of a saved dictionary, measured on the saved weights.

    `vectors` it was trained on (dead features are those never active there); `held_out` ones and `windows` it was not.
    """
    dictionary = Dictionary.from_folder(folder)
    measured = explained(dictionary, held_out)
    fired = torch.zeros(dictionary.n_features, dtype=torch.bool)
    for part in vectors.split(4096):
        fired |= (dictionary.encode(part.float()) > 0).any(dim=0).cpu()
    norms = torch.cat([part.float().norm(dim=1) for part in vectors.split(1 << 16)])
    checked = windows[slice(0, LOSS_WINDOWS)]
    return {
        "model": dictionary.model_name,
        "model_revision": model.identity.revision,
        "hook_name": dictionary.hook_name,
        "layer": dictionary.layer,
        "width": dictionary.n_features,
        "texts": "news articles of interp.stimuli.prose; the names of those used are in ../training_texts.txt",
        "vectors_harvested": len(vectors),
        "vectors_held_out": len(held_out),
        "l0": measured.l0,
        "explained_variance": measured.explained_variance,
        "dead_share": float(1 - fired.float().mean()),
        "dead_means": f"never active at any of the {len(vectors)} vectors it was trained on",
        **cross_entropy_recovered(model, dictionary, checked, dictionary.layer, skip_first=SKIP_FIRST),
        "median_norm": float(norms.median()),
        "left_out": f"the first {SKIP_FIRST} positions of a window and vectors longer than {MASSIVE:g} median norms",
        "harvest_dtype": model.identity.dtype,
    }
