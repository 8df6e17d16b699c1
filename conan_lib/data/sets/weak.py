"""Weak pairs of stage 3: a title and its content, of one language."""

from collections.abc import Iterator

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, Corpus
from conan_lib.data.sampling import by_lang_then_source
from conan_lib.data.sets.base import TrainingSet, enough, openings
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams) -> list[dict]:
    """At most `weak_pairs`: titles of articles, idioms and recipes, and at most `weak_openings` openings of scripture in each language."""
    rows = by_lang_then_source(lambda: _rows(corpus, params), params.weak_pairs, corpus.params.seed)
    return corpus.decontaminated(rows, "anchor", "positive")


def _rows(corpus: Corpus, params: SetsParams) -> Iterator[dict]:
    for d in corpus.of("train", "encyclopedia", "news", "dictionary", "recipe", "speech"):
        if d.title:
            yield {"id": f"weak/{d.id}", "anchor": d.title, "positive": d.text[:EXCERPT], "lang": d.lang, "source": d.source}
    most = enough(params.weak_pairs, corpus.params.languages)
    if params.weak_openings is not None:
        most = min(most, params.weak_openings)
    for lang in corpus.languages("weak"):
        for name, first, rest in openings(corpus.scripture, lang, most, corpus.params.seed):
            row = {"id": f"weak/{name}", "anchor": first, "positive": rest}
            yield row | {"lang": lang, "source": "bible, opening and what follows"}


SET = TrainingSet("weak", records.schema("id anchor positive lang source prompt"), build, tasks=("weak",), size="weak_pairs")
