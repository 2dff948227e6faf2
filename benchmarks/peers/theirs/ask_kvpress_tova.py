"""kvpress' TOVAPress."""

from contract import answer
from kvpress import TOVAPress
from presses import surprisals_under

answer(surprisals_under(lambda ratio: TOVAPress(compression_ratio=ratio)))
