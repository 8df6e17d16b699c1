"""What was trained, stage by stage."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.training import show

TOPIC = Topic("training", "Training, stage by stage", "Training", 160, show.show, bears_on=("C13",), folded=True)
