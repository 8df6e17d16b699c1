"""Retrieval pairs of stage 4: a question and its answer, a description and its article, a message and its reply."""

from collections.abc import Iterator

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, Corpus
from conan_lib.data.sampling import by_lang_then_source
from conan_lib.data.sets.base import TrainingSet
from conan_lib.data.sources.document import Document
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams) -> list[dict]:
    """At most `retrieval_pairs`, evenly over languages and their sources."""
    return by_lang_then_source(lambda: _rows(corpus), params.retrieval_pairs, corpus.params.seed)


def _rows(corpus: Corpus) -> Iterator[dict]:
    for d in corpus.of("train", "question", "dialogue", "encyclopedia", "news"):
        anchor = d.title if d.kind in ("question", "dialogue") else d.summary
        if anchor:
            yield {
                "id": f"retrieval/{d.id}", "anchor": anchor, "positive": d.text[:EXCERPT], "positive_id": _passage_id(d), "lang": d.lang,
                "source_anchor_id": f"retrieval/{d.id}", "source": d.source,
            }  # fmt: skip


def _passage_id(document: Document) -> str:
    """Answers that are one text are one passage, so that none of them is another question's negative."""
    return f"{document.source}/{document.text.casefold()}" if document.kind in ("question", "dialogue") else document.id


SCHEMA = records.schema("id anchor positive positive_id positive_lang source_anchor_id lang source prompt", lists="negatives")
SET = TrainingSet("retrieval", SCHEMA, build, tasks=("retrieval",), size="retrieval_pairs")
