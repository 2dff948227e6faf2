"""What the toolkit does on one GPU: correctness, cost and memory at the sizes of real models, with random weights."""
