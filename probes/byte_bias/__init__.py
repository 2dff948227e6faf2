"""What a token model loses at the end of a prompt, byte by byte, against the exact probability of bytes."""
