"""Texts with a text of the same cluster, and one of another cluster as the negative."""

from conan_lib.training.tasks.base import TaskSpec

CLUSTERING = TaskSpec(
    "clustering",
    table="labels",
    evaluation="Clustering",
    share=1.4,
    batch_size=4,
    negatives="given",
    owns=lambda record: record["task"] == "clustering",
)
"""Paper: 2.8 million pairs for classification and clustering together; the batch is not published."""
