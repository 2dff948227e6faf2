"""Probabilities of byte strings from a model of tokens: `ByteModel`."""

from interp.models.bytes.byte_model import ByteModel, ByteReading

__all__ = ["ByteModel", "ByteReading"]
