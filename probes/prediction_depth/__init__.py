"""At which layer is the next token decided? Lenses, skipped layers, recycled drafts, knowing when an answer will be right."""
