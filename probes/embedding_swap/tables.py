"""Schemas of the experiment's tables."""

from interp.tables import Schemas, TableSchema, fraction, may_lack


class Places(TableSchema):
    """One token of one text, read with one kind of rows."""

    text_id: int
    kind: str
    """plain; cipher (tokens of the class change places); gaussian (rows drawn with the words' mean and covariance); rare (rows of words
    that no text has)."""
    among: str
    share: float = fraction()
    """Share of the class that has other rows; 0 for plain."""
    position: int
    token_id: int
    token: str
    is_changed: bool
    """Whether the token has another row; in plain texts, whether it is of the class."""
    seen: str
    """new in the text; again; recall (seen before, behind the same token)."""
    surprisal_nats: float


class Lens(TableSchema):
    """The logit lens on tokens with other rows, after one layer: a mean over positions of one text."""

    kind: str
    text_id: int
    layer: int
    where: str
    """predicting: at the token before; reading: at the token itself."""
    which: str
    """plain: the token that stands in the text; in its place: the one whose row it has; either `, of another place`: the control."""
    seen: str
    margin_nats: float
    """Logit of that token minus the mean logit of 16 others of the class, after the final norm."""
    n_places: int


class Ciphers(TableSchema):
    """One kind of rows: added cost of tokens against the plain text, by whether they have other rows and occurred before."""

    kind: str
    among: str
    share: float = fraction()
    is_changed: bool
    seen: str
    """new, again, recall, or any."""
    gap_nats: float
    """Surprisal minus that of the same token in the plain text: mean, with its bootstrap interval over texts."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    plain_nats: float
    """Mean surprisal in the plain text."""
    n: int
    n_rows: int


class Course(TableSchema):
    """The gap of tokens with other rows by position in the text."""

    kind: str
    among: str
    share: float = fraction()
    seen: str
    position_low: int
    position_high: int
    gap_nats: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class LensLayers(TableSchema):
    """Means of the lens over texts, with bootstrap intervals."""

    kind: str
    layer: int
    where: str
    which: str
    seen: str
    margin_nats: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class Behaviour(TableSchema):
    """ln P of one word at one test, after one frame with the word in its slot."""

    revision: str
    kind: str
    """known (a word of the list); rare (a token that no text has); gaussian (a drawn row)."""
    word: str
    word_class: str
    """Part of speech of a known word; none for the others."""
    frame_class: str
    frame: int
    test_class: str
    test: int
    log_p: float


class Readouts(TableSchema):
    """The part of speech that a linear probe decodes for one word in one frame after one layer."""

    revision: str
    kind: str
    """known (held-out words in frames of their own part of speech); conflict (in other frames); rare; gaussian."""
    word: str
    frame_class: str
    frame: int
    layer: int
    place: str
    """word: at the word; before: at the token before it, where the frame alone speaks."""
    is_frame_class: bool
    """Whether the readout says what the frame says."""
    is_word_class: bool
    """Whether it says what the word is; false for words that are none of these."""
    shuffled_share: float = fraction()
    """Share of readouts trained on shuffled labels that say what the frame says: chance."""


class Effects(TableSchema):
    """Gain in ln P of a word where a test requires the frame's part of speech, or the word's own."""

    revision: str
    kind: str
    source: str
    """frame; word."""
    effect_nats: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    """Words."""
    n_rows: int


class Accuracy(TableSchema):
    """Share of readouts that give the frame's part of speech, and the word's own, by layer."""

    revision: str
    kind: str
    layer: int
    place: str
    frame_share: float = fraction()
    frame_share_ci_low: float = may_lack()
    frame_share_ci_high: float = may_lack()
    word_share: float = fraction(nullable=True)
    """NaN for words without a part of speech of their own."""
    word_share_ci_low: float = may_lack()
    word_share_ci_high: float = may_lack()
    chance: float = fraction()
    """Mean share of readouts with shuffled labels."""
    n: int
    n_rows: int


class Rebuilt(TableSchema):
    """One held-out token with its row rebuilt by one rule, in one passage."""

    token_id: int
    token: str
    pieces: str
    n_pieces: int
    rule: str
    """A rule; own: the token's own row; spelled: the text has the pieces in place of the token."""
    cosine: float = may_lack()
    """Between the rebuilt and the own row, both less the mean row of the vocabulary."""
    raw_cosine: float = may_lack()
    """Between the rows as they are."""
    token_nats: float
    """Surprisal of the token (its pieces, where it is spelled) with the rebuilt row on the way out."""
    after_nats: float
    """Mean surprisal of the tokens behind it, with the rebuilt row on the way in."""


class Rules(TableSchema):
    """One rule: means over held-out tokens, with bootstrap intervals over tokens."""

    rule: str
    cosine: float = may_lack()
    cosine_ci_low: float = may_lack()
    cosine_ci_high: float = may_lack()
    output_nats: float
    """How much more the token costs than with its own row."""
    output_nats_ci_low: float = may_lack()
    output_nats_ci_high: float = may_lack()
    input_nats: float
    """How much more a token behind it costs."""
    input_nats_ci_low: float = may_lack()
    input_nats_ci_high: float = may_lack()
    n: int
    n_rows: int


MEASURED: Schemas = {"places": Places, "lens": Lens, "behaviour": Behaviour, "readouts": Readouts, "rebuilt": Rebuilt}
SCHEMAS: Schemas = {
    **MEASURED, "ciphers": Ciphers, "course": Course, "lens_layers": LensLayers, "effects": Effects, "accuracy": Accuracy, "rules": Rules,
}  # fmt: skip
