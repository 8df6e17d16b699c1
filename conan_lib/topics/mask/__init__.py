"""Whether opening the mask gradually helps."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.mask.claim import CLAIM
from conan_lib.topics.mask.show import show

TOPIC = Topic("mask", "Soft mask", "Soft mask", 30, show, "05_weak", claims=(CLAIM,), inconsistencies=(1, 8))
