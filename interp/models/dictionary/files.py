"""Reads folders of dictionaries through SAELens: its own format, sparsify's, and Gemma Scope's arrays."""

import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from interp.errors import ArgumentError, RunError
from interp.models.dictionary.config import check_config, check_scale, check_sparsify

UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    zipfile.BadZipFile,
)
"""What comes of a configuration in which anything may stand: SAELens looks at it no closer than Python does."""
_GEMMA_SCOPE = re.compile(r"gemma-scope-(?:2b|9b|27b)-(?:pt|it)-\w+")


def read_folder(folder: Path, device: str) -> Any:
    """Returns the SAELens autoencoder that a folder holds, in float32, its input scaling folded into its weights.

    Raises RunError when the folder cannot be read, ArgumentError when its configuration says what cannot be applied.
    """
    from safetensors import SafetensorError

    if not (folder / "cfg.json").is_file() and not (folder / "params.npz").is_file():
        refuse_pickles(folder)
    try:
        if (folder / "params.npz").is_file() and not (folder / "sae_weights.safetensors").is_file():
            return _read_gemma_scope(folder, device)
        if (folder / "sae.safetensors").is_file() and not (folder / "sae_weights.safetensors").is_file():
            return _read_sparsify(folder, device)
        return _read_saelens(folder, device)
    except (*UNREADABLE, SafetensorError) as error:
        raise RunError(
            f"The dictionary in {folder} cannot be read ({type(error).__name__}: {first_line(error)}): save it there again with "
            "SAELens' save_model, or save_inference_model for one that was just trained."
        ) from error


def refuse_pickles(folder: Path) -> None:
    """Raises ArgumentError if a folder's weights are pickled, like dictionary_learning's ae.pt."""
    pickled = sorted(file.name for file in folder.iterdir() if file.suffix in (".pt", ".pth", ".bin", ".pkl"))
    if pickled:
        raise ArgumentError(
            f"{folder / pickled[0]} is a pickle, which can run any program when it is read: where you trust it, read it with "
            "torch.load(…, weights_only=True), put its tensors into SAELens' class and save them with save_model, as "
            "docs/adding_a_dictionary.md shows."
        )


@contextmanager
def saelens_quiet() -> Iterator[None]:
    """Silences SAELens' warnings about loading the model and about unknown scales: what is wrong is refused here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*model_from_pretrained_kwargs", UserWarning)
        warnings.filterwarnings("ignore", "norm_scaling_factor not found", UserWarning)
        warnings.filterwarnings("ignore", r"(?s).*does not (?:know|recognize)", UserWarning)
        yield


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _read_saelens(folder: Path, device: str) -> Any:
    from sae_lens import SAE

    config = _read_object(folder / "cfg.json")
    check_config(config, str(folder))
    with saelens_quiet():
        sae = SAE.load_from_disk(folder, device=device, dtype="float32")
    _check_k(sae, config, str(folder))
    for name in _TRAINING:  # what stands beside the metadata instead of in it is heard too
        if config.get(name) is not None:
            sae.cfg.metadata[name] = config[name]
    _fold_scale(sae, folder)
    check_scale(sae.cfg.normalize_activations, str(folder))
    return sae


_TRAINING = (
    "prepend_bos",
    "context_size",
    "seqpos_slice",
    "exclude_special_tokens",
    "hf_hook_name",
    "model_from_pretrained_kwargs",
)


def _check_k(sae: Any, config: Mapping[str, Any], name: str) -> None:
    """Raises ArgumentError unless what was loaded keeps as many features as the configuration says, or all as it says nothing."""
    named, kept = _named_k(config, name), sae.cfg.k if sae.cfg.architecture() == "topk" else None
    if named == ({kept} if kept is not None else set()) and (type(kept) is int or sae.cfg.architecture() != "topk"):
        return
    said = f"k: {', '.join(map(str, sorted(named)))}" if named else "no k"
    does = (
        f"keeps the {kept} largest features"
        if kept is not None
        else f"reads it as {sae.cfg.architecture()}, which keeps all features"
    )
    raise ArgumentError(
        f"{name} says {said} in its configuration, and SAELens {does}: write k beside architecture: topk, where SAELens reads it."
    )


def _named_k(config: Mapping[str, Any], name: str) -> set[int]:
    """The numbers of acting features that a configuration names, wherever it does.

    Raises ArgumentError for one that is no whole number.
    """
    places = (config, config.get("activation_fn_kwargs") or {}, config.get("metadata") or {})
    found = {repr(place["k"]): place["k"] for place in places if place.get("k") is not None}
    for k in found.values():
        if type(k) is not int:
            raise ArgumentError(
                f"{name} says k: {k!r} in its configuration, which is the number of features that act: write a whole number."
            )
    return set(found.values())


def _fold_scale(sae: Any, folder: Path) -> None:
    """Folds what a training run scaled its input by into the weights, by SAELens' own arithmetic."""
    from sae_lens.training.activation_scaler import ActivationScaler

    file = folder / "activation_scaler.json"
    if not file.is_file():
        return
    scaler, kind = ActivationScaler(), sae.cfg.normalize_activations
    scaler.load(file)
    scale, whitening = scaler.scaling_factor, scaler.whitening
    if scale is not None:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise ValueError(f"scaling_factor in activation_scaler.json is {scale}")
        if kind != "expected_average_only_in":
            raise ArgumentError(_contradiction(folder, "scaling_factor", kind))
        sae.fold_activation_norm_scaling_factor(float(scale))
    if whitening is not None:
        if kind != "covariance_whitening":
            raise ArgumentError(_contradiction(folder, "has_whitening", kind))
        sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)


def _contradiction(folder: Path, field: str, kind: str) -> str:
    return (
        f"{folder} says normalize_activations: {kind} in its configuration, and activation_scaler.json beside it holds "
        f"{field}: delete that file if the scale is folded into the weights already, or put the right normalize_activations."
    )


def _read_sparsify(folder: Path, device: str) -> Any:
    """Encodes as sparsify does: top k of relu(W (x − b_dec) + b_enc), the decoder's bias subtracted whatever the norm of its rows.

    SAELens' own reader of these folders (6.54) keeps b_dec in the input when the decoder was normalised, and turns the
    decoder round; so only its reading of the layer and the model is used.
    """
    from sae_lens.loading.pretrained_sae_loaders import get_sparsify_config_from_disk
    from safetensors.torch import load_file

    written = _read_object(folder / "cfg.json")
    check_sparsify(written, str(folder))
    tensors = load_file(folder / "sae.safetensors", device=device)
    state = {
        "W_enc": tensors["encoder.weight"].T,
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["W_dec"] if "W_dec" in tensors else tensors["decoder.weight"].T,
        "b_dec": tensors["b_dec"],
    }
    if unknown := set(tensors) - {"encoder.weight", "encoder.bias", "W_dec", "decoder.weight", "b_dec"}:
        raise ValueError(f"sae.safetensors holds {min(unknown)}, which sparsify's autoencoders do not have")
    if (
        re.fullmatch(
            r"(?:(?:model|language_model|transformer|gpt_neox|decoder)[._])*layers[._]\d+", folder.absolute().name
        )
        is None
    ):
        raise ArgumentError(
            f"{folder} is a folder of sparsify's, but its name does not end with the layer: call it layers.L, as sparsify does."
        )
    config = get_sparsify_config_from_disk(folder.absolute(), device)
    config |= {
        "architecture": "topk",
        "k": written["k"],
        "d_in": int(state["W_enc"].shape[0]),
        "d_sae": int(state["W_enc"].shape[1]),
        "apply_b_dec_to_input": True,
        "dtype": "float32",
    }
    del config["activation_fn_str"], config["activation_fn_kwargs"]
    config["prepend_bos"] = None  # sparsify leaves the beginning of a window to the tokenizer
    return _made(config, state, str(folder))


def _read_gemma_scope(folder: Path, device: str) -> Any:
    """The arrays of Gemma Scope have no configuration: the layer and the model are in the names of the folders."""
    import numpy as np
    from sae_lens.loading.pretrained_sae_loaders import get_gemma_2_config_from_hf

    parts = folder.absolute().parts
    if other := next((part for part in parts if part in ("mlp", "att", "transcoder")), None):
        raise ArgumentError(
            f"{folder} lies in a folder {other}: only Gemma Scope's dictionaries of the residual stream can be read (folder res)."
        )
    layers = [match[1] for part in parts if (match := re.fullmatch(r"layer_(\d+)", part))]
    if not layers:
        raise ArgumentError(
            f"{folder} holds arrays of Gemma Scope, but no folder on the way to them says of which layer: keep the names of the "
            "release, layer_L/width_…/average_l0_….",
        )
    with np.load(folder / "params.npz", allow_pickle=False) as arrays:
        state = {
            ("W_" + name[2:] if name.startswith("w_") else name): torch.from_numpy(arrays[name]).float().to(device)
            for name in arrays
        }
    if set(state) != {"W_enc", "W_dec", "b_enc", "b_dec", "threshold"}:
        raise ValueError(f"params.npz holds {', '.join(sorted(state))}")
    releases = [match[0] for part in parts if (match := _GEMMA_SCOPE.search(part))]
    release = releases[-1] if releases else "gemma-scope-2b-pt-res"
    config = get_gemma_2_config_from_hf(release, f"layer_{layers[-1]}", device)
    if not releases:
        config["model_name"] = None  # nothing tells it: widths and layers are checked, and the published L0
    config |= {"d_in": int(state["W_enc"].shape[0]), "d_sae": int(state["W_enc"].shape[1])}
    return _made(config, state, str(folder))


def _made(config: dict[str, Any], state: dict[str, torch.Tensor], name: str) -> Any:
    """Returns SAELens' autoencoder of a configuration and tensors, through the same checks as a folder of its own."""
    from sae_lens import SAE

    check_config({key: value for key, value in config.items() if value is not None}, name)
    state = {key: tensor.float().contiguous() for key, tensor in state.items()}
    with saelens_quiet():
        sae = SAE.load_from_disk(name, converter=lambda *_args, **_options: (config, state), dtype="float32")
    check_scale(sae.cfg.normalize_activations, name)
    return sae


def _read_object(file: Path) -> Mapping[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is not an object")
    return content
