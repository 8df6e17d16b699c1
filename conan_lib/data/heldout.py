"""Held-out evaluation sets, for test (reported) and dev (tuning): files that evaluation/tasks.py turns into mteb tasks."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from heapq import nsmallest
from itertools import combinations, islice
from pathlib import Path

from tqdm import tqdm

from conan_lib.data import records
from conan_lib.data.corpus import EXCERPT, HELDOUT, LABEL_TASKS, Corpus
from conan_lib.data.declared.fields import text_id
from conan_lib.data.ngrams import normalise
from conan_lib.data.ondisk import OnDisk
from conan_lib.data.sampling import chance, sample, stream_sample
from conan_lib.data.sources.bible import PACKAGE as BIBLE
from conan_lib.data.sources.bible import Verse, cross_references, verse_id
from conan_lib.data.sources.embedded import lee50
from conan_lib.data.sources.packages import licence
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.params.data import HeldoutParams

QUERIES, CORPUS = records.schema("id text lang"), records.schema("id text")
QRELS, RANKED = records.schema("query_id corpus_id", "score"), records.schema("query_id", lists="corpus_ids")
LABELS, PAIRS = records.schema("text label lang"), records.schema("sentence1 sentence2", "score")
MIXING = records.schema("text lang group")
KINDS = {"weak": "retrieval", "clr": "crosslingual"}
"""Declared task -> kind of its evaluation set, where it has another name."""
NEGATIVES = 29
"""Random verses beside the positives of a reranking query."""
MIXED = 100_000
"""Most documents of a run on one's own text alone that the texts of stage mix are drawn from."""
FEWEST = 10
"""Smaller sets measure nothing and are not made."""


class Writer:
    """Writes the sets of one split and lists them in tasks.json."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.tasks: list[dict] = []

    def add(self, name: str, kind: str, lang: str, source: str, licence_: str, note: str = "", **tables: tuple[list[dict], object]) -> None:
        """Write one set: file name -> (rows, schema)."""
        for file, (rows, schema) in tables.items():
            records.write(self.folder / name / f"{file}.parquet", rows, schema)
        entry = {"name": name, "type": kind, "lang": lang, "source": source, "licence": licence_, "note": note}
        entry["files"] = [f"{name}/{file}.parquet" for file in tables]
        entry["rows"] = {file: len(rows) for file, (rows, _) in tables.items()}
        languages = {row["lang"] for rows, _ in tables.values() for row in rows if row.get("lang")}
        self.tasks.append({**entry, "languages": sorted(languages) or [lang]})


def write_sets(corpus: Corpus, params: HeldoutParams, split: str, folder: Path) -> list[dict]:
    """Write every evaluation set of a split under `folder`; returns tasks.json's list.

    Raises:
        UserError: the split's books hold fewer verses than heldout.candidates.
    """
    writer = Writer(folder)
    if corpus.scripture.languages:
        _crosslingual(writer, corpus, params, split)
    _retrieval(writer, corpus, params, split)
    if corpus.scripture.languages:
        _reranking(writer, corpus, params, split)
    _labels(writer, corpus, params, split)
    _declared(writer, corpus, params, split)
    if split == "test" and corpus.params.embedded and corpus.params.languages[0] == "en":
        rows = [{"sentence1": a, "sentence2": b, "score": score} for a, b, score in lee50()]
        writer.add("lee50", "sts", "en", "gensim", licence("gensim"), "human similarities of 50 news texts", test=(rows, PAIRS))
    write_json(folder / "tasks.json", writer.tasks)
    return writer.tasks


def candidates(corpus: Corpus, params: HeldoutParams, split: str) -> list[Verse]:
    """Verses whose text differs from every other verse's in every language of the run: each query has one right answer. None where the run
    reads no scripture.

    Raises:
        UserError: fewer than heldout.candidates.
    """
    scripture = corpus.scripture
    verses = scripture.verses(split)
    for lang in scripture.languages:
        forms = {verse: normalise(scripture.text(verse, lang)) for verse in verses}
        counts = Counter(forms.values())
        verses = [verse for verse in verses if counts[forms[verse]] == 1]
    if scripture.languages and len(verses) < params.candidates:
        raise UserError(
            f"data.{split}_books: their {len(verses)} distinct verses are fewer than heldout.candidates {params.candidates}: "
            "hold out more books or ask for fewer candidates"
        )
    return sample(verses, params.candidates, corpus.params.seed)


def _crosslingual(writer: Writer, corpus: Corpus, params: HeldoutParams, split: str) -> None:
    pivot, *others = corpus.scripture.languages
    scripture, verses = corpus.scripture, candidates(corpus, params, split)
    queries = [{"id": verse_id(v, lang), "text": scripture.text(v, lang), "lang": lang} for lang in others for v in verses]
    passages = [{"id": verse_id(v, pivot), "text": scripture.text(v, pivot)} for v in verses]
    qrels = [{"query_id": verse_id(v, lang), "corpus_id": verse_id(v, pivot), "score": 1.0} for lang in others for v in verses]
    note = f"verses of held-out books, any language -> {pivot}; human translations"
    writer.add(
        "bible-clr", "crosslingual", pivot, BIBLE, licence(BIBLE), note,
        queries=(queries, QUERIES), corpus=(passages, CORPUS), qrels=(qrels, QRELS),
    )  # fmt: skip


def _retrieval(writer: Writer, corpus: Corpus, params: HeldoutParams, split: str) -> None:
    """Article, news and trivia sets of each language, from (query id, query, passage id, passage).

    A query that occurs twice is ambiguous and only its passage is kept.
    """
    kinds = ("encyclopedia", "news", "question")
    held = list(corpus.of(split, *kinds))
    for lang in corpus.params.languages:
        articles, news, asked = ([d for d in held if (d.kind, d.lang) == (kind, lang)] for kind in kinds)
        sets = {
            "wiki-retrieval": ("wiki", "CC BY-SA 4.0", "short description -> article",
                               [(d.id, d.summary, d.id, d.text[:EXCERPT]) for d in articles]),
            "news-retrieval": ("news", "not stated", "headline -> article",
                               [(d.id, d.title, d.id, d.text[:EXCERPT]) for d in news if d.title]),
            "trivia": ("trivia", "not stated", "question -> answer",
                       [(d.id, d.title, f"answer/{normalise(d.text)}", d.text) for d in asked]),
        }  # fmt: skip
        for name, (source, licence_, note, pairs) in sets.items():
            counts = Counter(normalise(query) for _, query, _, _ in pairs)
            chosen = [pair for pair in pairs if counts[normalise(pair[1])] == 1 and len(pair[1]) > 3]
            chosen = sample(chosen, params.texts, corpus.params.seed)
            passages = {key: text for _, _, key, text in pairs if text}
            if len(chosen) >= FEWEST:
                writer.add(
                    f"{name}-{lang}", "retrieval", lang, source, licence_, note,
                    queries=([{"id": f"q/{key}", "text": query, "lang": lang} for key, query, _, _ in chosen], QUERIES),
                    corpus=([{"id": key, "text": text} for key, text in passages.items()], CORPUS),
                    qrels=([{"query_id": f"q/{key}", "corpus_id": answer, "score": 1.0} for key, _, answer, _ in chosen], QRELS),
                )  # fmt: skip


def _reranking(writer: Writer, corpus: Corpus, params: HeldoutParams, split: str) -> None:
    """Cross-references inside the held-out books against random verses of the same books, in the pivot language."""
    pivot, scripture = corpus.params.languages[0], corpus.scripture
    verses = scripture.verses(split)
    known, positives = set(verses), {}
    for verse, other in cross_references():
        if verse in known and other in known:
            positives.setdefault(verse, []).append(other)
    queries = sample(positives, params.texts, corpus.params.seed)
    ranked, shown = [], set()
    for query in queries:
        others = [verse for verse in verses if verse != query and verse not in positives[query]]
        listed = positives[query] + sample(others, NEGATIVES, f"{corpus.params.seed} {query}")
        shown.update(listed)
        # in canonical order, so that a model that leaves ties as they stand gains nothing
        ranked.append({"query_id": "q/" + verse_id(query, pivot), "corpus_ids": [verse_id(verse, pivot) for verse in sorted(listed)]})
    if len(queries) >= FEWEST:
        writer.add(
            "bible-reranking", "reranking", pivot, BIBLE, licence(BIBLE), "editors' cross-references against random verses",
            queries=([{"id": "q/" + verse_id(v, pivot), "text": scripture.text(v, pivot), "lang": pivot} for v in queries], QUERIES),
            corpus=([{"id": verse_id(v, pivot), "text": scripture.text(v, pivot)} for v in sorted(shown)], CORPUS),
            qrels=([{"query_id": "q/" + verse_id(v, pivot), "corpus_id": verse_id(other, pivot), "score": 1.0}
                    for v in queries for other in positives[v]], QRELS),
            top_ranked=(ranked, RANKED),
        )  # fmt: skip


def _labels(writer: Writer, corpus: Corpus, params: HeldoutParams, split: str) -> None:
    train = corpus.labelled("train")
    for name, documents in corpus.labelled(split).items():
        kind = LABEL_TASKS[documents[0].source]
        languages = {d.lang for d in documents}
        texts = _label_rows(documents, params.texts, corpus.params.seed)
        shots = _label_rows(train.get(name, []), 8 * params.texts, corpus.params.seed)
        known = Counter((row["lang"], row["label"]) for row in shots)
        if kind == "classification":
            texts = [row for row in texts if known[row["lang"], row["label"]]]
        if len(texts) < FEWEST or len({row["label"] for row in texts}) < 2:
            continue
        tables = {"test": (texts, LABELS)} | ({"train": (shots, LABELS)} if kind == "classification" else {})
        lang = languages.pop() if len(languages) == 1 else "mul"
        writer.add(name, kind, lang, documents[0].source, "CC BY-SA 4.0" if documents[0].source == "wiki" else "not stated", **tables)


def _declared(writer: Writer, corpus: Corpus, params: HeldoutParams, split: str) -> None:
    """A set of each language of every declared set that is evaluated; of CLR, one set of all query languages."""
    seed = corpus.params.seed
    for declared in corpus.params.declared:
        own = corpus.rows.only(source=(declared.source,))
        by_lang = defaultdict(list)
        for row in own.only(split=(split,)):
            by_lang["" if declared.task == "clr" else row["lang"]].append(row)
        train = own.only(split=("train",))
        for lang, held in sorted(by_lang.items()):
            shown = train.only(lang=(lang,)) if lang else train
            name, kind = f"{declared.source}-{lang}" if lang else declared.source, KINDS.get(declared.task, declared.task)
            about = name, kind, lang or corpus.params.languages[0], declared.from_, "as its row of data.sets says"
            if kind in ("retrieval", "crosslingual"):
                tables = _searched(held, shown, params, seed, kind == "crosslingual")
            elif kind == "sts":
                pairs = sample(held, params.texts, seed)
                pairs = [{"sentence1": r["anchor"], "sentence2": r["positive"], "score": r["score"]} for r in pairs]
                tables = {"test": (pairs, PAIRS)} if len({row["score"] for row in pairs}) > 1 else {}
            elif kind in ("classification", "clustering"):
                known = Counter(row["label"] for row in shown.only("label"))
                texts = sample((row for row in held if row["label"] in known), params.texts, seed)
                tables = {"test": (texts, LABELS)} if len({row["label"] for row in texts}) > 1 else {}
                if kind == "classification":
                    few = stream_sample(shown, {"": known.total()}, {"": 8 * params.texts}, seed, lambda row: "")
                    tables |= {"train": (list(few), LABELS)}
            else:
                continue
            if len(next(iter(tables.values()), ([],))[0]) >= FEWEST:
                writer.add(*about, **tables)
            elif held:
                tqdm.write(f"{name}: not evaluated on {split}: of {len(held)} rows too few, or all alike; hold out more")


def _searched(held: list[dict], train: Iterable[dict], params: HeldoutParams, seed: int, by_language: bool) -> dict[str, tuple]:
    """Queries, their passages among those of training rows and given negatives, and which belong together.

    A query that stands in several records has all their passages. At most heldout.texts queries (of each language where there are several)
    and, beside their own passages, heldout.candidates others.
    """
    queries = {(row["lang"], row["anchor"]): f"q/{row['id']}" for row in held}
    languages = sorted({lang for lang, _ in queries}) if by_language else [None]
    chosen = {key for own in languages for key in sample((k for k in queries if own in (None, k[0])), params.texts, seed)}
    held = [row for row in held if (row["lang"], row["anchor"]) in chosen]
    passages = {row["positive_id"]: row["positive"] for row in held}
    shown = set(passages.values())
    others = OnDisk((text_id(text), text) for row in held for text in row["negatives"])
    for row in train:
        others.add(row["positive_id"], row["positive"])
    free = ((chance(seed, key), key, text) for key, text in others if text not in shown and key not in passages)
    corpus = [*passages.items(), *((key, text) for _, key, text in nsmallest(params.candidates, free))]
    relevant = dict.fromkeys((queries[row["lang"], row["anchor"]], row["positive_id"]) for row in held)
    return {
        "queries": ([{"id": queries[key], "text": key[1], "lang": key[0]} for key in queries if key in chosen], QUERIES),
        "corpus": ([{"id": key, "text": text} for key, text in corpus], CORPUS),
        "qrels": ([{"query_id": query, "corpus_id": passage, "score": 1.0} for query, passage in relevant], QRELS),
    }


def _label_rows(documents: Iterable, size: int, seed: int) -> list[dict]:
    """Labelled texts, evenly over languages."""
    documents = list(documents)
    languages = sorted({d.lang for d in documents})
    return [
        {"text": d.text[:EXCERPT], "label": d.label, "lang": d.lang}
        for lang in languages
        for d in sample((d for d in documents if d.lang == lang), size // len(languages), seed)
    ]


def mixing_texts(corpus: Corpus, params: HeldoutParams) -> list[dict]:
    """Held-out verses in every language, or the queries of declared clr rows with their passages; rows of one group say the same. A run
    that has neither gets held-out texts of one language, each a group of its own.

    Raises:
        UserError: clr rows are held out, and fewer than four groups are whole.
    """
    if not corpus.scripture.languages:
        seed, pivot = corpus.params.seed + 1, corpus.params.languages[0]
        if corpus.params.aligned_rows:
            return _aligned_rows(corpus.rows.only(task=("clr",), split=("test",)), pivot)
        texts = next(filter(None, (list(islice(corpus.documents(split), MIXED)) for split in (*HELDOUT, "train"))), [])
        lang = Counter(d.lang for d in texts).most_common(1)[0][0] if texts else pivot
        few = sample([d for d in texts if d.lang == lang], params.texts, seed)
        return [{"text": d.text, "lang": lang, "group": d.id} for d in few]
    verses = sample(candidates(corpus, params, "test"), params.texts, corpus.params.seed + 1)
    return [
        {"text": corpus.scripture.text(verse, lang), "lang": lang, "group": "bible/{}/{}/{}".format(*verse)}
        for verse in verses
        for lang in corpus.scripture.languages
    ]


def _aligned_rows(rows: Iterable[dict], pivot: str) -> list[dict]:
    """One text of each language in every group; where few queries are in all languages, those of the two that most groups have."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        groups[row["group"]] |= {row["lang"]: row["anchor"], row["positive_lang"] or pivot: row["positive"]}
    languages = {lang for texts in groups.values() for lang in texts}
    whole = [group for group, texts in groups.items() if set(texts) == languages]
    if len(whole) < FEWEST and len(languages) > 2:
        pairs = Counter(pair for texts in groups.values() for pair in combinations(sorted(texts), 2))
        languages = set(pairs.most_common(1)[0][0])
        whole = [group for group, texts in groups.items() if languages <= set(texts)]
    if len(whole) < 4:
        raise UserError(
            f"data.sets: {len(whole)} queries of the clr rows are held out, and the mixing of languages needs 4: hold out more "
            "(heldout: 0.2), or none (heldout: 0.0)"
        )
    return [{"text": groups[group][lang], "lang": lang, "group": group} for group in whole for lang in sorted(languages)]
