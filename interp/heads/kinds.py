"""What --heads-from names (a file that ranks heads, the folder of a DuoAttention pattern, or a run) and what its scores measure.

Scores of different kinds can be compared by rank, never by value. Imports nothing heavy.
"""

from dataclasses import dataclass
from pathlib import Path

GIVEN = "heads_from"
"""The name of the table of a ranking that was given from outside, and of the ranking in other tables."""


@dataclass(frozen=True)
class ScoreKind:
    """One kind of score, with its scale."""

    text: str
    """What it is, as labels and sentences say it."""
    copies: bool = False
    """Whether it is a share of copied tokens: 0 says that a head never copied."""


KINDS: dict[str, ScoreKind] = {
    "set": ScoreKind("copy score (set, 0 to 1)", copies=True),
    "count": ScoreKind("copy score (count, from 0)", copies=True),
    "locos": ScoreKind("contribution in logits (LOCOS, signed)"),
    "direct": ScoreKind("contribution in logits (direct, signed)"),
    "dla": ScoreKind("contribution in logits (LOCOS' dla, signed)"),
    "signed": ScoreKind("contribution in logits (signed; the file names no method)"),
    "echo": ScoreKind("attention mass (echo, 0 to 1)"),
    "induction": ScoreKind("attention mass (induction, 0 to 1)"),
    "attention_mass": ScoreKind("attention mass (0 to 1)"),
    "attention_spatial": ScoreKind("attention mass (LOCOS' attention_spatial, needle minus elsewhere)"),
    "headkv": ScoreKind("attention mass (LOCOS' headkv, 0 to 1)"),
    "contrastive": ScoreKind("attention contrast (LOCOS' contrastive)"),
    "cri": ScoreKind("effect of patching (LOCOS' cri, signed)"),
    "qrhead": ScoreKind("ranking quality (QRHead: how well its attention ranks documents)"),
    "gate": ScoreKind("gate α (DuoAttention, 0 to 1, per key-value head)"),
    "order": ScoreKind("order only"),
    "members": ScoreKind("members only, without an order"),
    "unnamed": ScoreKind("score of a kind the file does not name"),
}

METHODS: dict[str, str] = {
    "logit_contribution": "locos",
    "logit_contrib": "locos",
    "locos": "locos",
    "dla": "dla",
    "attention_spatial": "attention_spatial",
    "headkv": "headkv",
    "contrastive": "contrastive",
    "contrastive_pooled": "contrastive",
    "cri": "cri",
    "behavioral": "count",
    "count": "count",
    "set": "set",
    "retrieval_reasoning": "attention_mass",
    "attention_mass": "attention_mass",
    "qrhead": "qrhead",
}
"""The kind of score by the `method` that a {"meta", "scores"} file names."""

NAMING = '{"meta": {"method": "count"}, "scores": {"layer-head": [score, …]}}'
"""How a file says what its scores are; any of METHODS will do."""


PATTERN_FILE = "full_attention_heads.tsv"
"""The file of gates in a DuoAttention folder."""


def pattern_in(place: Path) -> Path:
    """Returns the pattern of a DuoAttention folder, or the place itself."""
    return place / PATTERN_FILE if place.is_dir() and (place / PATTERN_FILE).is_file() else place


def is_file_of_heads(place: Path) -> bool:
    """Whether a place is a file, or the folder of a DuoAttention pattern, rather than a run."""
    return pattern_in(place).is_file()
