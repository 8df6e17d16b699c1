"""Which model the published sizes make."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.architecture.claim import CLAIM
from conan_lib.topics.architecture.show import show

TOPIC = Topic("architecture", "Architecture: sizes and parameter audit", "Architecture", 10, show, claims=(CLAIM,), inconsistencies=(4,))
