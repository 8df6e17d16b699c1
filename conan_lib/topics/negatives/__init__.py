"""Whether swapping negatives that have become easy keeps them hard, and helps (DHNM)."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.negatives import show
from conan_lib.topics.negatives.claim import CLAIM

TOPIC = Topic("negatives", "Dynamic hard negatives", "DHNM", 60, show.show, "06_supervised", claims=(CLAIM,), inconsistencies=(1,))
