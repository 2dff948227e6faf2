"""Probabilities of byte strings from a model of tokens: `ByteModel`; of several models at once: `ByteEnsemble`; and `fill`."""

from interp.models.bytes.byte_model import ByteEnsemble, ByteModel, Filled, fill
from interp.models.bytes.covers import ByteReading

__all__ = ["ByteEnsemble", "ByteModel", "ByteReading", "Filled", "fill"]
