"""Verbatim memory: how much does a model's surprisal fall when a list of nouns comes back? (Armeni et al. 2022, 2024)"""
