"""Instructions of stage 2: instruction, input, output; a query and what should be found or said."""

from collections.abc import Iterator

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, Corpus
from conan_lib.data.languages import english_name
from conan_lib.data.sampling import by_lang_then_source, chance, sample
from conan_lib.data.sets.base import TrainingSet, enough, openings
from conan_lib.data.sources.bible import verse_id
from conan_lib.data.sources.document import Document
from conan_lib.params.data import SetsParams


def build(corpus: Corpus, params: SetsParams) -> list[dict]:
    """At most `sft_records`, in several tasks and languages."""
    rows = by_lang_then_source(lambda: _rows(corpus, params), params.sft_records, corpus.params.seed)
    return corpus.decontaminated(rows, "input", "output")


def _rows(corpus: Corpus, params: SetsParams) -> Iterator[dict]:
    for d in corpus.documents("train"):
        if "#" not in d.id:
            yield from _instructions(d)
    scripture, seed, most = corpus.scripture, corpus.params.seed, enough(params.sft_records, corpus.params.languages)
    pivot, *others = corpus.languages("sft") or ("",)
    for lang in others:
        for verse in sample(scripture.verses("train"), most, f"{seed} {lang}"):
            source, target = (lang, pivot) if chance(seed, verse, lang) < 0.5 else (pivot, lang)
            instruction = f"Translate from {english_name(source)} into {english_name(target)}."
            texts = scripture.text(verse, source), scripture.text(verse, target)
            yield _record(verse_id(verse, lang), instruction, *texts, lang, "translation")
    for lang in corpus.languages("sft"):
        for name, first, rest in openings(scripture, lang, most, seed + 1):
            yield _record(name, "Continue the passage.", first, rest, lang, "continuation")


def _instructions(d: Document) -> Iterator[dict]:
    excerpt = d.text[: EXCERPT // 2]
    if d.kind == "question":
        yield _record(d.id, "Answer the question.", d.title, d.text, d.lang, "trivia")
    elif d.kind == "dialogue":
        yield _record(d.id, "Reply to the message.", d.title, d.text, d.lang, "dialogues")
    elif d.kind == "dictionary":
        yield _record(d.id, "解释这个成语。", d.title, d.text, d.lang, "idioms")
    elif d.kind in ("encyclopedia", "news") and d.title:
        yield _record(d.id, "Write a title for this text.", excerpt, d.title, d.lang, f"{d.source}, title")
        if d.summary:
            yield _record(d.id, "Find the passage that this describes.", d.summary, excerpt, d.lang, f"{d.source}, description")
    elif d.kind == "recipe" and d.title:
        yield _record(d.id, "Write down this recipe.", d.title, excerpt, d.lang, "recipes")
    elif d.kind == "review" and d.label:
        yield _record(d.id, "Which kind of review is this?", excerpt, d.label, d.lang, f"{d.source}, label")


def _record(name: str, instruction: str, text: str, output: str, lang: str, source: str) -> dict:
    return {"id": name, "instruction": instruction, "input": text, "output": output, "lang": lang, "source": source}


SET = TrainingSet("sft", records.schema("instruction input output lang source"), build, tasks=("sft",), size="sft_records")
