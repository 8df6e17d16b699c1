"""The run itself: its budget, artefacts, environment and parameters."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.this_run import show

TOPIC = Topic("this_run", "This run: budget, artefacts, environment, parameters", "This run", 180, show.show, folded=True)
