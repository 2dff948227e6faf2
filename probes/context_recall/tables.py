"""The summary tables of a context_recall run, column by column, and the schema of every table."""

from interp.tables import Schemas, TableSchema, may_lack
from probes.context_recall.measured_tables import (
    Answers,
    HeadMasses,
    HeadScores,
    Items,
    Kept,
    LayerMargins,
    Replaced,
    TokenNats,
)


class Recall(TableSchema):
    """A task at one size: shares and means with intervals over contexts, and chance."""

    task: str
    cell: str
    kind: str
    is_length: bool
    chance: float
    right: float
    right_ci_low: float = may_lack()
    right_ci_high: float = may_lack()
    said: float
    said_ci_low: float = may_lack()
    said_ci_high: float = may_lack()
    margin_nats: float
    margin_nats_ci_low: float = may_lack()
    margin_nats_ci_high: float = may_lack()
    gain_nats: float = may_lack()
    """ln p of the answer minus that in the same context without its pair."""
    gain_nats_ci_low: float = may_lack()
    gain_nats_ci_high: float = may_lack()
    n: int
    """Contexts."""
    n_rows: int
    is_floor: bool
    """Whether chance was expected before the run."""


class Stages(TableSchema):
    """The first stage at which the questions of a task fail: shares that add up to 1, with intervals over contexts."""

    task: str
    stage: str
    """said; bound, not said; found, not bound; not found; and said or bound without having been found."""
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class Found(TableSchema):
    """Shares of questions that were found, bound and said, with chance for the first two."""

    task: str
    step: str
    chance: float = may_lack()
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class Causes(TableSchema):
    """What a condition costs a task, against the intact model, and beyond its control."""

    task: str
    condition: str
    control: str
    """Random heads of the same layers; as many other tokens cut; as many keys kept at random; or the whole model, for a question that is
    moved."""
    quantity: str
    drop: float
    drop_ci_low: float = may_lack()
    drop_ci_high: float = may_lack()
    control_drop: float
    beyond: float
    """The drop minus the control's: the interaction."""
    beyond_ci_low: float = may_lack()
    beyond_ci_high: float = may_lack()
    n: int
    n_rows: int


class Survival(TableSchema):
    """How much of the right pair a policy keeps, compared with as many random keys."""

    task: str
    condition: str
    quantity: str
    """pair_kept, value_kept or kept_share: see the table kept."""
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    random: float = may_lack()
    """The same of keys kept at random; NaN, as what follows, where it is they."""
    beyond: float = may_lack()
    """The value minus that of random keys, paired by question."""
    beyond_ci_low: float = may_lack()
    beyond_ci_high: float = may_lack()
    n: int
    n_rows: int


class Layers(TableSchema):
    """Share of questions whose right value is ahead after a layer, by hops and direction."""

    task: str
    hops: int
    direction: str
    layer: int
    chance: float
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class Heads(TableSchema):
    """A head in the ranking of its role."""

    role: str
    rank: int
    layer: int
    head: int
    score: float = may_lack()
    is_in_role: bool
    """Whether it is among those that are switched off."""
    old_mass: float = may_lack()
    """Forgetting: its mean attention on the replaced pair of updated keys, and on the newest one."""
    new_mass: float = may_lack()


class Lengths(TableSchema):
    """Recall against length: measured shares, and a curve smoothed so that it never rises (isotonic regression)."""

    context_tokens: int
    context_chars: float
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    falling: float
    falling_ci_low: float = may_lack()
    falling_ci_high: float = may_lack()
    chance: float
    n: int


class Effective(TableSchema):
    """The longest measured length at which that curve is at least the threshold, in tokens and in characters; 0 if none."""

    threshold: float
    unit: str
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    longest: float
    """The longest length that was measured: the limit is at least this where both are equal."""


class Order(TableSchema):
    """Which part came first, by text, over four presentations."""

    text: str
    distance: str
    quantity: str
    """content: logit of the right label minus the other's, mean of four presentations; right: share of sentences pairs whose mean is
    above 0; one right: share of single presentations that are right; label: logit of A minus that of B; place: of the label shown
    first minus the other's."""
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class Slices(TableSchema):
    """Surprisal of tokens that complete a bigram seen before, and of others, by condition and by the bigram's frequency elsewhere."""

    condition: str
    slice: str
    frequency: str
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    change: float
    """Nats against the whole model."""
    change_ci_low: float = may_lack()
    change_ci_high: float = may_lack()
    n: int
    n_rows: int


class SliceCauses(TableSchema):
    """What replacing the first occurrence, or ablating heads, costs repeated bigrams beyond its control."""

    condition: str
    control: str
    value: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


SCHEMAS: Schemas = {
    "head_scores": HeadScores, "items": Items, "answers": Answers, "layer_margins": LayerMargins, "head_masses": HeadMasses,
    "token_nats": TokenNats, "replaced": Replaced, "kept": Kept, "recall": Recall, "found": Found, "stages": Stages,
    "causes": Causes, "survival": Survival, "layers": Layers, "heads": Heads, "lengths": Lengths, "effective": Effective,
    "order": Order, "slices": Slices, "slice_causes": SliceCauses,
}  # fmt: skip
