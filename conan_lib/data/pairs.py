"""Training sets made from clean documents and aligned verses: SFT records, weak pairs, retrieval, CLR, similarity, labels.

Everything here sees training documents and training books alone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise

from conan_lib.data.bible import Scripture, Verse, cross_references, join
from conan_lib.data.corpus import Corpus
from conan_lib.data.embedded import Document
from conan_lib.data.languages import english_name
from conan_lib.data.sampling import by_lang_then_source, chance, sample
from conan_lib.data.translate import AlignedTranslations, Query, clr_records
from conan_lib.params.data import DataParams

EXCERPT = 1000
"""Characters of a content or passage in a pair: encoders read far less."""
PASSAGE = 4
"""Verses in a passage."""
LABEL_TASKS = {
    "intents": "classification",
    "movie-reviews": "classification",
    "shop-reviews": "classification",
    "newsgroups": "clustering",
    "wiki": "clustering",
    **dict.fromkeys(("banking77", "emotion", "imdb", "toxic"), "classification"),
}
"""Sources whose labels are trained on and evaluated, and as what."""


def verse_id(verse: Verse, lang: str) -> str:
    return "bible/{}/{}/{}/{}".format(lang, *verse)


def _enough(total: int, params: DataParams) -> int:
    """Candidates of one source and language that more than fill its share."""
    return 2 * total // len(params.languages) + 1


def openings(scripture: Scripture, lang: str, most: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """(id, first verse, the verses that follow it): title and content for languages that have little else."""
    for run in sample(scripture.passages("train", PASSAGE), most, seed):
        texts = [scripture.text(verse, lang) for verse in run]
        yield verse_id(run[0], lang), texts[0], join(texts[1:], lang)


def weak_pairs(corpus: Corpus, params: DataParams) -> list[dict]:
    """Title-content pairs in every language, monolingual: titles of articles, idioms and recipes, and openings of passages of scripture."""
    rows = [
        {"id": f"weak/{d.id}", "title": d.title, "content": d.text[:EXCERPT], "lang": d.lang, "source": d.source}
        for d in corpus.of("train", "encyclopedia", "news", "dictionary", "recipe", "speech")
        if d.title
    ]
    enough = _enough(params.weak_pairs, params)
    most = enough if params.weak_openings is None else min(enough, params.weak_openings)
    for lang in corpus.scripture.languages:
        for name, first, rest in openings(corpus.scripture, lang, most, params.seed):
            rows.append({"id": f"weak/{name}", "title": first, "content": rest, "lang": lang, "source": "bible, opening and what follows"})
    return _decontaminated(by_lang_then_source(rows, params.weak_pairs, params.seed), corpus, "title", "content")


def retrieval_pairs(corpus: Corpus, params: DataParams) -> list[dict]:
    """Question -> answer, description -> article, message -> reply."""
    rows = []
    for d in corpus.of("train", "question", "dialogue", "encyclopedia", "news"):
        anchor = d.title if d.kind in ("question", "dialogue") else d.summary
        if anchor:
            rows.append(
                {"id": f"retrieval/{d.id}", "anchor": anchor, "positive": d.text[:EXCERPT], "positive_id": _passage_id(d), "lang": d.lang,
                 "source_anchor_id": f"retrieval/{d.id}", "source": d.source}
            )  # fmt: skip
    return by_lang_then_source(rows, params.retrieval_pairs, params.seed)


def _passage_id(document: Document) -> str:
    """Answers that are one text are one passage, so that none of them is another question's negative."""
    return f"{document.source}/{document.text.casefold()}" if document.kind in ("question", "dialogue") else document.id


def clr_pairs(corpus: Corpus, params: DataParams) -> list[dict]:
    """Verses, and leads of articles with one title, in every other language -> the pivot's."""
    pivot, *others = params.languages
    scripture = corpus.scripture
    verses = sample(scripture.verses("train"), params.clr_verses, params.seed)
    texts = {lang: {verse_id(verse, pivot): scripture.text(verse, lang) for verse in verses} for lang in scripture.languages[1:]}
    queries = [Query(verse_id(v, pivot), scripture.text(v, pivot), scripture.text(v, pivot), verse_id(v, pivot)) for v in verses]
    rows = list(clr_records(queries, AlignedTranslations(texts), scripture.languages[1:], "bible, human translation"))

    articles = corpus.of("train", "encyclopedia")
    pivots = {d.group: d for d in articles if d.lang == pivot}
    leads = {lang: {pivots[d.group].id: d.text[:EXCERPT] for d in articles if d.lang == lang and d.group in pivots} for lang in others}
    queries = [Query(d.id, d.text[:EXCERPT], d.text[:EXCERPT], d.id) for d in pivots.values()]
    return rows + list(clr_records(queries, AlignedTranslations(leads), others, "wiki, articles with one title"))


def passages(retrieval: Iterable[dict], clr: Iterable[dict], corpus: Corpus, params: DataParams) -> list[dict]:
    """What hard negatives are mined from: every positive once, then further articles and dictionary entries."""
    rows = {row["positive_id"]: (row["positive"], row["lang"], row["source"]) for row in retrieval}
    rows |= {row["positive_id"]: (row["positive"], params.languages[0], row["source"]) for row in clr}
    for d in corpus.of("train", "encyclopedia", "news", "dictionary"):
        rows.setdefault(d.id, (d.text[:EXCERPT], d.lang, d.source))
    return [{"id": key, "text": text, "lang": lang, "source": source} for key, (text, lang, source) in rows.items()]


def sft_records(corpus: Corpus, params: DataParams) -> list[dict]:
    """Instruction -> input -> output: a query and what should be found or said, in several tasks and languages."""
    rows = [row for d in corpus.documents["train"] if "#" not in d.id for row in _instructions(d)]
    scripture = corpus.scripture
    pivot, *others = scripture.languages
    for lang in others:
        for verse in sample(scripture.verses("train"), _enough(params.sft_records, params), f"{params.seed} {lang}"):
            source, target = (lang, pivot) if chance(params.seed, verse, lang) < 0.5 else (pivot, lang)
            instruction = f"Translate from {english_name(source)} into {english_name(target)}."
            texts = scripture.text(verse, source), scripture.text(verse, target)
            rows.append(_sft(verse_id(verse, lang), instruction, *texts, lang, "translation"))
    for lang in scripture.languages:
        for name, first, rest in openings(scripture, lang, _enough(params.sft_records, params), params.seed + 1):
            rows.append(_sft(name, "Continue the passage.", first, rest, lang, "continuation"))
    chosen = by_lang_then_source(rows, params.sft_records, params.seed)
    return _decontaminated(chosen, corpus, "input", "output")


def _instructions(d: Document) -> Iterator[dict]:
    excerpt = d.text[: EXCERPT // 2]
    if d.kind == "question":
        yield _sft(d.id, "Answer the question.", d.title, d.text, d.lang, "trivia")
    elif d.kind == "dialogue":
        yield _sft(d.id, "Reply to the message.", d.title, d.text, d.lang, "dialogues")
    elif d.kind == "dictionary":
        yield _sft(d.id, "解释这个成语。", d.title, d.text, d.lang, "idioms")
    elif d.kind in ("encyclopedia", "news") and d.title:
        yield _sft(d.id, "Write a title for this text.", excerpt, d.title, d.lang, f"{d.source}, title")
        if d.summary:
            yield _sft(d.id, "Find the passage that this describes.", d.summary, excerpt, d.lang, f"{d.source}, description")
    elif d.kind == "recipe" and d.title:
        yield _sft(d.id, "Write down this recipe.", d.title, excerpt, d.lang, "recipes")
    elif d.kind == "review" and d.label:
        yield _sft(d.id, "Which kind of review is this?", excerpt, d.label, d.lang, f"{d.source}, label")


def _sft(name: str, instruction: str, text: str, output: str, lang: str, source: str) -> dict:
    return {"id": name, "instruction": instruction, "input": text, "output": output, "lang": lang, "source": source}


def similarity_pairs(corpus: Corpus, params: DataParams) -> list[dict]:
    """Sentence pairs with graded scores, monolingual. The scores are derived from how two verses are related, not judged by people:

    1.0 two editions of one verse, 0.6 verses that editors refer to each other, 0.3 neighbours in a chapter, 0.0 verses drawn at random.
    """
    scripture = corpus.scripture
    verses = scripture.verses("train")
    known = set(verses)
    shuffled = sorted(verses, key=lambda verse: chance(params.seed, "random", verse))
    related = {
        "cross-reference": (0.6, [pair for pair in cross_references() if pair[0] in known and pair[1] in known]),
        "neighbour": (0.3, [(a, b) for a, b in pairwise(verses) if a[:2] == b[:2]]),
        "random": (0.0, list(zip(verses, shuffled, strict=True))),
    }
    rows = []
    each = max(1, params.sts_pairs // len(params.languages))
    for lang in scripture.languages:
        if len(scripture.editions[lang]) > 1:
            for verse in sample(verses, each, params.seed):
                rows.append(_similarity(scripture.text(verse, lang), scripture.text(verse, lang, 1), 1.0, lang, "two editions"))
        for name, (score, pairs) in related.items():
            for a, b in sample(pairs, each, params.seed):
                rows.append(_similarity(scripture.text(a, lang), scripture.text(b, lang), score, lang, name))
    rows = [row for row in rows if row["sentence1"] and row["sentence2"] and row["sentence1"] != row["sentence2"]]
    return by_lang_then_source(rows, params.sts_pairs, params.seed)


def _similarity(first: str, second: str, score: float, lang: str, how: str) -> dict:
    return {"id": f"{first} {second}", "sentence1": first, "sentence2": second, "score": score, "lang": lang, "source": f"bible, {how}"}


def labelled(corpus: Corpus, split: str) -> dict[str, list[Document]]:
    """Documents with labels, by set; wiki's labels are words of its language, so each language is a set of its own."""
    sets = defaultdict(list)
    for d in corpus.documents[split]:
        if d.label and d.source in LABEL_TASKS:
            sets[f"{d.source}-{d.lang}" if d.source == "wiki" else d.source].append(d)
    return sets


def label_texts(corpus: Corpus, params: DataParams) -> list[dict]:
    """Text, its label, and another label of the same set as the negative."""
    rows = []
    for name, documents in labelled(corpus, "train").items():
        labels = sorted({d.label for d in documents})
        if len(labels) < 2:
            continue
        for d in documents:
            step = 1 + int(chance(params.seed, d.id) * (len(labels) - 1))
            negative = labels[(labels.index(d.label) + step) % len(labels)]
            rows.append(
                {"id": d.id, "text": d.text[:EXCERPT], "positive": d.label, "negative": negative, "label": d.label, "set": name,
                 "task": LABEL_TASKS[d.source], "lang": d.lang, "source": d.source}
            )  # fmt: skip
    return by_lang_then_source(rows, params.label_texts, params.seed)


def parallel_documents(corpus: Corpus, params: DataParams) -> list[Document]:
    """Passages of training books followed by their translation, from the pivot or into it by turns."""
    scripture = corpus.scripture
    pivot, *others = scripture.languages
    rows = []
    for number, lang in enumerate(others):
        share = params.parallel_passages // len(others) + (number < params.parallel_passages % len(others))
        for run in sample(scripture.passages("train", PASSAGE), share, params.seed + number):
            sides = [join((scripture.text(verse, own) for verse in run), own) for own in (pivot, lang)]
            if chance(params.seed, "side", run[0], lang) < 0.5:
                sides.reverse()
            rows.append(Document(f"parallel/{verse_id(run[0], lang)}", "\n".join(sides), lang, "bible, parallel", "parallel"))
    overlap = corpus.index.overlaps([(d.text, d.lang) for d in rows])
    return [d for d, bad in zip(rows, overlap, strict=True) if not bad]


def _decontaminated(rows: list[dict], corpus: Corpus, *fields: str) -> list[dict]:
    """Without rows that overlap an evaluation text; joined verses can where single ones do not."""
    bad = [corpus.index.overlaps([(row[field], row["lang"]) for row in rows]) for field in fields]
    return [row for row, *found in zip(rows, *bad, strict=True) if not any(found)]
