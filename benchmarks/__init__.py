"""Benchmarks: the toolkit and the obvious way on the same work, in one process run, and how cost grows. Never a timed test."""

NAMES = (
    "retrieval_heads",
    "verbatim_memory",
    "function_tokens",
    "critical_tokens",
    "t2i_flow",
    "kv_policies",
    "byte_bias",
    "context_recall",
)
