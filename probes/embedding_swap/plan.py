"""What is measured together: one cipher on all texts; the frames on one checkpoint; a few held-out tokens."""

from dataclasses import dataclass
from typing import Literal

from interp.experiments.experiment import Work, WorkUnit
from probes.embedding_swap.settings import Settings, TokenClass

Kind = Literal["plain", "cipher", "gaussian", "rare"]
TOKENS_AT_ONCE = 16
CONTEXT, AFTER = 20, 8
"""Tokens of a passage before and after a held-out token."""


@dataclass(frozen=True)
class CipherUnit(WorkUnit):
    """All texts with one kind of rows: each other's (cipher), Gaussian ones, or those of tokens that no text has (rare)."""

    kind: Kind
    among: TokenClass
    share: float
    with_lens: bool


@dataclass(frozen=True)
class FramesUnit(WorkUnit):
    """The frames on one checkpoint."""

    revision: str | None


@dataclass(frozen=True)
class PiecesUnit(WorkUnit):
    """The held-out tokens [first, last)."""

    first: int
    last: int


def plan_units(settings: Settings) -> list[WorkUnit]:
    """Returns all units of the parts that are asked for."""
    units: list[WorkUnit] = []
    if "ciphers" in settings.parts:
        first = settings.classes[0]
        largest = max(settings.shares)
        wanted: list[tuple[Kind, TokenClass, float]] = [
            ("plain", first, 0.0),
            *(("cipher", first, share) for share in settings.shares),
            *(("cipher", other, 1.0) for other in settings.classes[1:]),
            ("gaussian", first, largest),
            ("rare", first, largest),
        ]
        for kind, among, share in wanted:
            lens = kind == "plain" or (kind == "cipher" and among == first and share == largest)
            units.append(CipherUnit(f"cipher-{kind}-{among}-{round(1e4 * share):05d}", kind, among, share, lens))
    if "frames" in settings.parts:
        units.append(FramesUnit("frames", None))
        units += [FramesUnit(f"frames-{place:03d}", name) for place, name in enumerate(settings.revisions)]
    if "pieces" in settings.parts:
        n = settings.held_out_tokens
        units += [
            PiecesUnit(f"pieces-{first:04d}", first, min(first + TOKENS_AT_ONCE, n))
            for first in range(0, n, TOKENS_AT_ONCE)
        ]
    return units


def work_of_unit(settings: Settings, unit: WorkUnit) -> Work:
    """Returns about what a unit reads."""
    if isinstance(unit, CipherUnit):
        n = settings.texts_per_cipher * settings.text_tokens
        return Work(tokens_read=2 * n if unit.with_lens else n, tokens_held=n)
    if isinstance(unit, PiecesUnit):
        n, rules = unit.last - unit.first, len(settings.rules)
        return Work(
            tokens_read=n * ((rules + 2) * (CONTEXT + AFTER + 1) + rules * CONTEXT), tokens_held=n * (CONTEXT + AFTER)
        )
    kinds, classes = 3, settings.read_frames()
    n_words = (kinds - 1) * settings.nonce_words + len(classes) * min(4, settings.words_per_class)
    longest = max(len(frame.split()) for one in classes for frame in one.frames) + 4
    tests = sum(len(test.split()) + 1 for one in classes for test in one.tests)
    behaviour = n_words * len(classes) * 2 * (longest + tests)
    readout = len(classes) * 4 * (len(classes) * settings.words_per_class + 2 * settings.nonce_words) * longest // 2
    return Work(tokens_read=behaviour + readout, tokens_held=n_words * (longest + tests))
