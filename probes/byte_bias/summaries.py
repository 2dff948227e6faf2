"""The tables of the byte_bias experiment, and what is said of all prompts together."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.estimates import beside, estimates
from interp.tables import Schemas, Tables, TableSchema, may_lack


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
    exact_nats: float
    """−ln P of its bytes."""
    log10_ratio: float
    """log10 of exact over typed probability: 3 means that the prompt as typed makes it a thousand times less likely."""


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
    """log10 of exact over typed probability of what really follows, for one domain: mean with its bootstrap interval over prompts."""

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


SCHEMAS: Schemas = {
    "places": Places, "continuations": Continuations, "words": Words,
    "ways": Ways, "ratios": Ratios, "pieces": Pieces, "fragmentation": Fragmentation,
}  # fmt: skip
ALL = "all"
"""The row of all domains together."""
FREQUENCIES = (0, 1, 4, 16, 64, 256, 1024)
"""The least count of each class of frequency."""


def summarise(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns ways and ratios, for every domain and for all together; and pieces and fragmentation, if words were read."""
    found = _of_prompts(measured, seed)
    if len(measured["words"]):
        found |= _of_words(measured["words"], seed)
    return found


def _of_prompts(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    places, continuations = (_with_all(measured[name]) for name in ("places", "continuations"))
    by = ["domain", "is_token_border", "way"]
    columns = (("true_byte_nats", "nats"), ("kl_nats", "kl"), ("missed_share", "missed"))
    ways = [estimates(places, by, column, "prompt_id", name=name, seed=seed) for column, name in columns]
    ratios = estimates(continuations, ["domain", "is_token_border"], "log10_ratio", "prompt_id", seed=seed)
    return {"ways": beside(by, *ways), "ratios": ratios.rename(columns={"value": "log10_ratio"})}


def _with_all(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.assign(domain=ALL)], ignore_index=True)


def _of_words(words: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    places = np.searchsorted(FREQUENCIES, words["count_elsewhere"], side="right") - 1
    words = words.assign(
        frequency=[_frequency(place) for place in places],
        pieces=np.where(words["n_pieces"] > 2, "3+", words["n_pieces"].astype(str)),
    )
    both = pd.concat([words.iloc[np.argsort(places, kind="stable")], words.assign(frequency=ALL)], ignore_index=True)
    both = both.sort_values("pieces", kind="stable")
    by = ["frequency", "pieces"]
    surprisal = estimates(both, by, "surprisal_nats", "text_id", name="surprisal_nats", seed=seed)
    likeliest = estimates(both, by, "is_likeliest", "text_id", kind="share", name="likeliest", seed=seed)
    rows, known = [], words[words["count_elsewhere"] > 0]
    for measure in ("surprisal_nats", "is_likeliest"):
        matched = estimates(
            known.assign(measure=measure), ["measure"], lambda rows, weights, m=measure: beyond_one_piece(rows, m, weights),
            "text_id", seed=seed,
        )  # fmt: skip
        several = known["n_pieces"] > 1
        unmatched = float(known.loc[several, measure].mean() - known.loc[~several, measure].mean())
        rows.append(matched.rename(columns={"value": "difference"}).assign(unmatched=unmatched))
    return {"pieces": beside(by, surprisal, likeliest), "fragmentation": pd.concat(rows, ignore_index=True)}


def _frequency(place: int) -> str:
    first = FREQUENCIES[place]
    if place == len(FREQUENCIES) - 1:
        return f"{first}+"
    last = FREQUENCIES[place + 1] - 1
    return str(first) if first == last else f"{first}-{last}"


def beyond_one_piece(
    rows: pd.DataFrame, measure: str, weights: Float[np.ndarray, "draw row"]
) -> Float[np.ndarray, " draw"]:
    """Returns what words of several pieces have beyond those of one, cell by cell of frequency and capitals, in every draw.

    Cells count by their words of several pieces; those without a word of one piece are left out.
    """
    several, values = (rows["n_pieces"] > 1).to_numpy(), rows[measure].to_numpy(dtype=float)
    cells = rows.groupby(["frequency", "is_capitalised"], sort=False).ngroup().to_numpy()
    total, matched = np.zeros(len(weights)), np.zeros(len(weights))
    for cell in np.unique(cells):
        w_many, w_one = (np.where((cells == cell) & some, weights, 0.0) for some in (several, ~several))
        n_many, n_one = w_many.sum(axis=1), w_one.sum(axis=1)
        known = (n_many > 0) & (n_one > 0)
        gap = (w_many @ values) / np.maximum(n_many, 1e-12) - (w_one @ values) / np.maximum(n_one, 1e-12)
        total += np.where(known, n_many * gap, 0.0)
        matched += np.where(known, n_many, 0.0)
    return np.where(matched > 0, total / np.maximum(matched, 1e-12), np.nan)
