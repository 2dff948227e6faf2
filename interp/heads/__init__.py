"""Heads of a model: sets of them and random controls, and rankings that others made, read from and written for their tools."""
