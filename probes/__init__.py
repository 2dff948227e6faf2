"""Probes: one package per paper, found by entry point."""
