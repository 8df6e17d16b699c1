"""Whether cross-lingual retrieval training (CLR) merges the languages, and whether it helps retrieval."""

from conan_lib.findings.topic import Topic
from conan_lib.topics.mixing import show
from conan_lib.topics.mixing.claim import CLAIMS

TOPIC = Topic("mixing", "Cross-lingual retrieval, UMAP", "CLR, UMAP", 50, show.show, "08_clr_umap", claims=CLAIMS, inconsistencies=(3, 7))
