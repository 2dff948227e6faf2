"""Answers: `extraction` reads one out of a response, `equality` compares two; `numbers`, `latex` and `algebra` are what both use."""
