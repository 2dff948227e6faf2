"""Probabilities of byte strings from a model of tokens: `ByteModel`."""

from interp.models.bytes.byte_model import ByteModel
from interp.models.bytes.covers import ByteReading

__all__ = ["ByteModel", "ByteReading"]
