"""Function tokens: which tokens activate which features of a sparse dictionary, beyond chance? (Zhang, Lin, Li 2025)"""
