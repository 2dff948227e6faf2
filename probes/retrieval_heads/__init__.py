"""Retrieval heads: which heads copy an answer from a long context, and does the model need them to? (Wu et al. 2024)"""
