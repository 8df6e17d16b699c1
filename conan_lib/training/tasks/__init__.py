"""The registry of contrastive tasks, one file a task: a new one is a file and a line here.

Parameters, mining, batches and losses read it. It is below all of them and needs no torch.
"""

from conan_lib.training.tasks.base import Row, TaskSpec
from conan_lib.training.tasks.classification import CLASSIFICATION
from conan_lib.training.tasks.clr import CLR
from conan_lib.training.tasks.clustering import CLUSTERING
from conan_lib.training.tasks.retrieval import RETRIEVAL
from conan_lib.training.tasks.sts import STS
from conan_lib.training.tasks.view import View
from conan_lib.training.tasks.weak import WEAK

TASKS: dict[str, TaskSpec] = {task.name: task for task in (RETRIEVAL, CLR, STS, CLASSIFICATION, CLUSTERING, WEAK)}
"""By name, in the order of the default mix."""

__all__ = ["TASKS", "Row", "TaskSpec", "View"]
