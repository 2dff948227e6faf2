"""Why a model could not be loaded, in one sentence that says what to do."""

from collections.abc import Iterator

from huggingface_hub import errors as hub

from interp.errors import ArgumentError, RunError, UserError
from interp.models.registry import ModelEntry, ModelKind


def explained(entry: ModelEntry, error: Exception) -> UserError:
    """Returns the sentence for what transformers and the hub raise; raise it from the original."""
    refused = None if entry.folder else _refused_by_hub(entry, error)
    if refused is not None:
        return refused
    if "mismatched" in str(error):
        return RunError(f"{entry.source} cannot be loaded: its weights have other shapes than its config.json says.")
    words = entry.kind == "language"  # a pipeline has several parts, each with a config and tokenizer of its own
    if words and ("custom code" in str(error) or "trust_remote_code" in str(error)):
        return RunError(
            f"{entry.source} runs on code of its own (auto_map in its config.json), and code from a model's folder is not run: "
            "name a model whose architecture transformers has."
        )
    if words and "tokenizer" in str(error).lower():
        return RunError(
            f"{entry.source} has a tokenizer that cannot be read ({_first_line(error)}): save the model's tokenizer there again, with "
            "AutoTokenizer.from_pretrained(…).save_pretrained."
        )
    first_line = _first_line(error)
    return RunError(f"{entry.source} cannot be loaded ({first_line}): see --debug for the whole story.")


def _first_line(error: Exception) -> str:
    """What an error says first, or its kind where it says nothing; a class validation error's own reason is on its second line."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    if isinstance(error, hub.StrictDataclassError) and len(lines) > 1:
        return lines[1].rstrip(".")
    return lines[0].rstrip(".") if lines else type(error).__name__


def _refused_by_hub(entry: ModelEntry, error: Exception) -> UserError | None:
    """The hub's own error is looked for among the causes: the texts on top of it name several reasons at once."""
    causes = tuple(_causes(error))

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(hub.GatedRepoError):
        return RunError(
            f"{entry.source} is gated: accept its licence on its hub page and set HF_TOKEN to your access token, or pass "
            "--model FOLDER with a copy."
        )
    if caused_by(hub.RevisionNotFoundError):
        return ArgumentError(f"{entry.source} has no revision {entry.revision}: its hub page lists branches and tags.")
    if caused_by(hub.RepositoryNotFoundError, hub.HFValidationError):
        return ArgumentError(
            f"The hub has no model {entry.source}: check the spelling, or set HF_TOKEN if it is private."
        )
    if caused_by(hub.LocalEntryNotFoundError, hub.HTTPError, ConnectionError):
        return RunError(
            f"{entry.source} is not on this machine and the model hub cannot be reached: connect to it, or pass --model FOLDER "
            f"with a copy, or --model {_NEEDS_NO_HUB[entry.kind]}, which needs no hub."
        )
    if "safetensors" in str(error):
        return RunError(
            f"{entry.source} has no safetensors weights, and pickled weights are not read: convert it with transformers' "
            "save_pretrained and pass --model FOLDER."
        )
    return None


_NEEDS_NO_HUB: dict[ModelKind, str] = {"language": "smollm2-135m", "image": "shapes-t2i"}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def too_large(entry: ModelEntry, error: Exception) -> UserError:
    """Returns the sentence for a model that does not fit on the device."""
    first_line = str(error).splitlines()[0].rstrip(".")
    return RunError(
        f"{entry.name} does not fit on the device ({first_line}): try --dtype bfloat16, --device-map auto, or --device cpu."
    )
