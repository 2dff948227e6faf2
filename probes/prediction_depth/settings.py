"""The settings of a prediction_depth run: their meanings, presets and limits. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from interp.errors import ArgumentError
from interp.experiments.bounds import SOME, Count, CountOrNone, Hint, OpenShare
from interp.experiments.experiment import Dtype, Experiment

Arm = Literal["drop_top", "drop_lower_middle", "stride", "random"]
Schedule = Literal["falling", "constant", "rising"]


@dataclass(frozen=True, kw_only=True)
class Settings(Experiment):
    """What a prediction_depth run is asked to measure."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "prose_texts": 2,
            "text_tokens": 40,
            "decode_texts": 2,
            "betas": (0.3,),
            "draft_tokens": 12,
            "facts_per_relation": 3,
            "read_through_every": 15,
        },
    }

    dtype: Dtype = "float32"
    """Precision of the weights. A tuned lens works with the precision it was trained in; those that ship need float32."""
    lens: Path | None = None
    """A tuned lens of this model and precision, from python -m interp.models.lens.training. By default the one that ships, if any."""
    shuffled_lens: Path | None = None
    """The control: a lens trained on shuffled targets (--kind shuffled). By default the one that ships, if any."""
    texts: Path | None = None
    """Folder of text files to read in place of the news articles."""
    function_words: Path | None = None
    """Text file of function words, separated by white space, for another language. By default an English list."""
    prose_texts: Annotated[int, Ge(2), Hint("one text has no interval")] = 5
    """Number of texts whose tokens are decoded at every depth."""
    text_tokens: Annotated[int, Ge(24)] = 96
    """Length of each text, in tokens."""
    decode_texts: Annotated[int, Ge(2), Hint("one text has no interval")] = 3
    """Number of texts for skipped layers, draft decoding and reweaving."""
    budgets: Annotated[tuple[OpenShare, ...], SOME] = (0.8,)
    """Mean shares of the layers that a token passes when layers are skipped."""
    budget_spread: Annotated[OpenShare, Hint("0.3: from 1.3 to 0.7 times the budget")] = 0.3
    """Difference between a falling or rising schedule and its budget at either end, as a share of the budget."""
    warm_up_layers: CountOrNone = 3
    """Number of first layers that the arm drop_lower_middle keeps."""
    full_tokens: Count = 16
    """Number of tokens at the start of each text that pass all layers."""
    betas: Annotated[tuple[float, ...], SOME] = (0.1, 0.3)
    """β, weights with which the mean of earlier layers' states is added to a layer's output (reweaving)."""
    draft_tokens: Annotated[int, Ge(8)] = 64
    """Number of tokens generated, and number of tokens replayed, when draft decoding is measured."""
    facts: Path | None = None
    """TOML file of factual questions in the format of probes/prediction_depth/facts.toml."""
    facts_per_relation: Count = 20
    """Maximum number of questions per relation; the shipped relations have 38 to 112."""
    read_through_every: Count = 3
    """Decode through the upper layers (SimLens) at every n-th depth."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether texts begin with the beginning-of-sequence token; auto follows the tokenizer."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for values out of bounds or that do not go together."""
        super().__post_init__()
        if self.full_tokens > self.text_tokens - 8:
            raise ArgumentError(
                f"--full-tokens {self.full_tokens} leaves fewer than 8 of {self.text_tokens} tokens to skip layers at: lower it."
            )
        for path in (self.lens, self.shuffled_lens, self.facts, self.function_words):
            if path is not None and not path.is_file():
                raise ArgumentError(f"There is no file {path}: name another one.")

    def input_files(self) -> Sequence[Path]:
        """Returns the lenses, the folder of texts, and the files of facts and words."""
        named = (self.lens, self.shuffled_lens, self.texts, self.facts, self.function_words)
        return [path for path in named if path is not None]


PROMPT_TOKENS = 32
"""Tokens of a text that stand before what is drafted."""
