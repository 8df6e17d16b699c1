"""The passages that hard negatives of stage 4 are mined from."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, Corpus
from conan_lib.data.ondisk import OnDisk
from conan_lib.data.sets.base import TrainingSet
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams, retrieval: Iterable[dict], clr: Iterable[dict]) -> Iterator[dict]:
    """Every positive of retrieval and CLR once, then further articles and dictionary entries; mining adds the negatives that rows bring.

    Where sets are declared they come in a seeded order: mining searches the first `mine.max_corpus`, which are then of all sets.
    """
    pivot, found = corpus.params.languages[0], OnDisk()
    for row, lang in chain(((row, row["lang"]) for row in retrieval), ((row, pivot) for row in clr)):
        found[row["positive_id"]] = json.dumps((row["positive"], row["positive_lang"] or lang, row["source"]))
    for d in corpus.of("train", "encyclopedia", "news", "dictionary"):
        found.add(d.id, json.dumps((d.text[:EXCERPT], d.lang, d.source)))
    for key, row in found.drawn(corpus.params.seed, "passages") if corpus.params.declared else found:
        text, lang, source = json.loads(row)
        yield {"id": key, "text": text, "lang": lang, "source": source}


SET = TrainingSet("passages", records.schema("id text lang source"), build, ("retrieval", "clr"))
