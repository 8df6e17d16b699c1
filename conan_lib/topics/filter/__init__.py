"""Whether dropping weak pairs that a teacher scores low helps."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.filter import show
from conan_lib.topics.filter.claim import CLAIM

TOPIC = Topic("filter", "Filter of weak pairs", "Pair filter", 40, show.show, "05_weak", claims=(CLAIM,), bears_on=("C13",))
