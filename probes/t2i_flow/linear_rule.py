"""A linear rule that tells representative tokens from their vectors alone: fitting it, keeping it, reading it back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from interp.errors import ArgumentError
from interp.statistics import Array

PENALTY = 1.0
"""Weight of half the squared length of the coefficients, beside the sum of the losses; vectors are standardised before."""


@dataclass(frozen=True)
class LinearRule:
    """Log odds that a vector is a representative token's: weights · (vector − mean) / scale + bias, by channel."""

    weights: Float[np.ndarray, " channel"]
    bias: float
    mean: Float[np.ndarray, " channel"]
    scale: Float[np.ndarray, " channel"]

    def log_odds(self, vectors: Float[np.ndarray, "token channel"]) -> Float[np.ndarray, " token"]:
        """Returns the log odds of each vector; above 0 the token is said to be representative."""
        return (vectors - self.mean) / self.scale @ self.weights + self.bias


def fit_rule(
    vectors: Float[np.ndarray, "token channel"], labels: Bool[np.ndarray, " token"], penalty: float = PENALTY
) -> LinearRule:
    """Returns the rule of a ridge-penalised logistic regression.

    Channels are standardised by the vectors that are fitted; the intercept is not penalised.
    """
    from scipy.optimize import minimize

    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    x = np.column_stack([(vectors - mean) / scale, np.ones(len(vectors))])
    sign = np.where(labels, 1.0, -1.0)

    def loss(weights: Array) -> tuple[float, Array]:
        margin = sign * (x @ weights)
        free = np.append(weights[:-1], 0.0)
        value = np.logaddexp(0.0, -margin).sum() + penalty / 2 * free @ free
        gradient = -(x * (sign / (1 + np.exp(margin)))[:, None]).sum(axis=0) + penalty * free
        return float(value), gradient

    weights = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return LinearRule(weights[:-1], float(weights[-1]), mean, scale)


def write_rules(rules: Mapping[str, LinearRule], model: str, **facts: Any) -> str:
    """Returns rules by encoder as a JSON document, numbers in full precision, with the model they are of."""
    by_encoder = {encoder: _plain(rule) for encoder, rule in rules.items()}
    return json.dumps({"model": model, **facts, "encoders": by_encoder}, indent=1) + "\n"


def _plain(rule: LinearRule) -> dict[str, Any]:
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(rule).items()}


def read_rules(path: Path) -> tuple[str, dict[str, LinearRule]]:
    """Returns the name of the model, and its rules by encoder.

    Raises ArgumentError for a file that is not such a document.
    """
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        rules = {str(encoder): _rule(some) for encoder, some in read["encoders"].items()}
        model = str(read["model"])
        whole = all(len({rule.weights.shape, rule.mean.shape, rule.scale.shape}) == 1 for rule in rules.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ArgumentError(
            f"{path} holds no predictor: name the redundancy_predictor.json of a finished t2i_flow run."
        )
    return model, rules


def _rule(read: Mapping[str, Any]) -> LinearRule:
    weights, mean, scale = (np.asarray(read[name], dtype=float) for name in ("weights", "mean", "scale"))
    return LinearRule(weights, float(read["bias"]), mean, scale)
