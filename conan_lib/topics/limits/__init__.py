"""What the paper says its model cannot do, measured; and the limits of this run."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.limits import show
from conan_lib.topics.limits.claim import CLAIMS

TOPIC = Topic("limits", "Limits, the paper's and ours", "Limits", 140, show.show, "07_eval", claims=CLAIMS, inconsistencies=(11,))
