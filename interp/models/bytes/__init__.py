"""Probabilities of byte strings from a model of tokens: `ByteModel`, and of several models at once: `ByteEnsemble`."""

from interp.models.bytes.byte_model import ByteModel
from interp.models.bytes.covers import ByteReading
from interp.models.bytes.ensemble import ByteEnsemble

__all__ = ["ByteEnsemble", "ByteModel", "ByteReading"]
