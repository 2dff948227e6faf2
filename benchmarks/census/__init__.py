"""Which causal language models of transformers the toolkit reads right, tried on a tiny random model of each."""
