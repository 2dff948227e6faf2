"""The tables of the training_memory experiment."""

from interp.estimates import ESTIMATE
from interp.tables import Schemas, TableSchema, may_lack, schema_of


class Updates(TableSchema):
    """One update of a training."""

    condition: str
    learning_rate: float
    training_seed: int
    exposure: int
    """The pass that it is part of, from 1 on."""
    update: int
    loss_nats: float = may_lack()
    """Mean loss per token before it; NaN where training was stopped."""
    gradient_norm: float = may_lack()
    stopped: str
    """Why training was stopped here; empty where it went on."""


class Recognition(TableSchema):
    """One studied sentence against one foil, after a number of exposures."""

    condition: str
    learning_rate: float
    training_seed: int
    exposures: int
    item_id: str
    foil: str
    """other: of its own kind, not studied; changed: itself with one word replaced; natural: a sentence of the news."""
    nats_seen: float
    """Mean −ln p of the studied sentence's tokens."""
    nats_foil: float
    margin_nats: float
    is_recognised: float
    """1 where the studied sentence has the lower loss, 0.5 where both are equal."""


class Recall(TableSchema):
    """The greedy completion of one studied sentence's first half, compared with its second half."""

    condition: str
    learning_rate: float
    training_seed: int
    exposures: int
    item_id: str
    n_tokens: int
    """Tokens of the second half."""
    exact: float
    """Share of places with the right token."""
    rouge_second: float
    """ROUGE-L (F) of the tokens of the second halves."""
    rouge_released: float
    """The same with the given first half in both, as the released code scores it."""
    rouge_floor: float
    """What that gives to a completion of no token at all."""
    rouge_of_another: float
    """ROUGE-L of the completion and another sentence's second half: chance."""


class LastingRecognition(Recognition):
    """As recognition, after further updates on other text."""

    updates_since: int
    """Updates on other text; −1 is before any study."""


class LastingRecall(Recall):
    """As recall, after further updates on other text."""

    updates_since: int


class LayersRecognition(Recognition):
    """As recognition, with some parameters reset to their original values."""

    taken_back: str
    """Which layers have their first weights again."""
    control: bool
    """Whether instead as large a share of all parameters has, taken at random."""
    share: float
    """Of the squared change of all parameters."""
    n_layers: int


class LayersRecall(Recall):
    """As recall, with some parameters reset to their original values."""

    taken_back: str
    control: bool
    share: float
    n_layers: int


class Values(TableSchema):
    """One value of an annual series, or of a null, against nearby values."""

    series: str
    year: int
    in_window: bool
    instruction: str
    """none, or ignore: to answer without what is known of later years."""
    null: str
    """none: the true value; another year: another year's value; random walk: a made-up series' value."""
    value: str
    logp_nats: float
    margin_nats: float
    """ln p of the value less the mean of those 1, 5 and 20 percent beside it."""
    rank_share: float
    """Share of those that are less likely; chance is 0.5."""
    n_candidates: int


class Duplicates(TableSchema):
    """One text whose number of duplicates in the training data is known, read by one checkpoint."""

    checkpoint: str
    """The revision's name, the twin's, or the model's own."""
    is_twin: bool
    """Whether it was trained without the texts."""
    off: str
    """Which heads are switched off: none, retrieval, induction, or as many random ones of the same layers."""
    draw: int
    """Which random ones."""
    text_id: str
    duplicates: int
    place: str
    """start: at the beginning of the window; offset: behind news text; copied: behind itself and the same news text."""
    nats_seen: float
    nats_foil: float = may_lack()
    margin_nats: float = may_lack()
    is_recognised: float = may_lack()
    exact: float
    rouge_second: float


class SwitchedOff(TableSchema):
    """The heads that are ablated in one checkpoint."""

    checkpoint: str
    is_twin: bool
    off: str
    draw: int
    heads: str
    """As layer-head, best first."""


_RATES = {"condition": str, "learning_rate": float, "exposures": int}
_TWO = {name: float for stem in ("margin", "recognised") for name in (stem, f"{stem}_ci_low", f"{stem}_ci_high")}
_FOUR = {
    name: float
    for stem in ("second", "exact", "released", "another", "floor")
    for name in (stem, f"{stem}_ci_low", f"{stem}_ci_high")
}
_COUNTS = {"n": int, "n_rows": int}
_READ = {"checkpoint": str, "is_twin": bool, "duplicates": int, "place": str, "measure": str}
_TAKEN = {"learning_rate": float, "taken_back": str, "control": bool, "share": float}

SCHEMAS: Schemas = {
    "updates": Updates, "recognition": Recognition, "recall": Recall, "lasting_recognition": LastingRecognition,
    "lasting_recall": LastingRecall, "layers_recognition": LayersRecognition, "layers_recall": LayersRecall, "values": Values,
    "duplicates": Duplicates, "switched_off": SwitchedOff,
    "recognised": schema_of("Recognised", **_RATES, foil=str, **_TWO, **_COUNTS),
    "recalled": schema_of("Recalled", **_RATES, **_FOUR, **_COUNTS),
    "lasting": schema_of(
        "Lasting", learning_rate=float, measure=str, updates_since=int, **ESTIMATE,
    ),
    "carriers": schema_of("Carriers", **_TAKEN, measure=str, **ESTIMATE),
    "known_values": schema_of("KnownValues", in_window=bool, instruction=str, null=str, **ESTIMATE, rank_share=float),
    "recall_gains": schema_of("RecallGains", **_RATES, minus=str, **ESTIMATE),
    "lasting_changes": schema_of("LastingChanges", learning_rate=float, measure=str, updates_since=int, **ESTIMATE),
    "by_duplicates": schema_of("ByDuplicates", **_READ, off=str, **ESTIMATE),
    "duplicate_effects": schema_of("DuplicateEffects", **_READ, effect=str, **ESTIMATE),
}  # fmt: skip
