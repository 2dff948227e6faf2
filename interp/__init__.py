"""Mechanistic interpretability of memory and retrieval in transformers: models, tables, statistics and the experiment runner."""

__version__ = "0.1.0"
