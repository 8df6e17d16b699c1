"""Cross-lingual retrieval: queries in many languages, the passage in the one that they were translated from."""

from conan_lib.training.tasks.base import TaskSpec

CLR = TaskSpec("clr", table="clr", evaluation="Retrieval", share=3.0, batch_size=4, negatives="pool", pool_by="passage")
"""Paper: 3.0 million pairs, batch 4."""
