"""Similarity pairs of stage 4, each of one language. The scores are derived from how two verses are related, not judged by people:

1.0 two editions of one verse, 0.6 verses that editors refer to each other, 0.3 neighbours in a chapter, 0.0 verses drawn at random.
"""

from itertools import pairwise

from conan_lib.data import records
from conan_lib.data.corpus import Corpus
from conan_lib.data.sampling import by_lang_then_source, chance, sample
from conan_lib.data.sets.base import TrainingSet
from conan_lib.data.sources.bible import cross_references
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams) -> list[dict]:
    """At most `sts_pairs`, evenly over languages and kinds of relation."""
    scripture, seed, languages = corpus.scripture, corpus.params.seed, corpus.languages("sts")
    if not languages:
        return []
    verses = scripture.verses("train")
    known = set(verses)
    shuffled = sorted(verses, key=lambda verse: chance(seed, "random", verse))
    related = {
        "cross-reference": (0.6, [pair for pair in cross_references() if pair[0] in known and pair[1] in known]),
        "neighbour": (0.3, [(a, b) for a, b in pairwise(verses) if a[:2] == b[:2]]),
        "random": (0.0, list(zip(verses, shuffled, strict=True))),
    }
    rows = []
    each = max(1, params.sts_pairs // len(corpus.params.languages))
    for lang in languages:
        if len(scripture.editions[lang]) > 1:
            for verse in sample(verses, each, seed):
                rows.append(_pair(scripture.text(verse, lang), scripture.text(verse, lang, 1), 1.0, lang, "two editions"))
        for name, (score, pairs) in related.items():
            for a, b in sample(pairs, each, seed):
                rows.append(_pair(scripture.text(a, lang), scripture.text(b, lang), score, lang, name))
    rows = [row for row in rows if row["anchor"] and row["positive"] and row["anchor"] != row["positive"]]
    return by_lang_then_source(lambda: rows, params.sts_pairs, seed)


def _pair(first: str, second: str, score: float, lang: str, how: str) -> dict:
    return {"anchor": first, "positive": second, "score": score, "lang": lang, "source": f"bible, {how}"}


SET = TrainingSet("sts", records.schema("anchor positive lang source prompt", "score"), build, tasks=("sts",), size="sts_pairs")
