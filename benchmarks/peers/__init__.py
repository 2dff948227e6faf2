"""Other tools on the same inputs: do their numbers equal ours, and what do both cost?"""
