"""Why a model cannot be used, each refusal a sentence that says what to do.

Configuration and tokenizer are checked before the weights are read; what goes wrong while loading is explained.
"""

from collections.abc import Iterator
from typing import Any

from huggingface_hub import errors as hub
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

from interp.errors import ArgumentError, RunError, UserError
from interp.models.language.architecture import reads_both_ways
from interp.models.loading.classes import model_class
from interp.models.loading.names import ModelEntry, ModelKind

# ---------------------------------------------------------------------- configuration, tokenizer, token ids


def check_config(entry: ModelEntry, config: PreTrainedConfig) -> None:
    """Raises UserError for a model that is not a causal language model, or that this installation cannot read as it is."""
    if model_class(config) is None:
        raise RunError(
            f"{entry.source} is a {config.model_type} model ({type(config).__name__}), which does not write text token by token: "
            "name a causal language model, such as gpt2."
        )
    both_ways = reads_both_ways(config)
    if both_ways:
        raise RunError(
            f"{entry.source} reads in both directions ({both_ways} in its config.json), so no token is predicted from those before "
            "it: name a causal language model."
        )
    _check_rotary(entry, config)
    _check_quantization(entry, config)


def _check_rotary(entry: ModelEntry, config: PreTrainedConfig) -> None:
    text: Any = config.get_text_config(decoder=True)
    rope = getattr(text, "rope_parameters", None)
    if not isinstance(rope, dict):
        return
    each = [kind for kind in rope.values() if isinstance(kind, dict)] or [rope]
    for kind in (one.get("rope_type", "default") for one in each):
        if not hasattr(config, f"_validate_{kind}_rope_parameters"):
            raise RunError(
                f"{entry.source} has a rotary embedding of a kind that transformers does not know ({kind}): write default, linear, "
                "dynamic, yarn, longrope or llama3 as rope_type in its config.json if it is one of these under an older name (su is "
                "longrope), or name another model."
            )


def _check_quantization(entry: ModelEntry, config: PreTrainedConfig) -> None:
    """What is missing for quantised weights, asked of transformers' own quantiser."""
    wanted: Any = getattr(config, "quantization_config", None)
    if wanted is None:
        return
    wanted = wanted if isinstance(wanted, dict) else wanted.to_dict()
    method = str(wanted.get("quant_method", "unnamed"))
    method = "bitsandbytes" if wanted.get("load_in_4bit") or wanted.get("load_in_8bit") else method
    reason = "transformers does not know this form"
    if method == "bitsandbytes" or method in AUTO_QUANTIZATION_CONFIG_MAPPING:
        try:
            AutoHfQuantizer.from_config(dict(wanted), pre_quantized=True).validate_environment(device_map=None)
        except (ImportError, RuntimeError, ValueError, TypeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        else:
            return
    raise RunError(
        f"{entry.source} holds quantised weights ({method}) that cannot be read here ({reason}): name the model it was quantised from, in "
        "full precision."
    )


def check_tokenizer(
    entry: ModelEntry, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, rows: int | None = None
) -> None:
    """Raises UserError for a tokenizer of another model: one that writes ids for which the embedding has no row.

    `rows` is the embedding's size where it is not that of the configuration.
    Added tokens beyond the embedding that are no part of every text are let pass: reading one is refused.
    """
    rows = rows or int(config.get_text_config(decoder=True).vocab_size)
    vocabulary: Any = tokenizer
    added = set(vocabulary.get_added_vocab().values())
    own = max((id for id in vocabulary.get_vocab().values() if id not in added), default=-1)
    if own >= rows:
        raise RunError(
            f"{entry.source} has a tokenizer of another model: it produces ids up to {own} and the embedding has {rows} rows, so copy the "
            "tokenizer files of the model itself into the folder."
        )
    for name in ("bos_token", "eos_token"):
        id: Any = getattr(tokenizer, f"{name}_id", None)
        if id is not None and id >= rows:
            raise RunError(
                f"{entry.source} has a tokenizer whose {name} {getattr(tokenizer, name)} (id {id}) is beyond the embedding's {rows} "
                "rows: call model.resize_token_embeddings(len(tokenizer)) and save both with save_pretrained."
            )


def check_ids(name: str, tokenizer: PreTrainedTokenizerBase | None, largest: int, rows: int) -> None:
    """Raises UserError for a token id that the embedding has no row for: an added token that the model never learned."""
    if largest < rows:
        return
    token = (
        f"{tokenizer.convert_ids_to_tokens([largest])[0]} (id {largest})" if tokenizer is not None else f"id {largest}"
    )
    raise UserError(
        f"The text has the token {token}, and the embedding of {name} has {rows} rows: leave that token out, or call "
        "model.resize_token_embeddings(len(tokenizer)) and save the model again."
    )


# ---------------------------------------------------------------------- what went wrong while loading


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
