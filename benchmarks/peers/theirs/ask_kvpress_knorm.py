"""kvpress' KnormPress."""

from contract import answer
from kvpress import KnormPress
from presses import surprisals_under

answer(surprisals_under(lambda ratio: KnormPress(compression_ratio=ratio)))
