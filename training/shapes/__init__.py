"""Training of the small text-to-image models that ship, on scenes whose truth is known."""
