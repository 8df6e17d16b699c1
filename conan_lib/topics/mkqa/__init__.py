"""MKQA by the paper's protocol."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.mkqa import show

TOPIC = Topic("mkqa", "MKQA and retrieval by language", "MKQA", 80, show.show, "07_eval", bears_on=("C3",), inconsistencies=(2,))
