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
    """Precision of the weights. A tuned lens is of one precision; those that ship are of float32."""
    lens: Path | None = None
    """A tuned lens of this model and precision, from python -m interp.models.lens.training. By default the one that ships, if any."""
    shuffled_lens: Path | None = None
    """The control: a lens trained on shuffled targets (--kind shuffled). By default the one that ships, if any."""
    texts: Path | None = None
    """Folder of text files to read in place of the news articles."""
    function_words: Path | None = None
    """A text file of the function words of another language, separated by blanks. By default an English list."""
    prose_texts: Annotated[int, Ge(2), Hint("one text has no interval")] = 5
    """Texts whose tokens are read out at every depth."""
    text_tokens: Annotated[int, Ge(24)] = 96
    """Tokens of each text."""
    decode_texts: Annotated[int, Ge(2), Hint("one text has no interval")] = 3
    """Texts of skipped layers, drafts and reweaving."""
    budgets: Annotated[tuple[OpenShare, ...], SOME] = (0.8,)
    """Share of the layers that a token passes on average when layers are skipped."""
    budget_spread: Annotated[OpenShare, Hint("0.3: from 1.3 to 0.7 times the budget")] = 0.3
    """How far a falling or rising schedule departs from its budget at either end, as a share of it."""
    warm_up_layers: CountOrNone = 3
    """First layers that the arm drop_lower_middle keeps."""
    full_tokens: Count = 16
    """First tokens of each text that pass all layers."""
    betas: Annotated[tuple[float, ...], SOME] = (0.1, 0.3)
    """Strengths at which the mean of earlier layers' states is added to a layer's output."""
    draft_tokens: Annotated[int, Ge(8)] = 64
    """Tokens that are written, and read, when drafts are tried out."""
    facts: Path | None = None
    """A .toml file of questions like probes/prediction_depth/facts.toml."""
    facts_per_relation: Count = 20
    """At most so many questions of each relation; ours have 38 to 112."""
    read_through_every: Count = 3
    """Reading out through the upper layers: at every so many layers."""
    bos: Literal["auto", "always", "never"] = "auto"
    """Whether texts begin with the beginning-of-sequence token; auto does as the tokenizer does."""

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
