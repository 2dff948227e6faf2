"""What training leaves behind: sentences that are recognised, recalled and forgotten, and values known by date."""
