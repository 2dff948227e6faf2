"""Critical tokens: which generated tokens decide whether the answer comes out right? (Lin et al. 2024)"""
