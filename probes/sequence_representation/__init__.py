"""Where a text keeps its meaning: a last token that sees everything, a mean of all, or the tokens one by one."""
