"""Smaller vectors and speed (the paper's Table 5; claims C8 and C9)."""
