"""The training sets: one file a set, with its schema, its builder, and the parameters of SetsParams that it alone reads. A new set is a
file and a line here."""

from conan_lib.data.sets import clr, labels, passages, retrieval, sft, sts, weak
from conan_lib.data.sets.base import TrainingSet

SETS: dict[str, TrainingSet] = {found.SET.name: found.SET for found in (sft, weak, retrieval, clr, passages, sts, labels)}
"""Name -> set, in the order in which they are made."""
