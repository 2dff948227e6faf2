"""The tables of the byte_bias experiment, and what is said of all prompts together."""

import pandas as pd

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


SCHEMAS: Schemas = {"places": Places, "continuations": Continuations, "ways": Ways, "ratios": Ratios}
ALL = "all"
"""The row of all domains together."""


def summarise(measured: Tables, seed: int) -> dict[str, pd.DataFrame]:
    """Returns the tables ways and ratios: for every domain and for all together."""
    places, continuations = (_with_all(measured[name]) for name in ("places", "continuations"))
    by = ["domain", "is_token_border", "way"]
    columns = (("true_byte_nats", "nats"), ("kl_nats", "kl"), ("missed_share", "missed"))
    ways = [estimates(places, by, column, "prompt_id", name=name, seed=seed) for column, name in columns]
    ratios = estimates(continuations, ["domain", "is_token_border"], "log10_ratio", "prompt_id", seed=seed)
    return {"ways": beside(by, *ways), "ratios": ratios.rename(columns={"value": "log10_ratio"})}


def _with_all(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.assign(domain=ALL)], ignore_index=True)
