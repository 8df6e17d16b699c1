"""Cross-lingual retrieval (CLR) of stage 4: a query in another language -> a passage of the pivot's."""

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, Corpus
from conan_lib.data.sampling import sample
from conan_lib.data.sets.base import TrainingSet
from conan_lib.data.sources.bible import verse_id
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams) -> list[dict]:
    """`clr_verses` verses, and all leads of articles with one title, in every other language -> the pivot's."""
    pivot, *others = corpus.params.languages
    scripture, languages = corpus.scripture, corpus.languages("clr")
    verses = sample(scripture.verses("train"), params.clr_verses, corpus.params.seed) if languages else []
    texts = {lang: {verse_id(verse, pivot): scripture.text(verse, lang) for verse in verses} for lang in languages[1:]}
    passages = {verse_id(verse, pivot): scripture.text(verse, pivot) for verse in verses}
    rows = translated(passages, texts, "bible, human translation")

    articles = [d for d in corpus.of("train", "encyclopedia") if d.source == "wiki"]  # no other has titles in several languages
    pivots = {d.group: d for d in articles if d.lang == pivot}
    leads = {lang: {pivots[d.group].id: d.text[:EXCERPT] for d in articles if d.lang == lang and d.group in pivots} for lang in others}
    return rows + translated({d.id: d.text[:EXCERPT] for d in pivots.values()}, leads, "wiki, articles with one title")


def translated(passages: dict[str, str], texts: dict[str, dict[str, str]], source: str) -> list[dict]:
    """Every passage with each text that a language has under its id: id -> passage, language -> id -> text."""
    return [
        {
            "id": f"{id}/{lang}", "anchor": known[id], "positive": passage, "positive_id": id, "source_anchor_id": id, "lang": lang,
            "source": source,
        }
        for lang, known in texts.items() for id, passage in passages.items() if known.get(id)
    ]  # fmt: skip


SCHEMA = records.schema("id anchor positive positive_id positive_lang source_anchor_id lang source prompt", lists="negatives")
SET = TrainingSet("clr", SCHEMA, build, tasks=("clr",), size="clr_pairs")
