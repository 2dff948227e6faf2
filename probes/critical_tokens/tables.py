"""The tables of the critical-token experiment: one class per table, one attribute per column."""

import pandera.pandas as pa
from pandera.typing import Series

from interp.tables import Schemas, TableSchema, fraction, may_lack


class Trajectories(TableSchema):
    """One response to a problem. first_error_position and n_wrong_steps are −1 where the task does not tell."""

    trajectory_id: str = pa.Field(unique=True)
    problem_id: str
    level: str
    draw: int
    outcome: str = pa.Field(isin=["right", "wrong", "unextracted"])
    ended: bool
    n_tokens: int
    first_error_position: int
    n_wrong_steps: int
    prompt_tokens: int
    prompt_format: str = pa.Field(isin=["plain", "chat"])
    own_sampling: str
    gold: str
    prompt: str
    text: str
    token_ids: Series[object]
    draw_probability: Series[object]


class Thoughts(TableSchema):
    """What a model that thinks wrote before one response, from behind the mark that begins it; it counts as the end of the prompt.

    `closed`: the model ended it itself; otherwise the closing mark was written for it when the budget was spent.
    """

    trajectory_id: str = pa.Field(unique=True)
    problem_id: str
    thinking_tokens: int = pa.Field(ge=1)
    """With the closing mark."""
    closed: bool
    thought_text: str
    token_ids: Series[object]


class Spines(TableSchema):
    """One token of an analysed trajectory, under the policy that wrote it."""

    trajectory_id: str
    position: int = pa.Field(ge=0)
    token_id: int
    token: str
    token_class: str
    p: float = fraction()
    draw_probability: float = fraction()
    reread_probability: float = fraction()
    rank: int = pa.Field(ge=0)
    entropy_nats: float = pa.Field(ge=0.0)
    surprisal_nats: float = pa.Field(ge=0.0)


class Branches(TableSchema):
    """A rollout that cost tokens: it keeps `kept` tokens of a trajectory and goes on by itself."""

    trajectory_id: str
    arm: str
    kept: int = pa.Field(ge=0)
    draw: int = pa.Field(ge=0)
    token: str
    """What is written in place of the trajectory's token."""
    outcome: str = pa.Field(isin=["right", "wrong", "unextracted"])
    ended: bool
    n_tokens: int = pa.Field(ge=1)
    token_ids: Series[object]


class Rollouts(TableSchema):
    """One draw from a number of kept tokens. branched_at: where it leaves the trajectory (its length: nowhere); a draw that
    leaves later than it starts is recycled from there.
    """

    trajectory_id: str
    arm: str
    kept: int = pa.Field(ge=0)
    draw: int = pa.Field(ge=0)
    branched_at: int = pa.Field(ge=0)
    right: bool


class Scans(TableSchema):
    """Result of the backward scan of a trajectory; critical_position is −1 if the rule finds none."""

    trajectory_id: str = pa.Field(unique=True)
    critical_position: int
    set_first: int
    set_last: int
    n_rollouts: int


class Exact(TableSchema):
    """Bounds on V after `kept` tokens from the tree of continuations, without sampling error."""

    trajectory_id: str
    kept: int = pa.Field(ge=0)
    low: float = fraction()
    high: float = fraction()
    n_nodes: int


class ContrastiveScores(TableSchema):
    """Log-probabilities of one token under the positive and negative adapters, and the contrastive score s (low: critical)."""

    trajectory_id: str
    position: int = pa.Field(ge=0)
    log_p_positive: float
    log_p_negative: float
    score: float = fraction()


class Levels(TableSchema):
    """Success at one level; the interval resamples problems."""

    level: str
    n_problems: int
    n_responses: int
    success: float = fraction()
    ci_low: float = fraction(nullable=True)
    ci_high: float = fraction(nullable=True)
    share_unextracted: float = fraction()
    n_right: int
    n_wrong: int
    n_unextracted: int
    share_unended: float = fraction()
    mean_tokens: float
    usable: bool


class Positions(TableSchema):
    """V after one token of an analysed trajectory, with a 95% Wilson interval over its independent draws.

    After the last token nothing is left to draw: V is the trajectory's own outcome, 0 from 0 to 0 by definition.
    """

    trajectory_id: str
    position: int = pa.Field(ge=0)
    token_id: int
    token: str
    token_class: str
    p: float = fraction()
    entropy_nats: float = pa.Field(ge=0.0)
    value_before: float = fraction()
    value: float = fraction()
    ci_low: float = fraction()
    ci_high: float = fraction()
    n_rollouts: int = pa.Field(ge=0)
    n_recycled: int = pa.Field(ge=0)
    certified: bool


class Critical(TableSchema):
    """One critical token by one definition; drop is NaN for the paper's, whose rule does not measure it."""

    trajectory_id: str
    definition: str
    position: int = pa.Field(ge=0)
    token_id: int
    token: str
    token_class: str
    p: float = fraction()
    entropy_nats: float
    drop: float = may_lack()
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    log_e_value: float = may_lack()
    n_pairs: int
    set_first: int
    set_last: int
    set_positions: Series[object]
    first_error_position: int
    relative_to_error: int
    """position − first_error_position; −999 where no error position is known."""


class Candidates(TableSchema):
    """Evidence of the fresh pairs on every candidate token, critical or not."""

    trajectory_id: str
    position: int = pa.Field(ge=0)
    p: float = fraction()
    n_pairs: int
    value_without: float = fraction()
    value_after: float = fraction()
    drop: float
    ci_low: float
    ci_high: float
    log_e_drop: float
    log_e_rise: float
    pairs_needed: int
    """Pairs it would take, on average, to prove a drop of the size sought at this token; −1 where no number does."""


class Replacement(TableSchema):
    """Pass@k after a forbidden or kept token, mean over trajectories; the interval resamples problems."""

    definition: str
    condition: str
    k: int
    pass_at_k: float = fraction()
    ci_low: float = fraction(nullable=True)
    ci_high: float = fraction(nullable=True)
    n_trajectories: int


class Agreement(TableSchema):
    """How well a cheap score finds the tokens that rollouts confirm; the intervals resample problems."""

    score: str
    auroc: float = fraction(nullable=True)
    auroc_ci_low: float = fraction(nullable=True)
    auroc_ci_high: float = fraction(nullable=True)
    average_precision: float = fraction(nullable=True)
    average_precision_ci_low: float = fraction(nullable=True)
    average_precision_ci_high: float = fraction(nullable=True)
    top1_hit: float = fraction(nullable=True)
    top1_ci_low: float = fraction(nullable=True)
    top1_ci_high: float = fraction(nullable=True)
    n_trajectories: int
    n_positive: int
    n_tokens: int


class Audit(TableSchema):
    """One built-in check."""

    check: str
    passed: bool
    value: float = may_lack()
    expected: str
    n: int
    meaning: str


class Cost(TableSchema):
    """Generated tokens of one stage on one trajectory, beside what 64 rollouts at every position would have cost."""

    trajectory_id: str
    stage: str
    n_branches: int
    n_draws: int
    generated_tokens: int
    brute_tokens: float


SCHEMAS: Schemas = {
    "trajectories": Trajectories,
    "spines": Spines,
    "branches": Branches,
    "rollouts": Rollouts,
    "scans": Scans,
    "exact": Exact,
    "contrastive": ContrastiveScores,
    "levels": Levels,
    "positions": Positions,
    "candidates": Candidates,
    "critical": Critical,
    "replacement": Replacement,
    "agreement": Agreement,
    "audit": Audit,
    "cost": Cost,
}
