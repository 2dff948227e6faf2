"""The tasks: generators of at most forty lines that put down a context and ask about it (docs/adding_a_task.md)."""
