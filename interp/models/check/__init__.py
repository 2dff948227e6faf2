"""The check at load: what a model may be used for, found by reading a short text in every way."""
