"""The paper's losses as functions of tensors; each docstring names its equation's row in PAPER.md."""

from conan_lib.losses.cosent import cosent
from conan_lib.losses.infonce import false_negatives, info_nce, info_nce_from_scores
from conan_lib.losses.matryoshka import matryoshka, prefix

__all__ = ["cosent", "false_negatives", "info_nce", "info_nce_from_scores", "matryoshka", "prefix"]
