"""Texts with a text of the same label, and one of another label as the negative."""

from conan_lib.training.tasks.base import Row, TaskSpec


def labelled(record: Row) -> Row:
    """The row of a record of labels.parquet."""
    return {"anchor": record["text"], "positive": record["positive"], "negatives": [record["negative"]]}


CLASSIFICATION = TaskSpec(
    "classification",
    table="labels",
    evaluation="Classification",
    share=1.4,
    batch_size=4,
    negatives="given",
    owns=lambda record: record["task"] == "classification",
    row=labelled,
)
"""Paper: 2.8 million pairs for classification and clustering together; the batch is not published."""
