"""What the simulation of policies is written for, and how many keys a budget is. Imports no torch."""

from fractions import Fraction

HALVES = (
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "gemma2",
    "phi3",
    "gpt_neox",
    "stablelm",
    "olmo2",
    "smollm3",
    "gemma3_text",
)
"""Families whose rotary embedding turns halves of a head's dimensions against each other, which some scores must undo."""
LONGEST_CONTINUATION = 96
"""Room for what is read after a prompt, in tokens."""
FUTURE = 1024
"""Positions after a prompt that its rotary embedding is known for."""
SHORTEST_PROMPT = 16
"""Fewer tokens than that are no prompt to cut."""


def n_kept(n_tokens: int, share: float) -> int:
    """Returns how many keys a share of them is, rounded down: .29 of 100 is 29, which binary fractions make 28."""
    return int(n_tokens * Fraction(repr(float(share))))
