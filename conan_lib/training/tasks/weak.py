"""Titles and their contents, with the negatives of the batch: the task of stage 3, which a stage 4 may name too."""

from conan_lib.training.tasks.base import TaskSpec

WEAK = TaskSpec(
    "weak",
    table="weak",
    evaluation="Retrieval",
    batch_size=64,
)
