"""What every unit of a run needs at hand: the model, the corpus, the dictionaries and where their sinks begin."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from interp.errors import ArgumentError
from interp.models.dictionary import Dictionary
from interp.models.encoding import BosPolicy, beginning
from interp.models.fidelity import Fidelity, explained, refuse_mismatch
from interp.models.language import LanguageModel
from interp.models.residuals import check_layer, read_residuals
from interp.models.windows import Windows
from probes.function_tokens.corpus import Corpus, prepare_corpus, special_positions
from probes.function_tokens.settings import Settings

CHECK_WINDOWS = 24
"""Windows that a dictionary is checked on."""
WINDOWS_AT_ONCE = 64
"""Windows of one text that are read at one time: longer texts are read in parts, so that memory does not grow with a text."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A dictionary that fits the model, and the residual length above which a position is an attention sink."""

    dictionary: Dictionary
    norm_limit: float
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class Bench:
    """A run's model, corpus and dictionaries (by the name in its settings)."""

    settings: Settings
    model: LanguageModel
    corpus: Corpus
    loaded: dict[str, Loaded]

    @property
    def layers(self) -> list[int]:
        """The layers that dictionaries belong to, each once."""
        return sorted({one.dictionary.layer for one in self.loaded.values()})

    def counted(self, windows: Windows) -> Tensor:
        """Returns which positions may be counted: not padding, not special, not among the first of their window."""
        return windows.present(self.settings.skip_first) & ~special_positions(windows, self.model)


@lru_cache(maxsize=1)
def set_up(settings: Settings, model: LanguageModel) -> Bench:
    """Returns the bench of a run; units of the same run in the same process share it.

    Raises UserError when corpus or dictionaries cannot be used: before anything is counted.
    """
    names = settings.dictionary_names(model.identity.name) if settings.needs_dictionary else []
    dictionaries: dict[str, Dictionary] = {}
    for name in names:
        dictionary = Dictionary.load(name, device=str(model.device))
        dictionary.check_fits(model, other_model=settings.allow_other_model)
        check_layer(model, dictionary.layer)
        _check_positions(settings, dictionary)
        dictionaries[name] = dictionary
    before = window_beginning(settings, model, list(dictionaries.values()))
    corpus = prepare_corpus(settings, model, [Path(name) for name in names if Path(name).is_dir()], before)
    bench = Bench(settings, model, corpus, {})
    for name, dictionary in dictionaries.items():
        bench.loaded[name] = _checked(bench, dictionary)
    return bench


def window_beginning(settings: Settings, model: LanguageModel, dictionaries: list[Dictionary]) -> list[int]:
    """Returns what every window begins with: under --bos auto as in the training of the dictionaries, and where nothing is said
    of that, what the tokenizer writes by itself.

    Raises ArgumentError when dictionaries were trained one with and one without it, or when the tokenizer has none.
    """
    if settings.bos != "auto":
        return beginning(model.tokenizer, settings.bos)
    said = {one.training.prepend_bos: one.name for one in dictionaries if one.training.prepend_bos is not None}
    if len(said) == 2:
        raise ArgumentError(
            f"{said[True]} was trained on windows that begin with the beginning-of-sequence token and {said[False]} on windows that do "
            "not: measure them in two runs, or give --bos always or never for both."
        )
    if True in said and model.tokenizer.bos_token_id is None:
        raise ArgumentError(
            f"{said[True]} was trained on windows that begin with the beginning-of-sequence token, and the tokenizer of "
            f"{model.identity.name} has none: give --bos never to measure without it."
        )
    policy: BosPolicy = "auto" if not said else "always" if True in said else "never"
    return beginning(model.tokenizer, policy)


def _check_positions(settings: Settings, dictionary: Dictionary) -> None:
    """Raises ArgumentError when windows are longer than in training, or positions counted that were left out there."""
    training = dictionary.training
    if training.context_tokens is not None and settings.context_tokens > training.context_tokens:
        raise ArgumentError(
            f"{dictionary.name} was trained on windows of {training.context_tokens} tokens, and --context-tokens is "
            f"{settings.context_tokens}: use at most {training.context_tokens}."
        )
    if settings.skip_first < training.first_position:
        raise ArgumentError(
            f"{dictionary.name} was trained without the first {training.first_position} positions of a window: use --skip-first "
            f"{training.first_position} or more."
        )


def _checked(bench: Bench, dictionary: Dictionary) -> Loaded:
    """Holds a dictionary against what is published of it, on the first windows of the corpus."""
    windows = bench.corpus.windows[slice(0, CHECK_WINDOWS)]
    residuals = read_residuals(bench.model, windows.ids, [dictionary.layer])[dictionary.layer].float().cpu()
    vectors = residuals[bench.counted(windows)]
    norms = vectors.norm(dim=1)
    median = float(dictionary.card.get("median_norm") or norms.median())
    limit = bench.settings.norm_limit * median
    fidelity = explained(dictionary, vectors[norms <= limit])
    refuse_mismatch(dictionary, fidelity, bench.settings.expected_l0, bench.settings.expected_explained_variance)
    return Loaded(dictionary, limit, fidelity)


def parts_of(text: Windows) -> list[Windows]:
    """Returns the windows of one text as many at a time as are read together, each part as wide as the whole."""
    starts = range(0, len(text), WINDOWS_AT_ONCE)
    rows = [slice(first, first + WINDOWS_AT_ONCE) for first in starts]
    return [
        Windows(text.ids[part], text.lengths[part], text.document[part], text.start[part], text.n_before)
        for part in rows
    ]


def document_slices(windows: Windows) -> list[slice]:
    """Returns the rows of each text, in order: a text is read by itself, so what is computed does not depend on its neighbours."""
    first = [0, *(row for row in range(1, len(windows)) if windows.document[row] != windows.document[row - 1])]
    return [slice(begin, end) for begin, end in zip(first, [*first[1:], len(windows)], strict=True)]
