"""An ensemble of models with different vocabularies: a mixture of their next-byte distributions (Phan et al. 2024, section 5)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from interp.errors import ArgumentError
from interp.models.bytes.byte_model import ByteModel
from interp.models.bytes.covers import ByteReading


class ByteEnsemble:
    """A mixture of byte models: P(b | x) = Σ weight · P_model(b | x). The weights do not depend on the text so far."""

    def __init__(self, models: Sequence[ByteModel], weights: Sequence[float] | None = None) -> None:
        """Takes models and weights, equal ones if not given. Raises ArgumentError for none, or for weights that are no shares."""
        self.models = tuple(models)
        chosen = np.full(len(self.models), 1 / max(1, len(self.models))) if weights is None else np.asarray(weights)
        if not self.models or len(chosen) != len(self.models) or (chosen < 0).any() or not np.isclose(chosen.sum(), 1):
            raise ArgumentError("An ensemble needs models, and as many weights, not negative, that sum to 1.")
        self.weights: Float[np.ndarray, " model"] = chosen

    def read(self, text: bytes, *, start: int = 0) -> Float[np.ndarray, "place outcome"]:
        """Returns ln P of the 256 bytes and the end after text[:start] and every longer prefix."""
        return self.mixed([model.read(text, start=start) for model in self.models])

    def mixed(self, readings: Sequence[ByteReading]) -> Float[np.ndarray, "place outcome"]:
        """Returns ln P of the mixture, from each model's distributions after the same text."""
        with np.errstate(divide="ignore"):
            parts = [reading.log_p + np.log(weight) for reading, weight in zip(readings, self.weights, strict=True)]
        return np.logaddexp.reduce(parts, axis=0)

    def next_byte(self, prefix: str | bytes) -> Float[np.ndarray, " outcome"]:
        """Returns ln P of each of the 256 bytes and of the end (index 256) after a prefix."""
        text = prefix.encode() if isinstance(prefix, str) else prefix
        return self.read(text, start=len(text))[0]

    def log_prob(self, text: str | bytes) -> float:
        """Returns ln P of a text in nats."""
        whole = text.encode() if isinstance(text, str) else text
        return float(self.read(whole)[np.arange(len(whole)), list(whole)].sum())
