"""Names of models: the aliases of registry.toml, Hugging Face ids and local folders. Imports no torch."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from interp.errors import ArgumentError, did_you_mean


@dataclass(frozen=True)
class ModelEntry:
    """Where a named model comes from: `source` is a Hugging Face id, a folder, or `asset:NAME`."""

    name: str
    source: str
    revision: str | None = None
    notes: str = ""


@cache
def aliases() -> dict[str, ModelEntry]:
    """Returns the registry's entries by name."""
    table = tomllib.loads(Path(__file__).with_name("registry.toml").read_text(encoding="utf-8"))
    return {name: ModelEntry(name=name, **entry) for name, entry in table.items()}


def resolve(name: str, revision: str | None = None) -> ModelEntry:
    """Returns where the model of that name (alias, Hugging Face id or folder) comes from.

    Raises ArgumentError for a name that is none of these, or a folder without a model in it.
    """
    if name in aliases():
        entry = aliases()[name]
        return ModelEntry(entry.name, entry.source, revision or entry.revision, entry.notes)
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return ModelEntry(folder.resolve().name, str(folder.resolve()))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelEntry(name.replace("/", "--"), name, revision)
    suggestion = did_you_mean(name, list(aliases()))
    raise ArgumentError(
        f"There is no model or folder named {name}.{suggestion} `python -m interp.experiments models` lists the names; a "
        "Hugging Face id (owner/name) or a folder works too."
    )


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ArgumentError(f"{folder} has no config.json: name a folder that transformers' save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        raise ArgumentError(
            f"{folder} has no .safetensors weights: save the model there with save_pretrained (pickled .bin files are not "
            "read)."
        )
