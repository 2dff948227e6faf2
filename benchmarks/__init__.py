"""Benchmarks: the toolkit and the obvious way on the same work, in one process run. Never part of the tests."""
