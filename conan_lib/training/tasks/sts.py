"""Pairs of sentences with a score of their similarity, which CoSENT ranks."""

from conan_lib.training.tasks.base import TaskSpec

STS = TaskSpec(
    "sts",
    table="sts",
    evaluation="STS",
    share=1.8,
    batch_size=32,
    loss="cosent",
    row=lambda record: {"anchor": record["sentence1"], "positive": record["sentence2"], "score": record["score"]},
)
"""Paper: 1.8 million pairs, batch 32."""
