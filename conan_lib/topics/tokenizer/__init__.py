"""How well the tokenizer serves each language."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.tokenizer import show

TOPIC = Topic("tokenizer", "Tokenizer", "Tokenizer", 150, show.show, "02_tokenizer", folded=True)
