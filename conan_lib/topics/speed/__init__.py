"""How fast ours is, and what smaller vectors keep."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.speed.claim import CLAIMS
from conan_lib.topics.speed.show import show

TOPIC = Topic("speed", "Practical: size, speed, small dims", "Practical", 120, show, "07_eval", claims=CLAIMS, inconsistencies=(4,))
