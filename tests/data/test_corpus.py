"""What a corpus artefact holds is what its readers get: documents with all fields in their order, tainted verses, the index."""

from conan_lib.data.corpus import Corpus, read_corpus, write_corpus
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.sources.bible import Scripture
from conan_lib.data.sources.document import Document
from conan_lib.params import Params
from conan_lib.stages import open_stage

DOCUMENTS = {
    "test": [Document("wiki/en/2", "A river.", "en", "wiki", "encyclopedia", "River", "wiki/river", "flows", "nature")],
    "dev": [],
    "train": [
        Document("wiki/en/1", "A long text.", "en", "wiki", "encyclopedia", "Text", "wiki/text", "", "things"),
        Document("wiki/en/1#1", "Its second piece.", "en", "wiki", "encyclopedia"),
        Document("trivia/1", "Paris", "en", "trivia", "question", "What is the capital of France?", label="geography"),
    ],
}


def test_what_is_written_is_read_again(tmp_path):
    params = Params(tier="test", data={"sets": [{"from": "embedded/wiki"}]}, runtime={"artefacts": str(tmp_path), "threads": 1})
    scripture, index = Scripture(params.data), EvaluationIndex(params.data.decontamination_ngram)
    scripture.taint([(1, 2, 3), (40, 1, 1)])
    index.add([("What is the capital of France?", "en")])
    stage = open_stage("corpus", params)
    with stage.work() as work:
        documents = ((split, document) for split, own in DOCUMENTS.items() for document in own)
        write_corpus(Corpus(params.data, stage.path, scripture, index), documents)
        work.commit({})
    found = read_corpus(open_stage("sets", params), "train")
    assert {split: list(found.documents(split)) for split in DOCUMENTS} == DOCUMENTS and found.scripture.tainted == scripture.tainted
    assert found.decontaminated([{"a": "what is the capital of france", "lang": "en"}, {"a": "Paris", "lang": "en"}], "a") == [
        {"a": "Paris", "lang": "en"}
    ]
    assert [d.id for d in found.of("train", "encyclopedia")] == ["wiki/en/1"], "later pieces are left out"
    assert set(found.labelled("train")) == {"wiki-en"}, "the label of a question is its list, and no class"
