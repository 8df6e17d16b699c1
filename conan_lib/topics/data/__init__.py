"""What the models read, and whether news and pairs in pretraining help."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.data import show
from conan_lib.topics.data.claim import CLAIM

TOPIC = Topic("data", "Data", "Data", 20, show.show, "01_data", claims=(CLAIM,), inconsistencies=(7,))
