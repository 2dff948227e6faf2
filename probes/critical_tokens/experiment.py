"""The critical-token experiment: its settings, and how its parts are put together. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from interp.errors import ArgumentError
from interp.experiments.experiment import Experiment, Finding, WorkUnit
from interp.models.identity import ModelFacts
from probes.critical_tokens.plan import plan_units

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from interp.models.language import LanguageModel
    from interp.tables import Schemas, Tables


@dataclass(frozen=True, kw_only=True)
class CriticalTokens(Experiment):
    """Which generated tokens decide whether the answer comes out right?"""

    name: ClassVar[str] = "critical_tokens"
    summary: ClassVar[str] = "generated tokens that decide whether the answer is right"
    paper: ClassVar[str] = (
        "Lin, Liang, Xu, Lin, Wang, Luo, Shi, Li, Yang, Tu 2024, Critical Tokens Matter: Token-Level Contrastive Estimation Enhances "
        "LLM's Reasoning Capability, arXiv:2411.19943"
    )
    schema_version: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = ("forks", "ragged")
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "quick": {
            "calibration_problems": 2,
            "n_trajectories": 4,
            "max_problems": 16,
            "scan_rollouts": 12,
            "replacement_rollouts": 0,
            "contrastive_examples": 0,
        },
        "paper": {
            "definitions": ("paper",),
            "method": "brute",
            "n_trajectories": 100,
            "temperature": 0.5,
            "top_p": 0.95,
        },
    }

    levels: tuple[str, ...] = ("arithmetic-2-5", "arithmetic-1-9", "tally-3-1", "lookup-4-0")
    """Problems to calibrate on, written family-size-difficulty: families arithmetic, lookup, tally and words."""
    task_file: Path | None = None
    """GSM8K or MATH problems of your own, one JSON object a line, in place of the generated ones."""
    task_format: Literal["gsm8k", "math"] = "gsm8k"
    """How the lines of --task-file are read."""
    examples: Path | None = None
    """Text of worked examples to put before each problem of --task-file."""
    percent_tolerance: bool = False
    """Take answers that are 100 times too large or small as right too, as the paper's script does."""
    grader: str | None = None
    """Your own grader of --task-file, module:function, called as function(problem, response) -> bool | None."""
    prompt_format: Literal["auto", "plain", "chat"] = "auto"
    """Whether problems of --task-file are put through the model's chat template; auto: if it has one."""
    template_args: tuple[str, ...] = ()
    """Arguments of the chat template, NAME=VALUE."""
    shots: int = 6
    """Worked examples before each generated problem."""
    calibration_problems: int = 4
    """Problems per level that tell whether a level is usable (success between 5% and 95%)."""
    responses_per_problem: int = 16
    """Responses to each problem; they estimate V_0 and are where trajectories come from."""
    calibrate_only: bool = False
    """Stop after calibration: which levels does this model sometimes solve?"""
    max_problems: int = 40
    """Problems per level to look through for trajectories."""
    n_trajectories: int = 10
    """Wrong trajectories to analyse, one per problem."""
    temperature: float = 0.6
    """Sampling temperature of responses and rollouts; what the model's own generation_config asks for is not taken."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with this probability; 1 keeps all."""
    top_k: int | None = None
    """Keep this many tokens; all if not given."""
    max_new_tokens: int = 48
    """Longest response, in tokens."""
    definitions: tuple[Literal["paper", "cliff", "pivot"], ...] = ("paper", "cliff", "pivot")
    """paper: first token with 0 right of --rule-rollouts and less than 5% after every later one; cliff: a proven drop;
    pivot: a proven drop or rise."""
    method: Literal["recycled", "brute"] = "recycled"
    """brute: --rule-rollouts independent rollouts after every token, nothing shared: the oracle."""
    scan_rollouts: int = 24
    """Draws from every position for the curve of V."""
    rule_rollouts: int = 64
    """Draws per position of the paper's rule and of the brute way."""
    effect: float = 0.2
    """Change of V that is sought; tokens with 1 − p below it cannot have it and are not tested."""
    margin: float = 0.1
    """Largest change of V that does not count: a discovery claims more than this."""
    alpha: float = 0.05
    """Rate of false discoveries over a trajectory, and error of every interval (0.05: 95%)."""
    max_pairs: int = 64
    """Most fresh pairs of rollouts per candidate token."""
    exact_tokens: int = 3
    """Last tokens of a trajectory at which V is also bounded by the tree of continuations, as a check (0: none)."""
    exact_nodes: int = 32
    """Most continuations to read for one such bound."""
    replacement_rollouts: int = 16
    """Rollouts per condition of the causal test (0: none)."""
    contrastive_examples: int = 48
    """Right and wrong responses that each adapter is trained on (0: no contrastive estimation)."""
    contrastive_epochs: int = 2
    """Passes over them."""
    contrastive_learning_rate: float = 1e-3
    """Learning rate of the adapters. The paper's is 3e-4, over far more steps."""
    contrastive_beta: float = 1.0
    """Weight β of the negative model."""
    positive_adapter: Path | None = None
    """Folder of a LoRA adapter to take as the positive model; trained here if not given."""
    negative_adapter: Path | None = None
    """Folder of a LoRA adapter to take as the negative model; trained here if not given."""
    sampler: Literal["own", "vllm"] = "own"
    """vllm: rollouts by vLLM (on a GPU; not yet run against it). The draws differ from the toolkit's own."""
    batch_rows: int = 48
    """Rollouts written at one time; changes speed and memory, no number."""

    def __post_init__(self) -> None:
        """Refuses settings that cannot be meant."""
        from probes.critical_tokens.checks import check_settings

        check_settings(self)

    # ------------------------------------------------------------------ plan

    def schemas(self) -> "Schemas":
        """Returns the schema of every table."""
        from probes.critical_tokens.tables import SCHEMAS

        return SCHEMAS

    @property
    def writes_chats(self) -> bool:
        """Whether problems may go through the model's chat template: those of a file do."""
        return self.task_file is not None and self.prompt_format != "plain"

    def input_files(self) -> Sequence[Path]:
        """Returns the user's grader, problem file, examples and adapters."""
        from probes.critical_tokens.grader import grader_file

        own = () if self.grader is None else (grader_file(self.grader),)
        return [
            path
            for path in (*own, self.task_file, self.examples, self.positive_adapter, self.negative_adapter)
            if path is not None
        ]

    def check_model(self, facts: ModelFacts) -> None:
        """Raises ArgumentError when problems cannot be read or a response does not fit the model."""
        from probes.critical_tokens.checks import check_tasks

        check_tasks(self)
        if self.sampler == "vllm":
            from interp.models.vllm_sampling import check_vllm

            check_vllm()
        window = facts.context_window
        if window is not None and self.max_new_tokens >= window:
            raise ArgumentError(
                f"Responses of {self.max_new_tokens} tokens do not fit {facts.name}, which reads {window}: use --max-new-tokens "
                f"{window // 2}."
            )

    def plan(self, facts: ModelFacts, measured: "Tables") -> Sequence[WorkUnit]:
        """Returns the units to find trajectories, then those that analyse them, then those that test what was found."""
        return plan_units(self, facts.name, measured)

    # ------------------------------------------------------------------ measure

    def measure(self, model: "LanguageModel", unit: WorkUnit) -> "Mapping[str, pd.DataFrame]":
        """Returns the unit's rows."""
        from probes.critical_tokens.units import measure_unit

        return measure_unit(self, model, unit)

    # ------------------------------------------------------------------ results

    def summarise(self, facts: ModelFacts, measured: "Tables") -> "Mapping[str, pd.DataFrame]":
        """Returns the summary tables."""
        from probes.critical_tokens.results import summarise_all

        return summarise_all(self, facts.name, measured)

    def figures(self, tables: "Tables") -> "Mapping[str, go.Figure]":
        """Returns the figures."""
        from figures.critical_tokens import draw_all

        return draw_all(tables)

    def findings(self, tables: "Tables") -> Sequence[Finding]:
        """Returns the report's sentences."""
        from probes.critical_tokens.findings import find_all

        return find_all(self, tables)

    def documents(self, tables: "Tables") -> Mapping[str, str]:
        """Returns preference data as JSON lines that TRL reads."""
        from probes.critical_tokens.preferences import preference_documents

        return preference_documents(tables)
