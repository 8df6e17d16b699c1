"""Questions and passages of MKQA by the paper's protocol: from the hub, from the embedded sources, or from a user's own files."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as compute

from conan_lib.data.declared.files import json_lines
from conan_lib.data.gather import split_of
from conan_lib.data.records import read_table
from conan_lib.data.sources.document import Document, Source
from conan_lib.data.sources.embedded import SOURCES
from conan_lib.errors import UserError
from conan_lib.files import sha256, unpacked
from conan_lib.params.mkqa import MkqaParams
from conan_lib.stages import Stage

QUESTIONS = ("Shitao/bge-m3-data", "MKQA_test-data.zip")
"""Data set and file on the hub: {language}.jsonl with id, question, answers; unanswerable, yes/no and long-answer questions are left out of
it already, which leaves 6,619 a language."""
NQ_PASSAGES = 2_681_468


class Question(NamedTuple):
    id: str
    lang: str
    text: str
    answers: tuple[str, ...]


class Passage(NamedTuple):
    id: str
    text: str
    """Title and text, a line each."""


@dataclass(frozen=True)
class Benchmark:
    """Questions in memory, passages as a stream that can be read again from its start."""

    name: str
    questions: list[Question]
    passages: Callable[[], Iterator[Passage]]
    size: int | None = None
    """Passages, where known before they are read."""
    facts: dict = field(default_factory=dict)
    """Said beside the scores."""


def load_benchmark(params: MkqaParams, split: str, corpus: Stage, root: Path) -> Benchmark:
    """The benchmark that the parameters name.

    Args:
        split: of the embedded questions: test or dev.
        corpus: the run's finished stage of that name, which splits titles and answers.
        root: what `params.folder` is relative to.

    Raises:
        UserError: no hub, no such file, a field is missing, or there is no question.
    """
    if params.source == "hub":
        return _hub(params)
    return _files(root / params.folder) if params.source == "files" else _embedded(params, split, corpus)


def _embedded(params: MkqaParams, split: str, corpus: Stage) -> Benchmark:
    """Trivia questions whose answers no training set holds, over Wikipedia leads in the run's languages. They are English: no source has
    real questions in the others, and none is invented."""
    readers = {source.name: source for source in SOURCES}
    (asked, split_asked), (leads, split_leads) = (_split(readers[name], corpus) for name in ("trivia", "wiki"))
    asked = [d for d, own in zip(asked, split_asked, strict=True) if own == split]
    if not asked:
        raise UserError("mkqa.source: embedded has questions in English alone, which data.languages lacks: use files or hub")
    if params.leads == "heldout":
        leads = [d for d, own in zip(leads, split_leads, strict=True) if own != "train"]
    documents = read_table(corpus.path / "documents.parquet").select(["id", "split"])
    trained = set(documents.filter(compute.equal(documents["split"], "train"))["id"].to_pylist())
    facts = {
        "questions_seen_in_training": sum(d.id in trained for d in asked),
        "passages_seen_in_training": sum(d.id in trained for d in leads),
        "passages_by_language": {lang: sum(d.lang == lang for d in leads) for lang in dict.fromkeys(d.lang for d in leads)},
    }
    questions = [Question(d.id, d.lang, d.title, (d.text,)) for d in asked]
    return Benchmark("embedded trivia over Wikipedia leads", questions, lambda: map(_passage, leads), len(leads), facts)


def _split(source: Source, corpus: Stage) -> tuple[list[Document], list[str]]:
    """Everything that a source holds in the run's languages, and the split of each document."""
    found = [d for lang in source.languages if lang in corpus.data.languages for d in source.reader(lang, corpus.data.seed)]
    return found, [split_of(d, source, corpus.data) for d in found]


def _passage(document: Document) -> Passage:
    return Passage(document.id, f"{document.title}\n{document.text}")


def _hub(params: MkqaParams) -> Benchmark:
    """The data of the published figures. The passages are BEIR's NQ at the revision that mteb pins."""
    import datasets
    import mteb
    from huggingface_hub import hf_hub_download

    found = mteb.get_task("NQ").metadata.dataset
    try:
        archive = hf_hub_download(*QUESTIONS, repo_type="dataset", etag_timeout=5)
        stream = datasets.load_dataset(found["path"], "corpus", split="corpus", revision=found["revision"], streaming=True)
    except Exception as error:  # the hub's client raises whatever its transport raises
        raise UserError(
            f"mkqa.source: hub gave no {QUESTIONS[0]} or {found['path']} ({type(error).__name__}): connect to it, or set mkqa.source to "
            "embedded or files"
        ) from None
    questions = [question for lang in params.languages for question in _of_archive(Path(archive), lang)]

    def passages() -> Iterator[Passage]:
        for number, row in enumerate(stream):
            yield _corpus_row(row, f"{found['path']}, row {number}")

    facts = {"corpus": found["path"], "corpus_revision": found["revision"], "questions_file": "/".join(QUESTIONS)}
    return Benchmark("MKQA over the BEIR NQ passages", questions, passages, NQ_PASSAGES, facts)


def _of_archive(archive: Path, lang: str) -> Iterator[Question]:
    number = 0
    try:
        with zipfile.ZipFile(archive) as files:
            name = next((name for name in files.namelist() if Path(name).name == f"{lang}.jsonl"), None)
            if name is None:
                raise UserError(f"mkqa.languages: {archive.name} has no {lang}.jsonl; it has {', '.join(sorted(files.namelist()))}")
            with unpacked(files.open(name), archive) as lines:
                for number, line in enumerate(io.TextIOWrapper(lines, encoding="utf-8"), 1):
                    if not isinstance(row := json.loads(line), dict):
                        raise UserError(f"{archive.name}/{name}, line {number}: expected an object")
                    yield _question(row | {"lang": lang}, f"{archive.name}/{name}, line {number}")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, RecursionError) as error:
        raise UserError(
            f"mkqa.source: {archive}, after line {number} of {lang}: {type(error).__name__} {error}: download it again"
        ) from None


def _files(folder: Path) -> Benchmark:
    corpus, asked = folder / "corpus.jsonl", folder / "questions.jsonl"
    for path in (corpus, asked):
        if not path.is_file():
            raise UserError(f"{path}: no such file; mkqa.folder needs corpus.jsonl (id, title, text) and questions.jsonl "
                            "(id, lang, question, answers)")  # fmt: skip
    questions = [_question(row, f"{asked}, line {number}") for number, row in _numbered(asked)]
    if not questions:
        raise UserError(f"{asked}: no questions in it")
    with open(corpus, "rb") as file:
        size = sum(1 for line in file if line.strip())

    def passages() -> Iterator[Passage]:
        return (_corpus_row(row, f"{corpus}, line {number}") for number, row in _numbered(corpus))

    return Benchmark(f"own files ({folder.name})", questions, passages, size, {"digest": digest(folder)})


def digest(folder: Path) -> str:
    """Of the content of both files: a key holds the folder's name alone."""
    parts = (sha256(folder / name) for name in ("corpus.jsonl", "questions.jsonl"))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


def _numbered(path: Path) -> Iterator[tuple[int, dict]]:
    for number, row in enumerate(json_lines(path), 1):
        if row is None:
            continue
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: expected an object")
        yield number, row


def _question(row: dict, place: str) -> Question:
    if missing := [name for name in ("id", "lang", "question", "answers") if name not in row]:
        raise UserError(f"{place}: no field {', '.join(missing)}; it has {', '.join(row)}")
    if not isinstance(row["answers"], list) or not all(isinstance(answer, str) for answer in row["answers"]):
        raise UserError(f"{place}: answers must be a list of texts, not {row['answers']!r}")
    return Question(str(row["id"]), str(row["lang"]), str(row["question"]), tuple(row["answers"]))


def _corpus_row(row: dict, place: str) -> Passage:
    key = "id" if "id" in row else "_id"
    if missing := [name for name in (key, "text") if name not in row]:
        raise UserError(f"{place}: no field {', '.join(missing)}; it has {', '.join(row)}")
    return Passage(str(row[key]), f"{row.get('title') or ''}\n{row['text']}".strip())
