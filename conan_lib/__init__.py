"""Conan-Embedding-v2 (arXiv 2509.12892), reproduced in the open. Start at README.md; PAPER.md maps equations to code."""

__version__ = "0.1.0"
