"""The data stage: sources -> clean documents -> training sets and held-out evaluation sets."""

from collections import Counter
from collections.abc import Sequence

from conan_lib.artefacts import write_json
from conan_lib.data import heldout, pairs, records
from conan_lib.data.bible import PACKAGE, Scripture, check_languages, editions, has_scripture
from conan_lib.data.corpus import HELDOUT, SCRIPTURE, Corpus, gather
from conan_lib.data.embedded import SOURCES, Source
from conan_lib.errors import UserError
from conan_lib.params.data import DataParams
from conan_lib.stages import Stage, computes

SCHEMAS = {
    "documents": records.schema("id text title lang source kind split"),
    "sft": records.schema("instruction input output lang source"),
    "weak": records.schema("id title content lang source"),
    "retrieval": records.schema("id anchor positive positive_id source_anchor_id lang source"),
    "clr": records.schema("id anchor positive positive_id source_anchor_id lang source"),
    "corpus": records.schema("id text lang source"),
    "sts": records.schema("sentence1 sentence2 lang source", "score"),
    "labels": records.schema("text positive negative label set task lang source"),
    "mixing": records.schema("text lang group"),
}
"""Columns of each table of the artefact."""


@computes
def build_data(stage: Stage) -> dict:
    """Read, clean, split and pair the text of a run.

    Nothing of an evaluation set is in a training file: books, titles, answers and templates are split whole, and what overlaps an
    evaluation text by an n-gram is removed. The result does not depend on the number of processes.

    Args:
        stage: the opened "data" stage.

    Returns:
        The stage, finished.

    Raises:
        UserError: a data package is missing, a language is unknown, the held-out books are too small, no text is left, or the hub is out
            of reach.
    """
    params: DataParams = stage.data
    sources = open_sources(params)
    check_languages(params)  # an unknown one shows before anything is written
    workers = stage.runtime.threads
    scripture = Scripture(params, workers)
    for split in HELDOUT:
        heldout.candidates(scripture, params, split)  # books that are too small show before the long work
    external = [(text, "en") for pair in heldout.lee50() for text in pair[:2]]
    corpus = gather(params, scripture, sources, dict.fromkeys(external), workers)
    tables = training_tables(corpus, params)
    rows = {name: records.write(stage.path / f"{name}.parquet", table, SCHEMAS[name]) for name, table in tables.items()}
    tasks = {split: heldout.write_sets(corpus, params, split, stage.path / "eval" / split) for split in HELDOUT}
    write_json(stage.path / "funnel.json", corpus.funnel.rows())
    write_json(stage.path / "sources.json", corpus.sources)
    return _results(corpus, rows, tasks)


def open_sources(params: DataParams) -> Sequence[Source]:
    """The readers of data.source; see build_data for the errors."""
    if params.source == "hub":
        from conan_lib.data.hub import hub_sources

        sources = hub_sources(params)
    else:
        sources = SOURCES
    names = {*(source.name for source in sources), *SCRIPTURE}
    if unknown := sorted(set(params.source_documents or ()) - names):
        raise UserError(f"data.source_documents: no source {', '.join(unknown)}: choose from {', '.join(sorted(names))}")
    return sources


def catalogue(params: DataParams) -> list[dict[str, str]]:
    """What a run reads, known before anything is read: a row for each source and each edition of scripture, in the run's languages.

    The licence is that of the text itself; sources.json has the package's beside it. The second edition of a language is listed also where
    only similarity pairs quote it (`data.editions` is 1).
    """
    if params.source == "hub":
        from conan_lib.data.hub import declared

        sources = declared(params)
    else:
        sources = SOURCES
    rows = [
        (source.name, source.package, source.edition, " ".join(own), source.content_licence)
        for source in sources
        if (own := [lang for lang in params.languages if lang in source.languages])
    ]
    for lang in filter(has_scripture, params.languages):
        for number, edition in enumerate(editions(lang)[: max(2, params.editions)]):
            rows.append((SCRIPTURE[min(number, 1)], PACKAGE, edition.name, lang, edition.licence))
    return [dict(zip(("source", "package", "edition", "languages", "licence of the text"), row, strict=True)) for row in rows]


def training_tables(corpus: Corpus, params: DataParams) -> dict[str, list[dict]]:
    """Every table of SCHEMAS; all but documents and mixing come from training text alone."""
    retrieval, clr = pairs.retrieval_pairs(corpus, params), pairs.clr_pairs(corpus, params)
    return {
        "documents": _documents(corpus, params),
        "sft": pairs.sft_records(corpus, params),
        "weak": pairs.weak_pairs(corpus, params),
        "retrieval": retrieval,
        "clr": clr,
        "corpus": pairs.passages(retrieval, clr, corpus, params),
        "sts": pairs.similarity_pairs(corpus, params),
        "labels": pairs.label_texts(corpus, params),
        "mixing": heldout.mixing_texts(corpus, params),
    }


def _documents(corpus: Corpus, params: DataParams) -> list[dict]:
    """Language-model text: prose, and questions, dialogues and dictionary entries with what they are about."""
    rows = []
    for split, documents in {**corpus.documents, "train": corpus.documents["train"] + pairs.parallel_documents(corpus, params)}.items():
        for d in documents:
            if d.kind in ("discussion", "command"):
                continue
            titled = {"question": "\n", "dialogue": "\n", "dictionary": "："}.get(d.kind)
            text, title = (d.title + titled + d.text, "") if titled else (d.text, d.title)
            rows.append({"id": d.id, "text": text, "title": title, "lang": d.lang, "source": d.source, "kind": d.kind, "split": split})
    return rows


def _results(corpus: Corpus, rows: dict[str, int], tasks: dict[str, list[dict]]) -> dict:
    documents = corpus.documents["train"]
    chars = Counter()
    for document in documents:
        chars[document.lang] += len(document.text)
    return {
        "rows": rows,
        "train_documents": len(documents),
        "train_chars": dict(chars),
        "languages": list(chars),
        "verses_removed": len(corpus.scripture.tainted),
        "evaluation_sets": {split: [task["name"] for task in found] for split, found in tasks.items()},
    }
