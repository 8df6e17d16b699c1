"""Texts with a text of the same label, and one of another label as the negative."""

from conan_lib.training.tasks.base import TaskSpec

CLASSIFICATION = TaskSpec(
    "classification",
    table="labels",
    evaluation="Classification",
    share=1.4,
    batch_size=4,
    negatives="given",
    owns=lambda record: record["task"] == "classification",
)
"""Paper: 2.8 million pairs for classification and clustering together; the batch is not published."""
