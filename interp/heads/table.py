"""The table of a ranking that was given from outside, as runs that use one store it."""

import pandera.pandas as pa

from interp.tables import TableSchema, may_lack


class HeadsFrom(TableSchema):
    """The heads of --heads-from, best first; empty without that setting."""

    rank: int = pa.Field(ge=1)
    layer: int = pa.Field(ge=0)
    head: int = pa.Field(ge=0)
    kv_head: int = pa.Field(ge=0)
    score: float = may_lack()
    kind: str
    """What the score is: a key of interp.heads.kinds.KINDS."""
    per_kv_head: bool
    """Whether the file scores key-value heads, each standing for the query heads that share it."""
    named_model: str
    """The model that the file names, "" where it names none."""
