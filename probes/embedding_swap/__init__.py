"""What a token's row of the embedding carries: other rows for each sequence, in ciphers, in frames, and made from pieces."""
