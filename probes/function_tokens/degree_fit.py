"""Is the degree distribution a power law? Likelihood ratios against heavy-tailed alternatives, never R² on a log-log plot."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

ALTERNATIVES = ("lognormal", "truncated_power_law", "exponential")
FEWEST = 50
"""Degrees that a fit needs."""


def fit_degrees(degrees: ArrayLike) -> pd.DataFrame:
    """Returns a power law against each alternative in the tail above the best xmin (Clauset, Shalizi, Newman 2009).

    Degrees are taken as continuous: their discrete likelihoods need minutes of arithmetic at high precision, and differ where
    xmin is a handful only.
    Columns: alternative, xmin, exponent, n_tail, likelihood_ratio (normalised), p. Empty below 50 degrees or when all are equal.
    """
    import powerlaw

    values = np.asarray(degrees)
    values = values[values > 0]
    columns = ["alternative", "xmin", "exponent", "n_tail", "likelihood_ratio", "p"]
    if len(values) < FEWEST or values.min() == values.max():
        return pd.DataFrame(columns=columns)
    rows = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # powerlaw tries out xmin values for which its own integrals overflow
        fit: Any = powerlaw.Fit(values, discrete=False, verbose=False)
        n_tail = int((values >= fit.xmin).sum())
        for alternative in ALTERNATIVES:
            nested = alternative == "truncated_power_law"
            ratio, p = fit.distribution_compare("power_law", alternative, nested=nested, normalized_ratio=True)
            rows.append((alternative, float(fit.xmin), float(fit.power_law.alpha), n_tail, float(ratio), float(p)))
    return pd.DataFrame(rows, columns=columns)
