"""Families whose attention modules do not use transformers' attention interface, taken behind it: one small file each."""
