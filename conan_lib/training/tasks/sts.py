"""Pairs of sentences with a score of their similarity, which CoSENT ranks."""

from conan_lib.training.tasks.base import TaskSpec

STS = TaskSpec(
    "sts",
    table="sts",
    evaluation="STS",
    share=1.8,
    batch_size=32,
    loss="cosent",
)
"""Paper: 1.8 million pairs, batch 32."""
