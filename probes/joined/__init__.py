"""Questions that the other experiments answer together, each from finished runs on one model."""
