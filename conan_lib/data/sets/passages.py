"""The passages that hard negatives of stage 4 are mined from."""

from collections.abc import Iterable

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, Corpus
from conan_lib.data.sets.base import TrainingSet
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams, retrieval: Iterable[dict], clr: Iterable[dict]) -> list[dict]:
    """Every positive of retrieval and CLR once, then further articles and dictionary entries; mining adds the negatives that rows bring."""
    pivot = corpus.params.languages[0]
    pairs = [(row, row.get("positive_lang") or row["lang"]) for row in retrieval]
    pairs += [(row, row.get("positive_lang") or pivot) for row in clr]
    rows = {row["positive_id"]: (row["positive"], lang, row["source"]) for row, lang in pairs}
    for d in corpus.of("train", "encyclopedia", "news", "dictionary"):
        rows.setdefault(d.id, (d.text[:EXCERPT], d.lang, d.source))
    return [{"id": key, "text": text, "lang": lang, "source": source} for key, (text, lang, source) in rows.items()]


SET = TrainingSet("passages", records.schema("id text lang source"), build, ("retrieval", "clr"))
