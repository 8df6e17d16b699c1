"""From sources to clean, split documents: read, sample, repair, identify, judge, remove duplicates, decontaminate."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

from conan_lib.data.clean import Funnel, check, exact_duplicates, near_duplicates, repair
from conan_lib.data.corpus import HELDOUT, Corpus, Splits
from conan_lib.data.declared.gather import PASSAGE, Declared, asked, decontaminated
from conan_lib.data.decontaminate import EvaluationIndex
from conan_lib.data.sampling import drawn_split, sample
from conan_lib.data.sources.bible import LANGUAGES, PACKAGE, SCRIPTURE, Scripture
from conan_lib.data.sources.document import Document, Source
from conan_lib.data.sources.packages import homepage, installed, licence
from conan_lib.data.workers import parallel
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams

STEPS = ("read", "sampled", "language", "quality", "exact duplicates", "near duplicates", "decontaminated")
"""The funnel's rows, in order; each counts what is left after the step."""
SENTENCE_ENDS = ".!?。！？؟\n"


def divide(text: str, longest: int) -> Iterator[str]:
    """Pieces of at most `longest` characters, cut after a sentence where one ends in the second half of a piece."""
    while len(text) > longest:
        end = max(text.rfind(mark, longest // 2, longest) for mark in SENTENCE_ENDS) + 1
        if end == 0:
            end = max(text.rfind(" ", longest // 2, longest), 0) or longest
        yield text[:end].strip()
        text = text[end:].strip()
    if text:
        yield text


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
    declared: Declared | None = None,
) -> tuple[Corpus, Funnel, list[dict]]:
    """Read and clean every source -> the corpus, what each step left, and a record of each source.

    Args:
        params: languages, sizes, thresholds, held-out shares.
        scripture: its verses; those of training books that overlap an evaluation text are marked here.
        sources: the other readers.
        evaluation_texts: (text, language) of evaluation sets that come from no source here.
        workers: processes; the result does not depend on it.
        declared: what files and the hub gave.

    Raises:
        UserError: a package is missing, or there was text and nothing of it is left.
    """
    funnel, declared = Funnel(), declared or Declared()
    splits: Splits = {"test": [], "dev": [], "train": []}
    prose, records = {}, []
    tasks = [(source, lang) for source in sources for lang in source.languages if lang in params.languages]
    for (source, lang), (found, record) in zip(tasks, parallel(_read, [(*task, params) for task in tasks], workers), strict=True):
        records.append(record)
        prose[source.name] = source.role == "prose"
        for split, documents in found.items():
            splits[split] += documents
        funnel.add(source.name, lang, "read", record["documents"], record["chars"])
        funnel.count("sampled", (document for documents in found.values() for document in documents))
    for (name, _), by_split in _by_source(declared.documents).items():
        funnel.count("read", (document for documents in by_split.values() for document in documents))
        for split, documents in by_split.items():
            kept = _cut(name, documents, split, params)
            funnel.count("sampled", kept)
            splits[split] += kept
    records += declared.records

    index = EvaluationIndex(params.decontamination_ngram)
    index.add(evaluation_texts)
    for split in HELDOUT:
        index.add((text, lang) for lang, verses in scripture.every_edition(split) for text in verses.values())
        index.add((repair(text, d.lang), d.lang) for d in splits[split] for text in evaluated(d))
        index.add(pair for row in declared.rows if row["split"] == split for pair in asked(row))
    _taint(scripture, index, workers)
    records += _read_scripture(scripture, params, splits, funnel)

    documents = _clean(splits, prose, params, funnel, workers)
    documents["train"] = _decontaminate(documents["train"], index, workers)
    for split in documents:
        funnel.count("decontaminated", documents[split])
    if any(d.kind != PASSAGE for found in splits.values() for d in found) and not any(
        prose.get(d.source, True) for d in documents["train"]
    ):
        raise UserError("data: no training text is left after cleaning: lower data.min_chars or raise data.max_documents")
    return Corpus(params, documents, scripture, index, decontaminated(declared.rows, index)), funnel, records


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
    for split, found in by_split.items():
        by_split[split] = _cut(source.name, found, split, params, source.role == "prose", source.aligned)
    counts = {"documents": len(whole), "chars": sum(len(document.text) for document in whole)}
    return dict(by_split), {**_source_record(source, lang), **counts}


def _by_source(documents: Splits) -> dict[tuple[str, str], Splits]:
    """Documents by (source, language), and in each by split."""
    found = defaultdict(lambda: defaultdict(list))
    for split, own in documents.items():
        for document in own:
            found[document.source, document.lang][split].append(document)
    return found


def _cut(
    source: str, documents: list[Document], split: str, params: DataParams, prose: bool = True, aligned: bool = False
) -> list[Document]:
    """Documents of one source, language and split: prose in pieces, no more than are asked for, none longer than max_chars."""
    size = params.most_documents(source) if split == "train" else params.heldout_documents
    if prose:
        documents = [piece for document in documents for piece in _pieces(document, params.max_chars)]
    kept = sample(documents, size, params.seed, (lambda d: d.group) if aligned else None)
    return [document._replace(text=document.text[: params.max_chars]) for document in kept]


def _pieces(document: Document, longest: int) -> Iterator[Document]:
    """A document, or its parts; only the first part keeps the title, the summary and the label."""
    if len(document.text) <= longest:
        yield document
        return
    for number, piece in enumerate(divide(document.text, longest)):
        later = {"id": f"{document.id}#{number}", "title": "", "summary": "", "label": ""} if number else {}
        yield document._replace(text=piece, **later)


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


def _read_scripture(scripture: Scripture, params: DataParams, splits: Splits, funnel: Funnel) -> list[dict]:
    records = []
    for lang, found in scripture.editions.items():
        for number, edition in enumerate(found[: params.editions]):
            source = SCRIPTURE[min(number, 1)]
            chapters = [
                (scripture.split(book), Document(f"bible/{edition.code}/{book}/{chapter}", text, lang, source, "scripture"))
                for book, chapter, text in scripture.chapters(lang, number)
            ]
            funnel.count("read", (document for _, document in chapters))
            for split, size in (
                ("train", params.most_documents(source)),
                ("dev", params.heldout_documents),
                ("test", params.heldout_documents),
            ):
                pieces = [piece for own, d in chapters if own == split for piece in _pieces(d, params.max_chars)]
                kept = sample(pieces, size, params.seed)
                funnel.count("sampled", kept)
                splits[split] += kept
            note = f"{len(scripture.tainted)} verses that overlap an evaluation text were removed before chapters were joined"
            origin = Source(source, PACKAGE, (lang,), None, content_licence=edition.licence, edition=edition.name, note=note)
            chars = sum(len(document.text) for _, document in chapters)
            records.append({**_source_record(origin, lang), "documents": len(chapters), "chars": chars})
    return records


def _clean(documents: Splits, prose: dict[str, bool], params: DataParams, funnel: Funnel, workers: int) -> Splits:
    """Per-text steps, then duplicates. Held-out documents come first, so of two equal texts the training one goes."""
    flat = [(split, document) for split in ("test", "dev", "train") for document in documents[split]]
    checked = [None] * len(flat)
    for is_prose in (True, False):
        numbers = [i for i, (_, d) in enumerate(flat) if prose.get(d.source, True) == is_prose]
        rows = [(flat[i][1].text, flat[i][1].lang) for i in numbers]
        for i, found in zip(numbers, check(rows, is_prose, {*LANGUAGES, *params.languages}, params, workers), strict=True):
            checked[i] = found

    flat = [
        (split, d._replace(text=c.text, title=repair(d.title, d.lang), summary=repair(d.summary, d.lang)), c)
        for (split, d), c in zip(flat, checked, strict=True)
    ]
    for step in ("language", "quality"):
        flat = [row for row in flat if row[2].dropped != step]
        funnel.count(step, (document for _, document, _ in flat))
    duplicate = exact_duplicates([f"{d.title} {d.text}" if not prose.get(d.source, True) else d.text for _, d, _ in flat])
    flat = [row for row, copy in zip(flat, duplicate, strict=True) if not copy]
    funnel.count("exact duplicates", (document for _, document, _ in flat))
    duplicate = near_duplicates([c.signature for _, _, c in flat], params)
    flat = [row for row, copy in zip(flat, duplicate, strict=True) if not copy]
    funnel.count("near duplicates", (document for _, document, _ in flat))
    return {split: [document for own, document, _ in flat if own == split] for split in documents}


def _decontaminate(train: list[Document], index: EvaluationIndex, workers: int) -> list[Document]:
    """Drop training documents that overlap an evaluation text, and blank short descriptions that do."""
    shown = [(number, text) for number, d in enumerate(train) for text in evaluated(d._replace(summary=""))]
    owners, rows = [number for number, _ in shown], [(text, train[number].lang) for number, text in shown]
    part = max(1, -(-len(rows) // workers))
    overlaps = parallel(index.overlaps, [(rows[start : start + part],) for start in range(0, len(rows), part)], workers)
    bad = {owner for owner, overlap in zip(owners, chain.from_iterable(overlaps), strict=True) if overlap}
    known = index.overlaps([(d.summary, d.lang) for d in train])
    return [d._replace(summary="") if same else d for number, (d, same) in enumerate(zip(train, known, strict=True)) if number not in bad]
