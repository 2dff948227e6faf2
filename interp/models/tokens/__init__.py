"""Text to token ids and back: everything that needs a tokenizer but no model."""
