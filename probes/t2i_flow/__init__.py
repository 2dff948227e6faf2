"""Which text tokens carry an item into the picture, and what leaks between items (Kaplan et al. 2025)."""
