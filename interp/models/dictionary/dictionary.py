"""Sparse dictionaries of a residual stream, over SAELens: shipped with the toolkit, from a folder, or a public release.

A dictionary is used as its release says: its hook, its input scaling and subtraction, its own activation function. sae_lens
takes seconds to import, so it is imported when a dictionary is loaded and not before.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ArgumentError, RunError, did_you_mean
from interp.models.dictionary.config import check_config, check_scale, layer_of
from interp.models.dictionary.features import CHUNK_FEATURES, Events, active_features
from interp.models.dictionary.files import UNREADABLE, first_line, read_folder, saelens_quiet
from interp.models.dictionary.windows import Training, training_of
from interp.models.language.model import LanguageModel
from interp.models.language.residuals import mean_is_unread

SHIPPED = Path(__file__).parents[1] / "dictionaries"
"""Folder of the dictionaries that come with the toolkit: <model>/layer_<L>."""


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A sparse autoencoder of one layer's residual stream, with what its makers published about it."""

    sae: Any
    name: str
    hook_name: str
    model_name: str | None
    """The model it was trained on, as its makers call it."""
    published_l0: float | None = None
    published_explained_variance: float | None = None
    neuronpedia_id: str | None = None
    card: dict[str, Any] = field(default_factory=dict)
    """What else is known of it (shipped dictionaries: card.json)."""
    training: Training = field(default_factory=Training)
    """How texts were read when it was trained."""

    @classmethod
    def load(cls, name: str, *, device: str = "cpu") -> "Dictionary":
        """Returns the dictionary of that name: a folder, or RELEASE:ID of a SAELens release.

        Raises UserError when it does not exist, cannot be read or cannot be fetched.
        """
        path = Path(name)
        if path.is_dir():
            return cls.from_folder(path, device=device)
        if path.exists() or path.is_symlink():
            what = "a link to nothing" if path.is_symlink() and not path.exists() else "not a folder"
            raise ArgumentError(f"{name} is {what}: give the folder that holds cfg.json and sae_weights.safetensors.")
        release, colon, sae_id = name.partition(":")
        if not colon:
            raise ArgumentError(
                f"There is no folder {name}: give a folder that holds cfg.json and sae_weights.safetensors, or RELEASE:ID of a "
                "SAELens release (gemma-scope-2b-pt-res:layer_12/width_16k/average_l0_82)."
            )
        return cls.from_release(release, sae_id, device=device)

    @classmethod
    def from_folder(cls, folder: str | Path, *, device: str = "cpu") -> "Dictionary":
        """Returns the dictionary saved in a folder by SAELens, by sparsify or by Gemma Scope; a card.json beside it tells its
        published figures.

        Raises RunError when the folder cannot be read, ArgumentError when it does not say which hook it belongs to, or when
        its configuration says what cannot be applied.
        """
        folder = Path(folder)
        sae = read_folder(folder, device)
        try:
            card = _read_card(folder / "card.json")
            for name in ("hook_name", "hf_hook_name", "model_name", "neuronpedia_id"):
                if not isinstance(getattr(sae.cfg.metadata, name), str | None):
                    raise ValueError(f"{name} in cfg.json is not a text")
        except UNREADABLE as error:
            raise RunError(
                f"The dictionary in {folder} cannot be read ({type(error).__name__}: {first_line(error)}): save it there again with "
                "SAELens' save_model, or save_inference_model for one that was just trained."
            ) from error
        own = cls._of(sae, "/".join(folder.absolute().parts[-2:]), str(folder))
        in_name = re.search(r"average_l0_(\d+)", folder.absolute().name)
        return replace(
            own,
            published_l0=float(in_name[1]) if in_name and "l0" not in card else _number(card, "l0"),
            published_explained_variance=_number(card, "explained_variance"),
            neuronpedia_id=sae.cfg.metadata.neuronpedia_id,
            card=card,
        )

    @classmethod
    def _of(cls, sae: Any, name: str, place: str) -> "Dictionary":
        """The dictionary of a loaded autoencoder, without what is published; `place` names it in errors."""
        metadata = sae.cfg.metadata
        hook = metadata.hook_name or metadata.hf_hook_name
        layer = layer_of(hook, place)
        if metadata.hook_name and metadata.hf_hook_name and layer_of(metadata.hf_hook_name, place) != layer:
            raise ArgumentError(
                f"{place} says hook_name: {hook} and hf_hook_name: {metadata.hf_hook_name} in its configuration, which are not the "
                "same place; name another --dictionary."
            )
        training = training_of(metadata.to_dict(), place)
        return cls(sae=sae, name=name, hook_name=hook, model_name=metadata.model_name, training=training)

    @classmethod
    def from_release(cls, release: str, sae_id: str, *, device: str = "cpu") -> "Dictionary":
        """Returns a dictionary of a SAELens release, fetched from its hub on the first call.

        Raises ArgumentError for an unknown release or id, RunError when the hub cannot be reached.
        """
        from sae_lens import SAE
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

        directory = get_pretrained_saes_directory()
        if release not in directory:
            raise ArgumentError(f"SAELens knows no release {release}.{did_you_mean(release, list(directory))}")
        known = directory[release]
        if sae_id not in known.saes_map:
            raise ArgumentError(f"{release} has no dictionary {sae_id}.{did_you_mean(sae_id, list(known.saes_map))}")
        name = f"{release}:{sae_id}"
        try:
            with saelens_quiet():
                sae = SAE.from_pretrained(release, sae_id, device=device, dtype="float32")
        except (OSError, ValueError, RuntimeError) as error:  # no network, no permission, a damaged download
            raise RunError(
                f"{name} cannot be fetched ({first_line(error)}): connect this machine to its hub ({known.repo_id}), or "
                "give --dictionary a folder written elsewhere by SAELens' save_model."
            ) from error
        check_config(sae.cfg.to_dict(), name)
        check_scale(sae.cfg.normalize_activations, name)
        l0_in_id = re.search(r"average_l0_(\d+)", sae_id)
        return replace(
            cls._of(sae, name, name),
            model_name=sae.cfg.metadata.model_name or known.model,
            published_l0=float(l0_in_id[1]) if l0_in_id else known.expected_l0.get(sae_id) or None,
            published_explained_variance=_unless_unknown(known.expected_var_explained.get(sae_id)),
            neuronpedia_id=known.neuronpedia_id.get(sae_id),
        )

    # ------------------------------------------------------------------ what it is

    @property
    def layer(self) -> int:
        """The layer after which the residual stream is read (hook_resid_pre of a layer is what the layer before left)."""
        return layer_of(self.hook_name, self.name)

    @property
    def n_features(self) -> int:
        """Width."""
        return int(self.sae.cfg.d_sae)

    @property
    def architecture(self) -> str:
        """SAELens' name for its kind: standard, jumprelu, topk, …."""
        return self.sae.cfg.architecture()

    def check_fits(self, model: LanguageModel, *, other_model: bool = False) -> None:
        """Raises ArgumentError when it was trained on another model or on a layer the model does not have.

        `other_model` allows another name (a fine-tuned copy), never another width of the residual stream.
        """
        width = model.hf.config.get_text_config(decoder=True).hidden_size
        identity = model.identity
        if self.sae.cfg.d_in != width:
            raise ArgumentError(
                f"{self.name} takes vectors of {self.sae.cfg.d_in} numbers but the residual stream of {identity.name} has {width}: "
                f"it was trained on {self.model_name or 'another model'}; name a dictionary of {identity.name}."
            )
        if self.layer >= model.n_layers:
            raise ArgumentError(
                f"{self.name} belongs to {self.hook_name}, but {identity.name} has {model.n_layers} layers: name another dictionary."
            )
        known = {_plain(identity.name), _plain(identity.source.rsplit("/", maxsplit=1)[-1])}
        if self.model_name and not other_model and _plain(self.model_name.rsplit("/", maxsplit=1)[-1]) not in known:
            raise ArgumentError(
                f"{self.name} was trained on {self.model_name}, not on {identity.name}: name a dictionary of this model, or add "
                "--allow-other-model if it is a copy of that one."
            )
        special = set(model.tokenizer.all_special_ids) if self.training.excluded_ids else set()
        if counted := [id for id in self.training.excluded_ids if id not in special]:
            raise ArgumentError(
                f"{self.name} says exclude_special_tokens: {list(self.training.excluded_ids)} in its configuration, and {counted[0]} is "
                f"no special token of {identity.name}: it was trained with another tokenizer; name another --dictionary."
            )
        if self.training.centred and not mean_is_unread(model, self.layer):
            raise ArgumentError(
                f"{self.name} says center_writing_weights: True in its configuration, and {identity.name} does not normalise every "
                "reading of its residual stream by LayerNorm, so its centred stream cannot be made from the plain one; name another "
                "--dictionary."
            )

    def feature_page(self, feature_id: int) -> str | None:
        """Returns the address of a feature's page on Neuronpedia, or None when the release has none."""
        return f"https://www.neuronpedia.org/{self.neuronpedia_id}/{feature_id}" if self.neuronpedia_id else None

    # ------------------------------------------------------------------ what it does

    def take(self, residuals: Float[Tensor, "*rows residual"]) -> Float[Tensor, "*rows residual"]:
        """Returns the residual stream as the dictionary saw it in training, in float32: centred, if the model's writing weights were."""
        taken = residuals.to(self.sae.W_dec.device, torch.float32)
        return taken - taken.mean(dim=-1, keepdim=True) if self.training.centred else taken

    def encode(self, residuals: Float[Tensor, "*rows residual"]) -> Float[Tensor, "*rows feature"]:
        """Returns every feature's activation, by SAELens' own encode."""
        with torch.inference_mode():
            return self.sae.encode(self.take(residuals))

    def decode(self, activations: Float[Tensor, "*rows feature"]) -> Float[Tensor, "*rows residual"]:
        """Returns the reconstruction of what `take` gives; of the vectors that were encoded last, where they were scaled one by one."""
        with torch.inference_mode():
            return self.sae.decode(activations)

    def direction(self, feature: int, residual: Float[Tensor, " residual"]) -> Float[Tensor, " residual"]:
        """Returns what one unit of a feature's activation adds to the residual stream, at this vector of it.

        The row of the decoder: divided by its length where activations are in units of it, and scaled back as the vector's own
        normalisation says.
        """
        row = self.sae.W_dec[feature].detach()
        if self.architecture == "topk" and self.sae.cfg.rescale_acts_by_decoder_norm:
            row = row / row.norm()
        vector, kind = self.take(residual), self.sae.cfg.normalize_activations
        if kind == "layer_norm":
            return row * (vector - vector.mean()).std()
        if kind == "constant_norm_rescale":
            return row * vector.norm() / self.sae.cfg.d_in**0.5
        return row

    def active(
        self, residuals: Float[Tensor, "row residual"], chunk_features: int = CHUNK_FEATURES
    ) -> Iterator[Events]:
        """Yields the features that are active, in chunks of features: see interp.models.dictionary.features.active_features."""
        return active_features(self.sae, self.take(residuals), chunk_features)


def shipped_dictionaries(model: str) -> list[Path]:
    """Returns the folders of the dictionaries that come with the toolkit for a model, shallowest layer first."""
    return sorted((SHIPPED / model).glob("layer_*"), key=lambda folder: int(folder.name.removeprefix("layer_")))


def training_texts(names: Sequence[Path]) -> frozenset[str]:
    """Returns the names (interp.models.dictionary.windows.text_name) of all texts that dictionaries in these folders were trained on."""
    places = {place for folder in names for place in (folder.absolute(), folder.resolve())}
    files = {place.parent / "training_texts.txt" for place in places}
    return frozenset(name for file in files if file.is_file() for name in file.read_text(encoding="utf-8").split())


def _read_card(file: Path) -> dict[str, Any]:
    card = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not isinstance(card, dict):
        raise ValueError("card.json is not an object")
    for name in ("l0", "explained_variance"):
        _number(card, name)
    return card


def _number(card: Mapping[str, Any], name: str) -> float | None:
    value = card.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} in card.json is not a number")
    return float(value)


def _unless_unknown(explained_variance: float | None) -> float | None:
    """SAELens' list says 1.0 where nothing is published."""
    return None if explained_variance == 1.0 else explained_variance


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
