"""Heads of a model: sets of heads, random controls, and rankings in other tools' formats, read and written."""
