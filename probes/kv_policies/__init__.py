"""What a key-value cache throws away: retention policies simulated exactly, and which heads and tokens carry the loss."""
