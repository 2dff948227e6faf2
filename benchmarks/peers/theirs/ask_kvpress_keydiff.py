"""kvpress' KeyDiffPress."""

from contract import answer
from kvpress import KeyDiffPress
from presses import surprisals_under

answer(surprisals_under(lambda ratio: KeyDiffPress(compression_ratio=ratio)))
