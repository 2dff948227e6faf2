"""Rows for tokens that a model never learned, from those of their pieces; and whole models under another vocabulary."""
