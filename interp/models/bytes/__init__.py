"""Probabilities of byte strings from a model of tokens: `ByteModel`; of several models at once: `ByteEnsemble`; and `fill`."""

from interp.models.bytes.byte_model import ByteModel
from interp.models.bytes.covers import ByteReading
from interp.models.bytes.ensemble import ByteEnsemble
from interp.models.bytes.filling import Filled, fill

__all__ = ["ByteEnsemble", "ByteModel", "ByteReading", "Filled", "fill"]
