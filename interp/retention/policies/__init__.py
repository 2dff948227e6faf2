"""Retention policies: what a key-value cache keeps, one small class each."""
