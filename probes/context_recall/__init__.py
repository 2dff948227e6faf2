"""What a model gets back from its context, in which order, and whether it failed to find, to bind or to say it."""
