"""kvpress' ExpectedAttentionPress."""

from contract import answer
from kvpress import ExpectedAttentionPress
from presses import surprisals_under

answer(surprisals_under(lambda ratio: ExpectedAttentionPress(compression_ratio=ratio)))
