"""Stimuli shared by wings: prose, its sentence boundaries, and haystacks made of it."""
