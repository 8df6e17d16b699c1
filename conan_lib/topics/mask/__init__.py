"""Whether opening the mask gradually helps."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.mask import show
from conan_lib.topics.mask.claim import CLAIM

TOPIC = Topic("mask", "Soft mask", "Soft mask", 30, show.show, "05_weak", claims=(CLAIM,), inconsistencies=(1, 8))
