"""A tokenizer alone, by the name of a model or from a folder: no weights are read."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from interp.errors import ArgumentError
from interp.models.loading.converted import converted_asset
from interp.models.loading.language import TOKENIZER_FILES
from interp.models.loading.names import ModelEntry, resolve
from interp.models.loading.refusals import explained


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Returns the fast tokenizer of a model (alias, Hugging Face id) or of a folder, which may hold nothing else.

    Raises ArgumentError for a folder without tokenizer files and for a slow tokenizer; UserError for what cannot be read or found.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).is_file() for file in TOKENIZER_FILES):
            raise ArgumentError(
                f"{folder} has no tokenizer files: name a folder that a tokenizer's save_pretrained wrote, or a model."
            )
        entry, place = ModelEntry(folder.name, str(folder)), str(folder)
    else:
        entry = resolve(name, kind="language")
        asset = entry.source.startswith("asset:")
        place = str(converted_asset(entry.source.removeprefix("asset:")) if asset else entry.folder or entry.source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=entry.revision, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise explained(entry, error) from error
    if not tokenizer.is_fast:
        raise ArgumentError(
            f"{name} has a slow tokenizer ({type(tokenizer).__name__}): name one with a tokenizer.json."
        )
    return tokenizer
