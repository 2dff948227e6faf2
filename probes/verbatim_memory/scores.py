"""The scores of trials: repeat surprisal from the surprisal of the nouns of both lists. Pure arithmetic."""

from typing import NamedTuple

from interp.statistics import Array


class TrialRatios(NamedTuple):
    """The estimators of single trials, in per cent."""

    ratio: Array
    first_noun: Array
    all_positions: Array


def trial_ratios(first: Array, second: Array) -> TrialRatios:
    """Returns 100 × mean(second) / mean(first) per trial, from surprisals [trial, position]: without the first noun, of the
    first noun alone, and over all nouns.
    """
    return TrialRatios(
        100 * second[:, 1:].mean(axis=1) / first[:, 1:].mean(axis=1),
        100 * second[:, 0] / first[:, 0],
        100 * second.mean(axis=1) / first.mean(axis=1),
    )


def drops_2024(first: Array, second: Array) -> Array:
    """Returns Armeni et al.'s 2024 measure of single trials in per cent: 100 · (1 − second / first), mean over positions.

    They take its 20% trimmed mean over trials, a tenth left out at each end.
    """
    return (100 * (1 - second / first)).mean(axis=1)
