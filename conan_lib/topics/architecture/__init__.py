"""Which model the published sizes make."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.architecture import show
from conan_lib.topics.architecture.claim import CLAIM

TOPIC = Topic(
    "architecture", "Architecture: sizes and parameters", "Architecture", 10, show.show, claims=(CLAIM,), inconsistencies=(4,), folded=True
)
