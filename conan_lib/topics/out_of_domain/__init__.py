"""How the models do on sets that nothing was trained on."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.out_of_domain import show

TOPIC = Topic("out_of_domain", "Out of domain", "Out of domain", 130, show.show)
