"""kvpress' SnapKVPress."""

from contract import answer
from kvpress import SnapKVPress
from presses import surprisals_under

answer(surprisals_under(lambda ratio: SnapKVPress(compression_ratio=ratio)))
