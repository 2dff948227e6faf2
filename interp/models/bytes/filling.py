"""Filling the middle of a text byte by byte, between a beginning and an end that may be cut anywhere."""

from dataclasses import dataclass

from interp.errors import ArgumentError
from interp.models.bytes.byte_model import ByteModel
from interp.models.bytes.canonical import is_text
from interp.models.bytes.covers import END


@dataclass(frozen=True)
class Filled:
    """A middle, and ln P(middle, end | beginning) in nats."""

    middle: bytes
    log_prob: float


def fill(of_bytes: ByteModel, before: str | bytes, after: str | bytes, n_bytes: int, *, width: int = 4) -> list[Filled]:
    """Returns middles of up to `n_bytes` bytes for which `before + middle + after` is likely, the most likely first.

    A left-to-right model says nothing of the middle alone, so the middle with the greatest P(middle, after | before) is wanted (of
    P(middle | before, after) it is the same one). Middles are grown byte by byte, the `width` likeliest of each length are kept, and
    each is held against the end. Where a cut falls inside a token, what is typed is no obstacle (Phan et al. 2024, section 4, fill in
    the middle with models that were trained for it; here any causal model does).
    Raises ArgumentError for a middle of no bytes, UserError for a text that the tokenizer rewrites.
    """
    if n_bytes < 1 or width < 1:
        raise ArgumentError("n_bytes and width must be 1 or more.")
    begin, end = (text.encode() if isinstance(text, str) else text for text in (before, after))
    grown, found = [(b"", 0.0)], []
    for length in range(n_bytes + 1):
        for middle, log_p in grown:
            if is_text(begin + middle):
                found.append(Filled(middle, log_p + of_bytes.log_prob(end, given=begin + middle)))
        if length == n_bytes:
            break
        longer = []
        for middle, log_p in grown:
            nexts = of_bytes.next_byte(begin + middle)[:END]
            longer += [(middle + bytes([byte]), log_p + float(nexts[byte])) for byte in nexts.argsort()[-width:]]
        grown = sorted(longer, key=lambda one: -one[1])[:width]
    return sorted(found, key=lambda one: -one.log_prob)
