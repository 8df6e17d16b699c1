"""How good the vectors are, stage by stage, beside peers."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.retrieval import show

TOPIC = Topic("retrieval", "MTEB-style table, and what each stage learned", "MTEB", 70, show.show, "07_eval", inconsistencies=(5, 6, 10))
