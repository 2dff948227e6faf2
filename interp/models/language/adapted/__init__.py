"""Families whose attention modules do not use transformers' attention interface, taken behind it: one file for families that are alike."""
