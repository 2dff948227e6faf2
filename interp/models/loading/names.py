"""Names of models: the aliases of registry.toml, Hugging Face ids and local folders. Imports no torch."""

import dataclasses
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from interp.errors import ArgumentError, RunError, did_you_mean

TRAINED = Path(__file__).parents[1] / "trained"
"""Models trained for the toolkit, one folder each."""


IDENTIFYING = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""Files that change what a folder's model or tokenizer does."""
ModelKind = Literal["language", "image"]
"""What a model makes: text, or pictures from text."""
GGUF = ".gguf"
IN_WORDS: dict[ModelKind, str] = {"language": "a language model", "image": "an image model"}


@dataclass(frozen=True)
class ModelEntry:
    """Where a named model comes from: `source` is a Hugging Face id, a folder, `asset:NAME` or `trained:NAME`."""

    name: str
    source: str
    revision: str | None = None
    notes: str = ""
    kind: ModelKind = "language"

    @property
    def folder(self) -> Path | None:
        """The folder with the model's files, where it is one: the user's, or one that came with the toolkit."""
        if self.source.startswith("trained:"):
            return TRAINED / self.source.removeprefix("trained:")
        return Path(self.source) if Path(self.source).is_dir() else None

    @property
    def gguf(self) -> Path | None:
        """The GGUF file that holds the model, where it is one."""
        return Path(self.source) if self.source.endswith(GGUF) and Path(self.source).is_file() else None


@cache
def aliases() -> dict[str, ModelEntry]:
    """Returns the registry's entries by name."""
    table = tomllib.loads((Path(__file__).parents[1] / "registry.toml").read_text(encoding="utf-8"))
    return {name: ModelEntry(name=name, **entry) for name, entry in table.items()}


def known_kind(name: str) -> ModelKind | None:
    """Returns what the model of that name makes, or None where only the hub, or nobody, knows."""
    if name in aliases():
        return aliases()[name].kind
    place = Path(name).expanduser()
    if place.is_file() and place.suffix == GGUF:
        return "language"
    return _folder_kind(place) if place.is_dir() else None


def _folder_kind(folder: Path) -> ModelKind | None:
    """What a folder holds, by the file that save_pretrained writes beside the weights; image models' revisions count too."""
    if (folder / _INDEX["image"]).is_file() or any(folder.glob(f"*/{_INDEX['image']}")):
        return "image"
    return "language" if any((folder / name).is_file() for name in (_INDEX["language"], ADAPTER_CONFIG)) else None


ADAPTER_CONFIG = "adapter_config.json"
"""The file that peft's save_pretrained writes beside an adapter's weights."""
_INDEX: dict[ModelKind, str] = {"language": "config.json", "image": "model_index.json"}


def resolve(name: str, revision: str | None = None, *, kind: ModelKind | None = None) -> ModelEntry:
    """Returns where the model of that name (alias, Hugging Face id, folder or GGUF file) comes from.

    A revision is a branch, tag or commit on the hub, and a subfolder of a folder, such as a training run's step1000.
    `kind` is what the model must make; a Hugging Face id is taken at the caller's word.
    Raises ArgumentError for a name that is none of these, a model of the other kind, a folder without a model in it, or a
    revision that a folder or a fetched file does not have; RunError when the files of a model that comes with the toolkit
    are not there.
    """
    known = known_kind(name)
    if kind and known and kind != known:
        fitting = [entry.name for entry in aliases().values() if entry.kind == kind]
        raise ArgumentError(
            f"{name} is {IN_WORDS[known]}, and {IN_WORDS[kind]} is needed, such as {fitting[0]}: "
            "`python -m interp.experiments models` says which is which."
        )
    if name in aliases():
        entry = aliases()[name]
        if revision and entry.source.startswith(("asset:", "trained:")):
            raise ArgumentError(f"{name} comes in one revision only: leave out --revision and --revisions.")
        if entry.source.startswith("trained:"):
            _check_installed(entry)
        return dataclasses.replace(entry, revision=revision or entry.revision)
    folder = Path(name).expanduser()
    if folder.is_dir():
        made = known or kind or "language"
        place = _revision_folder(folder.resolve(), revision, _INDEX[made])
        _check_folder(place, made)
        return ModelEntry(folder.resolve().name, str(place), kind=made)
    if folder.is_file():
        return _file_entry(folder.resolve(), revision)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelEntry(name.replace("/", "--"), name, revision, kind=kind or "language")
    suggestion = did_you_mean(name, list(aliases()))
    raise ArgumentError(
        f"There is no model or folder named {name}.{suggestion} `python -m interp.experiments models` lists the names; a "
        "Hugging Face id (owner/name) or a folder works too."
    )


def _file_entry(file: Path, revision: str | None) -> ModelEntry:
    if file.suffix != GGUF:
        raise ArgumentError(f"{file} is a file: name the folder that it lies in, or a {GGUF} file.")
    if revision:
        raise ArgumentError(f"{file.name} comes in one revision only: leave out --revision and --revisions.")
    return ModelEntry(file.stem, str(file))


def _revision_folder(folder: Path, revision: str | None, index: str) -> Path:
    if revision is None:
        return folder
    known = sorted(path.parent.name for path in folder.glob(f"*/{index}"))
    if revision not in known:
        raise ArgumentError(
            f"{folder} has no revision {revision} (a subfolder with a model).{did_you_mean(revision, known)} It has: "
            f"{' '.join(known) or 'none'}."
        )
    return folder / revision


def checkpoint_files(model: str, revisions: Iterable[str]) -> list[Path]:
    """Returns the files of checkpoints that are subfolders of a model's folder; none for those on the hub."""
    folders = [Path(model).expanduser() / revision for revision in revisions]
    return [file for folder in folders for file in sorted(folder.glob("*")) if file.suffix in IDENTIFYING]


def _check_installed(entry: ModelEntry) -> None:
    assert entry.folder is not None
    missing = [file for file in _TRAINED_FILES[entry.kind] if not (entry.folder / file).is_file()]
    if missing:
        raise RunError(
            f"{entry.name} comes with the toolkit but {', '.join(missing)} is not in {entry.folder}: install the toolkit again."
        )


_TRAINED_FILES: dict[ModelKind, tuple[str, ...]] = {
    "language": ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    "image": ("model_index.json", "generation.json", "unet/diffusion_pytorch_model.safetensors"),
}


def _check_folder(folder: Path, kind: ModelKind) -> None:
    if kind == "language" and (folder / ADAPTER_CONFIG).is_file():
        if any(folder.glob("model*.safetensors")):
            raise ArgumentError(
                f"{folder} holds both a model and an adapter ({ADAPTER_CONFIG}): keep the two in folders of their own, and name one."
            )
        return  # its weights are the adapter's: interp.models.loading.adapters
    writer, weights, what = {
        "language": ("transformers'", "*.safetensors", "the model"),
        "image": ("a diffusers pipeline's", "*/*.safetensors", "the pipeline"),
    }[kind]
    ggufs = sorted(path.name for path in folder.glob(f"*{GGUF}")) if kind == "language" else []
    if ggufs and not any(folder.glob(weights)):
        raise ArgumentError(
            f"{folder} holds its weights in GGUF files: name the file, as in --model {folder / ggufs[0]}."
        )
    if not (folder / _INDEX[kind]).is_file():
        raise ArgumentError(f"{folder} has no {_INDEX[kind]}: name a folder that {writer} save_pretrained wrote.")
    if not any(folder.glob(weights)):
        raise ArgumentError(
            f"{folder} has no .safetensors weights: save {what} there with save_pretrained (pickled .bin files are not read)."
        )
