"""From sources to clean, split documents: read, sample, repair, identify, judge, remove duplicates, decontaminate."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from conan_lib.data.clean import CHUNK, Funnel, check, repair
from conan_lib.data.corpus import HELDOUT, Corpus, write_corpus
from conan_lib.data.declared.gather import PASSAGE, SPLITS, Declared, asked, decontaminated
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.ngrams import normalise
from conan_lib.data.ondisk import NearDuplicates, OnDisk
from conan_lib.data.pieces import pieces
from conan_lib.data.places import digest
from conan_lib.data.records import batched
from conan_lib.data.sampling import drawn_split, sample
from conan_lib.data.sources.bible import LANGUAGES, PACKAGE, SCRIPTURE, Scripture
from conan_lib.data.sources.document import Document, Source
from conan_lib.data.sources.packages import homepage, installed, licence
from conan_lib.data.workers import parallel
from conan_lib.errors import UserError
from conan_lib.files import scratch
from conan_lib.params.data import DataParams

STEPS = ("read", "sampled", "language", "quality", "exact duplicates", "near duplicates", "decontaminated")
"""The funnel's rows, in order; each counts what is left after the step."""
Splits = dict[str, list[Document]]


def split_of(document: Document, source: Source, params: DataParams) -> str:
    """train, dev or test, by the document's group: a title in all its languages, an answer, a template."""
    if document.official == "train":
        return "train"
    share = params.heldout_share if source.heldout_share is None else source.heldout_share
    return drawn_split(document.group or document.id, 0.5 if document.official else share, params.seed)


def gather(
    params: DataParams,
    scripture: Scripture,
    sources: Iterable[Source],
    evaluation_texts: Iterable[tuple[str, str]],
    workers: int,
    folder: Path,
    counts: Funnel | None = None,
) -> tuple[Corpus, Funnel, list[dict]]:
    """Read and clean every source -> the corpus, what each step left, and a record of each source.

    What packages hold is in memory; what files and the hub hold streams through files in the folder.

    Args:
        params: languages, sizes, thresholds, held-out shares.
        scripture: its verses; those of training books that overlap an evaluation text are marked here.
        sources: the other readers.
        evaluation_texts: (text, language) of evaluation sets that come from no source here.
        workers: processes; the result does not depend on it.
        folder: of the corpus, which is written there.
        counts: counts the records of declared sets.

    Raises:
        UserError: a package is missing, a set cannot be read, or there was text and nothing of it is left.
    """
    funnel = Funnel()
    read: Splits = {name: [] for name in SPLITS}
    prose, origins = {}, []
    tasks = [(source, lang) for source in sources for lang in source.languages if lang in params.languages]
    for (source, lang), (found, record) in zip(tasks, parallel(_read, [(*task, params) for task in tasks], workers), strict=True):
        origins.append(record)
        prose[source.name] = source.role == "prose"
        for name, documents in found.items():
            read[name] += documents
        funnel.add(source.name, lang, "read", record["documents"], record["chars"])
        funnel.count("sampled", (document for documents in found.values() for document in documents))
    with scratch(folder / ".declared") as spool:
        declared = Declared(params, spool, counts or Funnel(), funnel)
        origins += declared.records
        index = EvaluationIndex(params.decontamination_ngram)
        index.add(evaluation_texts)
        for name in HELDOUT:
            index.add((text, lang) for lang, verses in scripture.every_edition(name) for text in verses.values())
            shown = chain(read[name], declared.documents(name))
            index.add((repair(text, d.lang) if d.clean else text, d.lang) for d in shown for text in evaluated(d))
        index.add(pair for row in declared.rows(*HELDOUT) for pair in asked(row))
        _taint(scripture, index, workers)
        verses, found = _read_scripture(scripture, params, funnel)
        documents = (
            (name, document)
            for name in SPLITS
            for document in chain(read[name], funnel.counted("sampled", declared.documents(name)), verses[name])
        )
        corpus = Corpus(params, folder, scripture, index)
        clean = _clean(documents, prose, params, index, funnel, workers)
        write_corpus(corpus, clean, decontaminated(declared.rows(*SPLITS), index))
    return corpus, funnel, origins + found


def evaluated(document: Document) -> list[str]:
    """The texts of a held-out document that an evaluation shows; the rows of declared sets say themselves what is asked of them."""
    if document.kind == PASSAGE:
        return []
    titled = document.kind in ("question", "dialogue", "news") and document.title
    return [document.text] + ([document.title] if titled else []) + ([document.summary] if document.summary else [])


def _read(source: Source, lang: str, params: DataParams) -> tuple[Splits, dict]:
    """One source in one language, split by group, divided into pieces and cut to size; and its record for sources.json."""
    whole = list(source.reader(lang, params.seed))
    by_split = defaultdict(list)
    for document in whole:
        by_split[split_of(document, source, params)].append(document)
    for name, found in by_split.items():
        by_split[name] = _cut(source.name, found, name, params, source.role == "prose", source.aligned)
    counts = {"documents": len(whole), "chars": sum(len(document.text) for document in whole)}
    return dict(by_split), {**_source_record(source, lang), **counts}


def _cut(
    source: str, documents: list[Document], name: str, params: DataParams, prose: bool = True, aligned: bool = False
) -> list[Document]:
    """Documents of one source, language and split: prose in pieces, no more than are asked for, none longer than max_chars."""
    size = params.most_documents(source) if name == "train" else params.heldout_documents
    if prose:
        documents = [piece for document in documents for piece in pieces(document, params.max_chars)]
    kept = sample(documents, size, params.seed, (lambda d: d.group) if aligned else None)
    return [document._replace(text=document.text[: params.max_chars]) for document in kept]


def _source_record(source: Source, lang: str) -> dict:
    package = source.package
    return {
        "name": source.name,
        "package": package,
        "version": installed(package).version,
        "licence": f"text: {source.content_licence}; package: {licence(package)}",
        "edition": source.edition or "not stated",
        "homepage": homepage(package),
        "languages": [lang],
        "note": source.note,
    }


def _taint(scripture: Scripture, index: EvaluationIndex, workers: int) -> None:
    """Mark verses of training books that overlap an evaluation text in any language or edition."""
    found = list(scripture.every_edition("train"))
    overlaps = parallel(index.overlaps, [([(text, lang) for text in verses.values()],) for lang, verses in found], workers)
    scripture.taint(
        verse
        for (_, verses), overlap in zip(found, overlaps, strict=True)
        for verse, tainted in zip(verses, overlap, strict=True)
        if tainted
    )


def _read_scripture(scripture: Scripture, params: DataParams, funnel: Funnel) -> tuple[Splits, list[dict]]:
    """Chapters by split, none where verses are no language-model text; and a record of each edition."""
    splits, origins, text = {name: [] for name in SPLITS}, [], params.scripture_trains("text")
    for lang, found in scripture.editions.items():
        for number, edition in enumerate(found[: params.editions]):
            source = SCRIPTURE[min(number, 1)]
            chapters = [
                (scripture.split(book), Document(f"bible/{edition.code}/{book}/{chapter}", own, lang, source, "scripture"))
                for book, chapter, own in (scripture.chapters(lang, number) if text else ())
            ]
            funnel.count("read", (document for _, document in chapters))
            for name in ("train", "dev", "test"):
                kept = _cut(source, [document for own, document in chapters if own == name], name, params)
                funnel.count("sampled", kept)
                splits[name] += kept
            note = f"{len(scripture.tainted)} verses that overlap an evaluation text were removed before chapters were joined"
            origin = Source(source, PACKAGE, (lang,), None, content_licence=edition.licence, edition=edition.name, note=note)
            chars = sum(len(document.text) for _, document in chapters)
            origins.append({**_source_record(origin, lang), "documents": len(chapters), "chars": chars})
    return splits, origins


def _clean(
    documents: Iterable[tuple[str, Document]],
    prose: dict[str, bool],
    params: DataParams,
    index: EvaluationIndex,
    funnel: Funnel,
    workers: int,
) -> Iterator[tuple[str, Document]]:
    """Per-text steps, then duplicates, then decontamination. Held-out documents come first, so of two equal texts the training one goes.

    Raises:
        UserError: there was text to train on, and nothing of it is left.
    """
    seen, near, wanted, left = OnDisk(), NearDuplicates(params), False, False
    for some in batched(documents, CHUNK * workers):
        rows = [(d.text, d.lang, prose.get(d.source, d.kind != PASSAGE), d.clean) for _, d in some]  # passages may be short
        kept: list[tuple[str, Document]] = []
        checked = check(rows, {*LANGUAGES, *params.languages}, params, workers)
        for (name, d), (_, _, is_prose, _), c in zip(some, rows, checked, strict=True):
            wanted |= d.kind != PASSAGE
            if d.clean:
                d = d._replace(text=c.text, title=repair(d.title, d.lang), summary=repair(d.summary, d.lang))
            if c.dropped == "language":
                continue
            funnel.count("language", [d])
            if c.dropped == "quality":
                continue
            funnel.count("quality", [d])
            own = d.text if is_prose else f"{d.title} {d.text}"
            if not seen.add(digest(normalise(own) or own)):
                continue
            funnel.count("exact duplicates", [d])
            if near.add(c.signature):
                continue
            funnel.count("near duplicates", [d])
            kept.append((name, d))
        train = iter(_decontaminate([d for name, d in kept if name == "train"], index, workers))
        for name, d in kept:
            d = next(train) if name == "train" else d
            if d is not None:
                left |= name == "train" and prose.get(d.source, True)
                funnel.count("decontaminated", [d])
                yield name, d
    if wanted and not left:
        raise UserError("data: no training text is left after cleaning: lower data.min_chars or raise data.max_documents")


def _decontaminate(train: list[Document], index: EvaluationIndex, workers: int) -> list[Document | None]:
    """None for training documents that overlap an evaluation text; short descriptions that do are blanked."""
    shown = [(number, text) for number, d in enumerate(train) for text in evaluated(d._replace(summary=""))]
    owners, rows = [number for number, _ in shown], [(text, train[number].lang) for number, text in shown]
    part = max(1, -(-len(rows) // workers))
    overlaps = parallel(index.overlaps, [(rows[start : start + part],) for start in range(0, len(rows), part)], workers)
    bad = {owner for owner, overlap in zip(owners, chain.from_iterable(overlaps), strict=True) if overlap}
    known = index.overlaps([(d.summary, d.lang) for d in train])
    clean = (d._replace(summary="") if same else d for d, same in zip(train, known, strict=True))
    return [None if number in bad else d for number, d in enumerate(clean)]
