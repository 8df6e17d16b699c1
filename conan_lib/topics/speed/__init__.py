"""How fast ours is, and what smaller vectors keep."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.speed import show
from conan_lib.topics.speed.claim import CLAIMS

TOPIC = Topic("speed", "Practical: size, speed, small dims", "Practical", 120, show.show, "07_eval", claims=CLAIMS, inconsistencies=(4,))
