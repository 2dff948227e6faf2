"""What the simulation of policies is written for. Imports no torch."""

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
