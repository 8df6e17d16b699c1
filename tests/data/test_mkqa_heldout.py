"""The embedded benchmark of MKQA's protocol asks nothing that was trained on, over leads that were not trained on either."""

from conan_lib.data.records import read_table
from conan_lib.params.mkqa import MkqaParams
from conan_lib.topics.mkqa.data import load_benchmark


def test_embedded_questions_and_leads_are_held_out(corpus):
    """`corpus` is a real stage: nothing of the benchmark is in its training documents, by id and by text."""
    documents = read_table(corpus.path / "documents.parquet").to_pylist()
    trained = [row for row in documents if row["split"] == "train"]
    found = load_benchmark(MkqaParams(), "test", corpus, None)
    ids, texts = {row["id"] for row in trained}, "\n".join(row["text"].casefold() for row in trained if row["source"] == "trivia")
    assert len(found.questions) > 300 and not ids & {q.id for q in found.questions}
    assert not [q for q in found.questions if q.text.casefold() in texts]
    leads = list(found.passages())
    assert len(leads) == found.size > 1000 and not ids & {lead.id for lead in leads}
    assert found.facts["questions_seen_in_training"] == found.facts["passages_seen_in_training"] == 0
    every = load_benchmark(MkqaParams(leads="all"), "test", corpus, None)
    assert every.size > 5 * found.size and every.facts["passages_seen_in_training"] == sum(row["source"] == "wiki" for row in trained) > 0
