"""Queries and their passages in one language, with hard negatives."""

from conan_lib.training.tasks.base import TaskSpec

RETRIEVAL = TaskSpec("retrieval", table="retrieval", evaluation="Retrieval", share=3.0, batch_size=4, negatives="pool")
"""Paper: 3.0 million pairs, batch 4."""
