"""The tables of the byte_bias experiment."""

from interp.tables import Schemas, TableSchema, may_lack


class Places(TableSchema):
    """One cut of one prompt, continued in one way: the way's prediction of the next byte."""

    prompt_id: str
    domain: str
    cut_bytes: int
    """Bytes of the prompt."""
    prompt: str
    """Its last characters."""
    continuation: str
    """The true continuation, up to the end of the word."""
    is_token_border: bool
    """Whether the tokens of the prompt are the first tokens of the whole text."""
    way: str
    """exact; naive (after the prompt's own tokens); heal n (the last n tokens are chosen again); beam n (n covers are kept)."""
    true_byte_nats: float
    """−ln of the probability of the true next byte."""
    kl_nats: float
    """KL(exact ‖ way), over the next byte and the end."""
    missed_share: float
    """Share of the prompt's exact probability on token sequences that the way ignores."""
    n_covers: int
    """Number of token sequences that the exact sum continues from."""
    invalid_share: float
    """Share of the model's probability on sequences that the tokenizer never produces."""


class Continuations(TableSchema):
    """One cut of one prompt: the probability of the whole true continuation, after the prompt's own tokens and exactly."""

    prompt_id: str
    domain: str
    cut_bytes: int
    prompt: str
    continuation: str
    is_token_border: bool
    typed_nats: float
    """−ln p of the continuation's own tokens after the prompt's own."""
    covers_nats: float
    """−ln of its probability over all covers of the prompt and of the whole text, by the model's own p; the ratio uses this."""
    exact_nats: float
    """−ln P of its bytes, renormalised over what the tokenizer produces."""
    log10_ratio: float
    """log10 of the probability over all covers divided by that as typed: at 3, the prompt as typed makes it 1000 times less likely."""


class Ways(TableSchema):
    """One way in one domain, at token borders or elsewhere: means over prompts, with bootstrap intervals over prompts."""

    domain: str
    is_token_border: bool
    way: str
    nats: float
    nats_ci_low: float = may_lack()
    nats_ci_high: float = may_lack()
    kl: float
    kl_ci_low: float = may_lack()
    kl_ci_high: float = may_lack()
    missed: float
    missed_ci_low: float = may_lack()
    missed_ci_high: float = may_lack()
    n: int
    """Prompts."""
    n_rows: int
    """Cuts."""


class Ratios(TableSchema):
    """log10 of the continuation's probability over all covers divided by that as typed: mean, with bootstrap interval over prompts."""

    domain: str
    is_token_border: bool
    log10_ratio: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class Words(TableSchema):
    """A word of prose: letters between spaces and punctuation."""

    text_id: int
    word_index: int
    word: str
    n_pieces: int
    """Its tokens."""
    is_capitalised: bool
    count_elsewhere: int
    """How often it occurs in the texts that were not read, in this spelling."""
    per_million: float
    """The same per million words."""
    surprisal_nats: float
    """−ln p of its tokens and of a boundary after them, given that a boundary precedes it (mode `boundary`)."""
    is_likeliest: bool
    """Whether each of its tokens is the most likely one, so that greedy decoding produces the word."""


class Pieces(TableSchema):
    """Words of one frequency and one number of pieces: means over words, with bootstrap intervals over texts."""

    frequency: str
    """Occurrences elsewhere, or all."""
    pieces: str
    """1, 2 or 3+."""
    surprisal_nats: float
    surprisal_nats_ci_low: float = may_lack()
    surprisal_nats_ci_high: float = may_lack()
    likeliest: float
    """Share of words that greedy decoding produces."""
    likeliest_ci_low: float = may_lack()
    likeliest_ci_high: float = may_lack()
    n: int
    """Texts."""
    n_rows: int
    """Words."""


class Fragmentation(TableSchema):
    """What words of several pieces cost beyond one-piece words of the same frequency class and capitalisation.

    Words that occur nowhere else are left out: nothing says how rare they are.
    """

    measure: str
    """surprisal_nats or is_likeliest."""
    difference: float = may_lack()
    """Mean over words of several pieces, minus that of one-piece words of the same frequency class and capitalisation."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    unmatched: float = may_lack()
    """The same without matching."""
    n: int
    n_rows: int


class Concepts(TableSchema):
    """A name, a word of several tokens or a free run, probed at its first token for one later token, at one depth with one map."""

    text_id: int
    span: str
    kind: str
    """name (capitalised words that begin no sentence); word (one, of lower case); free (words of lower case, of one token each)."""
    offset: int
    """How many tokens ahead: 1 is the next one."""
    depth: int
    """Number of layers applied before the state is read: 0 is the token alone."""
    map: str
    """linear; shuffled: fitted to the states of other positions, the control."""
    is_likeliest: bool
    """Whether the true token has the highest logit in the vocabulary."""
    above_share: float = may_lack()
    """Share of the other spans of the same kind whose true token has a lower logit here: 0.5 is chance."""
    nats: float
    """−ln p of the true token."""
    count_elsewhere: int
    """How often the words (of a free run, those up to the token) occur in the texts that were not read."""


class ConceptDepths(TableSchema):
    """Spans of one kind at one depth: means, with bootstrap intervals over texts."""

    kind: str
    offset: int
    depth: int
    map: str
    above: float = may_lack()
    """Mean of above_share."""
    above_ci_low: float = may_lack()
    above_ci_high: float = may_lack()
    likeliest: float
    """Share of spans whose true token is the most likely."""
    likeliest_ci_low: float = may_lack()
    likeliest_ci_high: float = may_lack()
    n: int
    """Texts."""
    n_rows: int
    """Spans."""


class ConceptGaps(TableSchema):
    """The difference between names, or words of several tokens, and equally frequent free runs."""

    kind: str
    offset: int
    depth: int
    difference: float = may_lack()
    """Mean above_share, minus that of free runs in the same frequency class."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    unmatched: float = may_lack()
    """The same without matching."""
    n: int
    n_rows: int


SCHEMAS: Schemas = {
    "places": Places, "continuations": Continuations, "words": Words, "concepts": Concepts,
    "ways": Ways, "ratios": Ratios, "pieces": Pieces, "fragmentation": Fragmentation,
    "concept_depths": ConceptDepths, "concept_gaps": ConceptGaps,
}  # fmt: skip
