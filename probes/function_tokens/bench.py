"""What every unit of a run needs at hand: the model, the corpus, the dictionaries and where their sinks begin."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from interp.models.dictionary import Dictionary
from interp.models.fidelity import Fidelity, explained, refuse_mismatch
from interp.models.language import LanguageModel
from interp.models.residuals import check_layer, read_residuals
from interp.models.windows import Windows
from probes.function_tokens.corpus import Corpus, prepare_corpus, special_positions

if TYPE_CHECKING:
    from probes.function_tokens.experiment import FunctionTokens

CHECK_WINDOWS = 24
"""Windows that a dictionary is checked on."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A dictionary that fits the model, and the residual length above which a position is an attention sink."""

    dictionary: Dictionary
    norm_limit: float
    fidelity: Fidelity


@dataclass(frozen=True, eq=False)
class Bench:
    """A run's model, corpus and dictionaries (by the name in its settings)."""

    settings: "FunctionTokens"
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
def set_up(settings: "FunctionTokens", model: LanguageModel) -> Bench:
    """Returns the bench of a run; units of the same run in the same process share it.

    Raises UserError when corpus or dictionaries cannot be used: before anything is counted.
    """
    names = settings.dictionary_names(model.identity.name) if settings.needs_dictionary else []
    corpus = prepare_corpus(settings, model, [Path(name) for name in names if Path(name).is_dir()])
    bench = Bench(settings, model, corpus, {})
    for name in names:
        dictionary = Dictionary.load(name, device=str(model.device))
        dictionary.check_fits(model, other_model=settings.allow_other_model)
        check_layer(model, dictionary.layer)
        bench.loaded[name] = _checked(bench, dictionary)
    return bench


def _checked(bench: Bench, dictionary: Dictionary) -> Loaded:
    """Holds a dictionary against what is published of it, on the first windows of the corpus."""
    windows = bench.corpus.windows[slice(0, CHECK_WINDOWS)]
    residuals = read_residuals(bench.model, windows.ids, [dictionary.layer])[dictionary.layer].float().cpu()
    vectors = residuals[bench.counted(windows)]
    norms = vectors.norm(dim=1)
    median = float(dictionary.card.get("median_norm") or norms.median())
    limit = bench.settings.norm_limit * median
    fidelity = explained(dictionary, vectors[norms <= limit])
    refuse_mismatch(dictionary, fidelity, bench.settings.expected_l0)
    return Loaded(dictionary, limit, fidelity)


def document_slices(windows: Windows) -> list[slice]:
    """Returns the rows of each text, in order: a text is read by itself, so what is computed does not depend on its neighbours."""
    first = [0, *(row for row in range(1, len(windows)) if windows.document[row] != windows.document[row - 1])]
    return [slice(begin, end) for begin, end in zip(first, [*first[1:], len(windows)], strict=True)]
