"""The measured tables of a context_recall run, column by column."""

import pandera.pandas as pa

from interp.tables import TableSchema, fraction, may_lack


class HeadScores(TableSchema):
    """One head on one of the texts used to find heads."""

    text_id: str
    layer: int = pa.Field(ge=0)
    head: int = pa.Field(ge=0)
    kv_head: int = pa.Field(ge=0)
    role: str
    """retrieval: share of an answer's tokens that are the head's top key; induction: weight behind earlier places of the token."""
    score: float = fraction()


class Cell(TableSchema):
    """What every row on a question begins with."""

    task: str
    cell: str
    """The options that the task was called with."""
    is_length: bool
    """Whether it belongs to the curve of recall against length."""
    sample_id: str
    """A context; intervals resample these."""
    question: int = pa.Field(ge=0)


class Items(Cell):
    """One question, read by the intact model: its properties, and whether the answer was found, bound and said."""

    kind: str
    """Which of a task's kinds of question: updated or kept, the place of an answer in a list, the form of a needle."""
    hops: int
    direction: str
    threads: int
    gap: int
    """Fillers between the pairs and the question."""
    distance_words: int
    """Words from one sentence of an order task to the other."""
    n_pairs: int
    key_distance_tokens: int
    """Tokens from the right key to the answer; -1 without pairs."""
    depth_fraction: float = may_lack()
    """Where in the context the right key stands."""
    context_tokens: int
    context_chars: int
    question_overlap: float = may_lack()
    """Share of the right key's tokens that the question repeats."""
    bos_count: int
    """Special tokens that the context begins with."""
    template: str
    """The question as it is read, answer prefix included."""
    answer: str
    written: str
    """The likeliest token behind the question."""
    pair_mass: float = may_lack()
    """Attention of retrieval heads from the answer's position on the right pair, mean over heads."""
    other_mass: float = may_lack()
    """The same on that other pair which has the most."""
    is_found: float = may_lack()
    """1 where the right pair has more of it than any other, else 0; NaN without heads."""
    is_bound: bool
    """Whether the right value is likelier than every other value of the context."""
    is_said: bool
    """Whether it is the greedy answer."""
    decided_layer: int
    """The layer from which on the right value stays ahead in the residual stream; -1 where it is not at the end."""
    is_lost_late: float = may_lack()
    """1 where it is ahead after a layer of the later half and not at the end."""


class Answers(Cell):
    """One question under one condition."""

    condition: str
    """whole; without the pair; without retrieval, induction or random heads; cut to the pair, the others, the sink, elsewhere;
    moved by some positions; kept by a policy."""
    draw: int
    kind: str
    first_margin_nats: float
    """ln p of the likeliest right value's first token minus that of the likeliest other value of the context."""
    first_old_margin_nats: float = may_lack()
    """The right value's first token against that of the value it replaced."""
    is_first_right: bool
    """Whether the first margin is above 0."""
    n_values: int
    chance: float
    """Right values over all values."""
    logp_nats: float = may_lack()
    """ln p of the likeliest right value, all its tokens; this and what follows for the whole model, with and without the pair. Of what
    policies keep there is this and the greedy answer."""
    margin_nats: float = may_lack()
    """Minus that of the likeliest other value of the context."""
    rank: float = may_lack()
    """1 where no other value is as likely; equal ones count against it."""
    is_right: float = may_lack()
    """1 at rank 1, else 0."""
    is_said: float = may_lack()
    """1 where the greedy answer is a right value, else 0."""


class Kept(Cell):
    """What a policy keeps of one context when one question on it is answered."""

    condition: str
    """kept by a policy."""
    draw: int
    kind: str
    context_tokens: int
    budget_keys: int
    """Keys that it may keep of them."""
    kept_share: float = fraction(nullable=True)
    """Share of the context's keys that a head may read from the answer's position, mean over the heads of all layers that drop any."""
    pair_kept: float = fraction(nullable=True)
    """The same of the right pair, key to value."""
    value_kept: float = fraction(nullable=True)
    """The same of the value alone."""
    refusal: str
    """Why the policy could not act; empty where it did."""


class LayerMargins(Cell):
    """The margin of first tokens read from the residual stream after one layer."""

    layer: int
    hops: int
    direction: str
    margin_logits: float
    is_right: bool
    chance: float


class HeadMasses(Cell):
    """One head's attention from the answer's position."""

    layer: int
    head: int
    kind: str
    gold_mass: float = fraction()
    other_mass: float = fraction()
    """Mean over the other pairs."""
    old_mass: float = fraction(nullable=True)
    """On the pair whose value was replaced."""


class TokenNats(TableSchema):
    """One token of natural text under one condition."""

    text_id: str
    condition: str
    draw: int
    position: int
    is_hit: bool
    """Whether it completes a bigram that occurred before in the text."""
    gap_tokens: int
    reference_count: int
    """How often the bigram occurs in other articles."""
    surprisal_nats: float


class Replaced(TableSchema):
    """One repeated bigram, in a text in which another token replaces its first occurrence."""

    text_id: str
    position: int
    gap_tokens: int
    surprisal_nats: float
    replaced_nats: float
    bystander_change_nats: float = may_lack()
