"""The tables of a prediction_depth run, with a word on each column. A depth is a number of layers passed."""

from interp.estimates import ESTIMATE
from interp.tables import Schemas, TableSchema, fraction, may_lack, schema_of


class Tokens(TableSchema):
    """One prediction of one text through one lens: where it settles."""

    text_id: str
    position: int
    """Place of the token it is predicted from."""
    surprisal_nats: float
    """Of the token that really follows."""
    entropy_nats: float
    """Of the prediction."""
    is_right: bool
    """Whether the token that really follows is the likeliest."""
    lens: str
    """logit, tuned, shuffled (a control trained to say what is said elsewhere), or less unigram (log frequency subtracted)."""
    token_id: int
    """The likeliest token at the last depth."""
    token: str
    token_class: str
    log10_per_million: float
    """How frequent that token is in other texts."""
    settle_depth: int
    """Least depth from which on this token is the likeliest."""


class Depths(TableSchema):
    """One depth of one text through one lens: how far it is from the last depth; means over tokens."""

    text_id: str
    lens: str
    depth: int
    kl_nats: float
    """KL divergence of what this depth says from what the last one says."""
    agreement: float = fraction()
    """Share of tokens at which the likeliest token is that of the last depth."""
    common_share: float = fraction()
    """Share of likeliest tokens that are among the ten commonest."""
    revised_common_share: float = fraction()
    """Of these, the share that the last depth does not say."""
    n_tokens: int


class AnswerTokens(TableSchema):
    """One token of one answer through one lens, the answer's earlier tokens given."""

    question_id: str
    relation: str
    lens: str
    place: int
    """0: the answer's first token."""
    n_answer_tokens: int
    token_id: int
    log10_per_million: float
    surprisal_nats: float
    is_right: bool
    """Whether it is the likeliest token there."""
    settle_depth: int
    """Of the likeliest token there."""


class Readouts(TableSchema):
    """The first token of an answer, decoded at one depth with one lens."""

    question_id: str
    relation: str
    way: str
    """A lens, or upper layers: the layers above run over the text's first token and this state alone."""
    depth: int
    agrees: bool
    """Whether the likeliest token is that of the last depth."""
    agrees_with_another: bool
    """Chance: whether it is that of another question."""
    is_right: bool


class Answers(TableSchema):
    """One question and one signal, available before the answer is generated, that may predict whether it is right."""

    question_id: str
    relation: str
    question: str
    answer: str
    signal: str
    score: float = may_lack()
    """The higher, the likelier to be right."""
    is_right: bool
    """Whether greedy decoding writes the answer."""
    readout_depth: int
    """Depth of the linear readout, chosen on the other questions."""


class ReadoutDepths(TableSchema):
    """One question and the linear probe at one depth, fitted on other questions."""

    question_id: str
    relation: str
    depth: int
    score: float = may_lack()
    is_right: bool


class Skips(TableSchema):
    """One text with layers skipped in one way."""

    text_id: str
    arm: str
    """drop_top, drop_lower_middle (first and last layers kept), stride, random."""
    schedule: str
    """Whether the number of layers falls with position, is constant, or rises; the same sum."""
    budget: float = fraction()
    mean_layers: float
    """Layers that a token passes."""
    change_nats: float
    """Mean surprisal less that with all layers."""
    early_change_nats: float
    """The same over the first half of the text."""
    late_change_nats: float
    agreement: float = fraction()
    """Share of tokens whose likeliest token stays."""


class Reweaving(TableSchema):
    """One text with the mean of earlier layers' states added, at strength beta."""

    text_id: str
    site: str
    added: str
    """earlier states, or a random direction of the same length."""
    beta: float
    change_nats: float
    agreement: float = fraction()


class Drafts(TableSchema):
    """One pass of the model over one text with drafts."""

    text_id: str
    domain: str
    """its own text (what the model writes), or news."""
    drafter: str
    step: int
    position: int
    accepted: int
    """Drafted tokens that were right; a pass gives one token more."""


class Recurrences(TableSchema):
    """One token, and whether it was among the candidates stored for the token before it."""

    text_id: str
    domain: str
    drafter: str
    position: int
    rank: int
    """Its place among the candidates, from 0; -1: none of them."""
    age_tokens: int
    """Tokens since these candidates were written; -1: never."""


class Written(TableSchema):
    """One text generated live with drafts, against plain greedy decoding."""

    text_id: str
    is_equal: bool
    n_tokens: int
    n_passes: int


MEASURED: Schemas = {
    "tokens": Tokens, "depths": Depths, "answer_tokens": AnswerTokens, "readouts": Readouts, "answers": Answers,
    "readout_depths": ReadoutDepths, "skips": Skips, "reweaving": Reweaving, "drafts": Drafts, "recurrences": Recurrences,
    "written": Written,
}  # fmt: skip
SCHEMAS: Schemas = {
    **MEASURED,
    "settled": schema_of("Settled", lens=str, grouping=str, group=str, **ESTIMATE),
    "contrasts": schema_of("Contrasts", contrast=str, lens=str, matched=bool, **ESTIMATE),
    "slopes": schema_of("Slopes", quantity=str, lens=str, **ESTIMATE),
    "quality": schema_of("Quality", lens=str, quantity=str, depth=int, **ESTIMATE),
    "ways": schema_of("Ways", way=str, quantity=str, depth=int, **ESTIMATE),
    "aurocs": schema_of("Aurocs", signal=str, depth=int, **ESTIMATE),
    "selective": schema_of("Selective", signal=str, coverage=float, **ESTIMATE),
    "skip_costs": schema_of("SkipCosts", budget=float, arm=str, schedule=str, quantity=str, **ESTIMATE),
    "schedules": schema_of("Schedules", budget=float, arm=str, against=str, **ESTIMATE),
    "woven": schema_of("Woven", site=str, added=str, beta=float, **ESTIMATE),
    "accepted": schema_of("Accepted", domain=str, drafter=str, **ESTIMATE),
    "hits": schema_of("Hits", domain=str, drafter=str, grouping=str, group=str, **ESTIMATE),
}
