"""From text to token ids and back: what needs a tokenizer and no model."""
