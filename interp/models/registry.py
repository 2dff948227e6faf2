"""Names of models: the aliases of registry.toml, Hugging Face ids and local folders. Imports no torch."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from interp.errors import ArgumentError, RunError, did_you_mean

TRAINED = Path(__file__).with_name("trained")
"""Models trained for the toolkit, one folder each."""


@dataclass(frozen=True)
class ModelEntry:
    """Where a named model comes from: `source` is a Hugging Face id, a folder, `asset:NAME` or `trained:NAME`."""

    name: str
    source: str
    revision: str | None = None
    notes: str = ""

    @property
    def folder(self) -> Path | None:
        """The folder with the model's files, where it is one: the user's, or one that came with the toolkit."""
        if self.source.startswith("trained:"):
            return TRAINED / self.source.removeprefix("trained:")
        return Path(self.source) if Path(self.source).is_dir() else None


@cache
def aliases() -> dict[str, ModelEntry]:
    """Returns the registry's entries by name."""
    table = tomllib.loads(Path(__file__).with_name("registry.toml").read_text(encoding="utf-8"))
    return {name: ModelEntry(name=name, **entry) for name, entry in table.items()}


def resolve(name: str, revision: str | None = None) -> ModelEntry:
    """Returns where the model of that name (alias, Hugging Face id or folder) comes from.

    A revision is a branch, tag or commit on the hub, and a subfolder of a folder, such as a training run's step1000.
    Raises ArgumentError for a name that is none of these, a folder without a model in it, or a revision that a folder or
    a fetched file does not have; RunError when the files of a model that comes with the toolkit are not there.
    """
    if name in aliases():
        entry = aliases()[name]
        if revision and entry.source.startswith(("asset:", "trained:")):
            raise ArgumentError(f"{name} comes in one revision only: leave out --revision and --revisions.")
        if entry.source.startswith("trained:"):
            _check_installed(entry)
        return ModelEntry(entry.name, entry.source, revision or entry.revision, entry.notes)
    folder = Path(name).expanduser()
    if folder.is_dir():
        place = _revision_folder(folder.resolve(), revision)
        _check_folder(place)
        return ModelEntry(folder.resolve().name, str(place))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelEntry(name.replace("/", "--"), name, revision)
    suggestion = did_you_mean(name, list(aliases()))
    raise ArgumentError(
        f"There is no model or folder named {name}.{suggestion} `python -m interp.experiments models` lists the names; a "
        "Hugging Face id (owner/name) or a folder works too."
    )


def _revision_folder(folder: Path, revision: str | None) -> Path:
    if revision is None:
        return folder
    known = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if revision not in known:
        raise ArgumentError(
            f"{folder} has no revision {revision} (a subfolder with a model).{did_you_mean(revision, known)} It has: "
            f"{' '.join(known) or 'none'}."
        )
    return folder / revision


def _check_installed(entry: ModelEntry) -> None:
    assert entry.folder is not None
    missing = [file for file in _TRAINED_FILES if not (entry.folder / file).is_file()]
    if missing:
        raise RunError(
            f"{entry.name} comes with the toolkit but {', '.join(missing)} is not in {entry.folder}: install the toolkit again."
        )


_TRAINED_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ArgumentError(f"{folder} has no config.json: name a folder that transformers' save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        raise ArgumentError(
            f"{folder} has no .safetensors weights: save the model there with save_pretrained (pickled .bin files are not "
            "read)."
        )
