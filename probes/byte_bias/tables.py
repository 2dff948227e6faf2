"""The tables of the byte_bias experiment."""

from interp.tables import Schemas, TableSchema, may_lack


class Places(TableSchema):
    """One end of a prompt, gone on from in one way: what the way expects as the next byte."""

    prompt_id: str
    domain: str
    cut_bytes: int
    """Bytes of the prompt."""
    prompt: str
    """Its last characters."""
    continuation: str
    """What really follows, up to the end of the word."""
    is_token_border: bool
    """Whether the tokens of the prompt are the first tokens of the whole text."""
    way: str
    """exact; naive (whatever follows the prompt's own tokens); heal n (the last n tokens are chosen again)."""
    true_byte_nats: float
    """−ln of the probability of the byte that really follows."""
    kl_nats: float
    """KL divergence of the way from the exact distribution over the next byte and the end."""
    missed_share: float
    """Share of the prompt's exact probability whose token sequences the way does not look at."""
    n_covers: int
    """Token sequences that the exact sum goes on from."""
    invalid_share: float
    """Share of the model's probability on sequences that the tokenizer never writes."""


class Continuations(TableSchema):
    """One end of a prompt: the probability of all that really follows, behind the prompt's tokens and exactly."""

    prompt_id: str
    domain: str
    cut_bytes: int
    prompt: str
    continuation: str
    is_token_border: bool
    typed_nats: float
    """−ln p of the continuation's own tokens behind the prompt's own."""
    covers_nats: float
    """−ln of the same probability by all covers of the prompt and of the whole, by the model's own p: what the ratio is taken with."""
    exact_nats: float
    """−ln P of its bytes, shared out over what the tokenizer writes."""
    log10_ratio: float
    """log10 of the probability by covers over as typed: 3 means that the prompt as typed makes it a thousand times less likely."""


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
    """Ends of prompts."""


class Ratios(TableSchema):
    """log10 of the probability of what really follows, by covers over as typed: mean and bootstrap interval over prompts of a domain."""

    domain: str
    is_token_border: bool
    log10_ratio: float
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    n: int
    n_rows: int


class Words(TableSchema):
    """A word of prose: letters between blanks and punctuation."""

    text_id: int
    word_index: int
    word: str
    n_pieces: int
    """Its tokens."""
    is_capitalised: bool
    count_elsewhere: int
    """How often it stands in the texts that were not read, in this spelling."""
    per_million: float
    """The same in a million words."""
    surprisal_nats: float
    """−ln p of its tokens and of a boundary behind them, given that a boundary stands before it (mode `boundary`)."""
    is_likeliest: bool
    """Whether each of its tokens is the likeliest one, so that greedy decoding writes the word."""


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
    """Share of words that greedy decoding writes."""
    likeliest_ci_low: float = may_lack()
    likeliest_ci_high: float = may_lack()
    n: int
    """Texts."""
    n_rows: int
    """Words."""


class Fragmentation(TableSchema):
    """What words of several pieces cost beyond words of one piece that are as frequent and as often capitalised.

    Words that occur nowhere else are left out: nothing says how rare they are.
    """

    measure: str
    """surprisal_nats or is_likeliest."""
    difference: float = may_lack()
    """Mean over words of several pieces, less the mean of words of one piece in the same cell of frequency and capitals."""
    ci_low: float = may_lack()
    ci_high: float = may_lack()
    unmatched: float = may_lack()
    """The same without matching."""
    n: int
    n_rows: int


class Concepts(TableSchema):
    """A name, a word of several tokens or a free run of words, asked at its first token for one to come, at one depth by one map."""

    text_id: int
    span: str
    kind: str
    """name (capitalised words that begin no sentence); word (one, of lower case); free (words of lower case, of one token each)."""
    offset: int
    """How many tokens ahead: 1 is the next one."""
    depth: int
    """Layers that the state has passed: 0 is the token alone."""
    map: str
    """linear; shuffled: fitted to the states of other places, the control."""
    is_likeliest: bool
    """Whether the true token has the greatest logit of the vocabulary."""
    above_share: float = may_lack()
    """Share of the other spans of the kind whose true token gets a lower logit here: 0.5 is chance."""
    nats: float
    """−ln p of the true token."""
    count_elsewhere: int
    """How often the words, of a free run those up to the token, stand in the texts that were not read."""


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
    """Share of spans whose true token is the likeliest."""
    likeliest_ci_low: float = may_lack()
    likeliest_ci_high: float = may_lack()
    n: int
    """Texts."""
    n_rows: int
    """Spans."""


class ConceptGaps(TableSchema):
    """What names, or words of several tokens, hold beyond free runs that are as frequent."""

    kind: str
    offset: int
    depth: int
    difference: float = may_lack()
    """Mean above_share, less that of free runs in the same class of frequency."""
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
