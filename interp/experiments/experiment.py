"""What an experiment is: a frozen configuration that plans work, measures it, and turns tables into figures.

Imports nothing heavy: the command line builds its help from these classes.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from interp.experiments.bounds import check_bounds
from interp.models.identity import ModelFacts
from interp.models.loading.names import ModelKind

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.experiments.run import Run
    from interp.models.image.model import ImageModel
    from interp.models.language.model import LanguageModel
    from interp.tables import Schemas, Tables

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

ADDED: Mapping[str, bool] = {"unnamed_at_default": True}
"""Metadata of a setting that came after runs were made without it: while it has its default it is no part of a run's name, so
those runs keep theirs. The default must do what was done before there was the setting."""
OF_WEIGHTS: Mapping[str, bool] = {"of_weights": True}
"""Metadata of a setting that is an option of the model's loader. It is no part of a run's name: the identity of the weights has what
it leads to."""


@dataclass(frozen=True)
class WorkUnit:
    """Items that share computation, measured and stored together. The id, of a-z, 0-9, '-' and '_', names the files."""

    id: str


@dataclass(frozen=True)
class Work:
    """Amounts of work that are known without measuring. They add up, except for the tokens held at once."""

    tokens_read: int = 0
    """Tokens of prompts and texts that pass through the model, padding included; what is shared is read once."""
    tokens_written: int = 0
    """Tokens that are generated, each by a pass of its own, if every answer is as long as it may be."""
    tokens_held: int = 0
    """The most tokens whose keys and values are in memory at one time."""
    pictures: int = 0
    """Pictures that are drawn."""
    denoising_steps: int = 0
    """Steps of the denoiser, summed over pictures."""

    def __add__(self, other: "Work") -> "Work":
        """Returns the work of both, one after the other."""
        summed = {
            field.name: getattr(self, field.name) + getattr(other, field.name) for field in dataclasses.fields(self)
        }
        return Work(**{**summed, "tokens_held": max(self.tokens_held, other.tokens_held)})

    @property
    def tokens(self) -> int:
        """Tokens read or written."""
        return self.tokens_read + self.tokens_written


def total(parts: Iterable[Work]) -> Work:
    """Returns the work of all parts, one after the other."""
    return sum(parts, Work())


@dataclass(frozen=True)
class Finding:
    """One headline of the report: a sentence with its number, and whether it is a result or a warning."""

    text: str
    kind: Literal["result", "warning"] = "result"
    about: str = ""
    """One of several things that sentences are about, such as a dictionary: the report puts them together. The text begins
    with it."""

    def __post_init__(self) -> None:
        """Takes out of the text the brackets of an interval that there is none of: [nan, nan]."""
        object.__setattr__(self, "text", _NO_INTERVAL.sub("", self.text))


_NO_INTERVAL = re.compile(r" \[[^\[\]]*\bnan\b[^\[\]]*\]")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Base of all experiments. A subclass adds its own fields and the methods that raise NotImplementedError here."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for the list of experiments."""
    paper: ClassVar[str]
    """How to cite the method."""
    schema_version: ClassVar[int]
    """Raised when the tables or the meaning of their numbers change: it is part of a run's name."""
    needs_attention: ClassVar[bool] = True
    """Whether a language model must have attention heads."""
    model_kind: ClassVar[ModelKind] = "language"
    """What the model generates: text, or pictures (then `measure` gets an ImageModel)."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of field values, offered as --preset."""
    in_atlas: ClassVar[bool] = True
    """Whether an atlas runs it by default; otherwise only if the atlas's file has a table for it."""
    reads: ClassVar[Mapping[str, str]] = {}
    """Settings that name the folder of a finished run, and of which experiment: an atlas fills them in."""

    model: str = "smollm2-135m"
    """Name of the model, a Hugging Face id, or a folder."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Dtype = "auto"
    """Precision of the weights; auto is float32 on the CPU and bfloat16 on a GPU."""
    seed: int = 0
    """Seed of every random choice; each work unit draws from (seed, its id)."""

    def __post_init__(self) -> None:
        """Raises ArgumentError for a value outside the bounds of its field's type; a subclass may refuse more."""
        check_bounds(self)

    # ------------------------------------------------------------------ what a subclass provides

    def schemas(self) -> "Schemas":
        """Returns the schema of every table, measured or summarised, by name."""
        raise NotImplementedError

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the verdicts of the check at load (interp.models.check.verdicts) that the experiment needs."""
        return ()

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns all units known to be needed, given what has been measured so far.

        Called again after every wave of units until it adds none, so later units may depend on earlier tables. It
        must be a pure function of its arguments: a resumed run plans what an uninterrupted one did.
        """
        raise NotImplementedError

    def expected_units(self, model: "LanguageModel | ImageModel", measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the units of the plan, and placeholders for those that it will add once these are measured.

        `model` has a tokenizer and a configuration, and no weights (`load_outline` and `load_image_outline`).
        """
        return self.plan(model.facts, measured)

    def work_of(self, model: "LanguageModel | ImageModel", unit: WorkUnit) -> "Work | None":
        """Returns what a unit reads and writes, or None if that cannot be known; `model` as in `expected_units`."""
        return None

    def uncounted(self) -> str:
        """Returns, as a clause, what the expected units and their work leave out; "" if nothing."""
        return ""

    def check_loaded(self, model: "LanguageModel | ImageModel") -> None:
        """Raises UserError when the model, once loaded, cannot be used for what is planned: asked before anything is measured."""

    def measure(self, model: "LanguageModel | ImageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the unit's rows of each measured table. Writes nothing, plots nothing."""
        raise NotImplementedError

    def revision_of(self, unit: WorkUnit) -> str | None:
        """Returns the revision of the model that a unit is measured with: the run's own, unless a subclass says otherwise."""
        return self.revision

    @property
    def of_weights(self) -> dict[str, Any]:
        """The settings that are options of the model's loader, beside the name, the revision and the precision."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata.get("of_weights")
        }

    def model_of(self, unit: WorkUnit) -> str:
        """Returns the name of the model that a unit is measured with: the run's own, unless a subclass says otherwise."""
        return self.model

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables, from the measured tables alone."""
        raise NotImplementedError

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures, from the tables alone."""
        raise NotImplementedError

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's headlines and warnings, from the tables alone."""
        raise NotImplementedError

    def documents(self, tables: "Tables") -> Mapping[str, str | bytes]:
        """Returns further files of the run by path within its folder: tables in the formats of other tools, pictures."""
        return {}

    def input_files(self) -> Sequence[Path]:
        """Returns the user's files and folders that the configuration names; their contents are part of the run's hash."""
        return ()

    def compare(self, runs: "Mapping[str, Tables]") -> "tuple[Mapping[str, pd.DataFrame], Mapping[str, go.Figure]]":
        """Returns tables and figures that compare several runs, given by label."""
        raise NotImplementedError

    def read_foreign(self, path: Path) -> "Tables | None":
        """Returns the tables in another tool's file, or None if this experiment does not read its format."""
        return None

    @property
    def writes_chats(self) -> bool:
        """Whether prompts may go through the model's chat template."""
        return False

    # ------------------------------------------------------------------ what every experiment has

    def check_model(self, facts: ModelFacts) -> None:
        """Raises UserError when the model cannot be used in this experiment."""

    def run(self, **options: Any) -> "Run":
        """Runs the experiment, or what is missing of it, and returns the finished run (`.tables`, `.figures`, `.folder`).

        Options are those of the command line (interp.experiments.options.RunOptions): out, device, fresh, export, ….
        """
        from interp.experiments.options import RunOptions
        from interp.experiments.runner import run_experiment

        return run_experiment(self, RunOptions(**options))

    def configuration(self) -> dict[str, Any]:
        """Returns all fields as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self), default=str))
