"""Invariants: sets out of domain are a seeded sample whose judgements are the archive's; a classifier is not tested on its own texts; every
checkpoint and peer is scored on them, once; without the archive there is one clear line and nothing is written; nothing that trains
reads the archive."""

import io
import json
import re
import tarfile
from pathlib import Path

import pytest

import conan_lib
from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.evaluation.checkpoints import MODELS
from conan_lib.params.evaluation import OutOfDomainParams
from conan_lib.table import RUN, TABLE
from conan_lib.topics.out_of_domain import measure
from conan_lib.topics.out_of_domain.sets import DOMAINS, SHIFTS, write_sets

LANGUAGES = ("de", "fr", "zh")
REVIEWS = 80
LABELS = ("positive", "negative")
SMALL = OutOfDomainParams(paragraphs=15, questions=10, reviews=12, train_per_label=8)


def review(language: str, row: int) -> str:
    return f"{language}{row % 7} {language}{row % 11} name{row}"


def examples(language: str, rows) -> dict:
    scores = [{label: int(label == LABELS[row % 2]) for label in LABELS} for row in rows]
    return {
        "canary": "GUID",
        "examples": [{"input": review(language, row), "target_scores": s} for row, s in zip(rows, scores, strict=True)],
    }


def questions(domain: str) -> dict:
    """Two articles of three paragraphs; the second article repeats a paragraph of the first, as reddit's file does."""

    def paragraph(number):
        return {
            "context": f"{domain} tells of thing{number}",
            "qas": [{"question": f"{domain} thing{number} {ask}?"} for ask in ("who", "why")],
        }

    return {"canary": "GUID", "data": [{"title": "t", "paragraphs": [paragraph(n) for n in numbers]} for numbers in ((0, 1, 2), (3, 4, 0))]}


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """The layout of bigbench-1.0.0.tar.gz around both sets."""
    files = {f"multiemo/all_text_{language}/task.json": examples(language, range(REVIEWS)) for language in ("en", *LANGUAGES)}
    files |= {f"multiemo/all_sentence_{language}/task.json": examples(language, range(3)) for language in ("en", *LANGUAGES)}
    for place, name in enumerate(DOMAINS):
        files[f"multiemo/{name}_text_en/task.json"] = examples("en", range(place, REVIEWS, len(DOMAINS)))
    files |= {f"squad_shifts/{name}.json": questions(domain) for name, domain in SHIFTS.items()}
    files |= {f"squad_shifts/{name}_removed.json": {} for name in SHIFTS}
    path = tmp_path_factory.mktemp("bigbench") / "bigbench-1.0.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, value in sorted(files.items()):
            content = json.dumps(value).encode()
            info = tarfile.TarInfo(f"bigbench-1.0.0/bigbench/benchmark_tasks/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def sets(archive, tmp_path):
    write_sets(tmp_path, archive, SMALL, "test")
    return tmp_path / "eval" / "test"


def test_squad_shifts_is_an_even_sample_with_the_archives_judgements(sets):
    corpus = {row["id"]: row["text"] for row in read(sets / "squad-shifts" / "corpus.parquet")}
    queries = {row["id"]: row["text"] for row in read(sets / "squad-shifts" / "queries.parquet")}
    qrels = read(sets / "squad-shifts" / "qrels.parquet")
    assert len(corpus) == len(set(corpus.values())) == 15 and len(queries) == len(qrels) == 10
    for rows, count in ((corpus, 3), (queries, 2)):
        assert {domain: sum(name.split("/")[0] == domain for name in rows) for domain in SHIFTS.values()} == dict.fromkeys(
            SHIFTS.values(), count
        )
    for row in qrels:
        domain, thing, _ = queries[row["query_id"]].split()
        assert corpus[row["corpus_id"]] == f"{domain} tells of {thing}"


def test_multiemo_is_the_same_reviews_in_every_language_and_trains_on_others(sets):
    corpus = {row["id"]: row["text"] for row in read(sets / "multiemo-clr" / "corpus.parquet")}
    rows = {int(name.split("/")[1]) for name in corpus}
    assert len(rows) == 12 and all(text == review("en", int(name.split("/")[1])) for name, text in corpus.items())
    queries = {row["id"]: row for row in read(sets / "multiemo-clr" / "queries.parquet")}
    judged = {row["query_id"]: int(row["corpus_id"].split("/")[1]) for row in read(sets / "multiemo-clr" / "qrels.parquet")}
    assert {row["text"] for row in queries.values()} == {review(language, row) for language in LANGUAGES for row in rows}
    assert all(row["text"] == review(row["lang"], judged[name]) for name, row in queries.items())
    number = {review("en", row): row for row in range(REVIEWS)}
    truth = {"domain": lambda row: list(DOMAINS.values())[row % 4], "sentiment": lambda row: LABELS[row % 2]}
    for label, right in truth.items():
        train, test = (read(sets / f"multiemo-{label}" / f"{part}.parquet") for part in ("train", "test"))
        assert {number[row["text"]] for row in test} == rows and not {row["text"] for row in train} & {row["text"] for row in test}
        assert all(row["label"] == right(number[row["text"]]) for row in [*train, *test])
        counts = [sum(row["label"] == value for row in train) for value in {row["label"] for row in train}]
        assert counts == [8] * (4 if label == "domain" else 2)


def test_the_sample_is_seeded(sets, archive, tmp_path):
    for name, seed in (("again", 0), ("other", 1)):
        write_sets(tmp_path / name, archive, SMALL.model_copy(update={"seed": seed}), "test")
    again, other = (tmp_path / name / "eval" / "test" / "squad-shifts" / "queries.parquet" for name in ("again", "other"))
    assert read(again) == read(sets / "squad-shifts" / "queries.parquet") != read(other)


def with_archive(params, path):
    return params.model_copy(update={"out_of_domain": params.out_of_domain.model_copy(update={"archive": str(path)})})


def test_every_checkpoint_and_peer_is_scored_once_even_after_a_stop(ready, params, archive, monkeypatch):
    stage = ready("out_of_domain", with_archive(params, archive))
    real = measure.score_peers

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "score_peers", stop)
    with pytest.raises(KeyboardInterrupt):
        measure.evaluate_out_of_domain(stage)
    before = {path: path.stat().st_mtime_ns for path in (stage.path / "mteb").rglob("*.json")}
    monkeypatch.setattr(measure, "score_peers", real)
    monkeypatch.setattr(measure, "find_archive", lambda *given: pytest.fail("read the archive again"))
    measure.evaluate_out_of_domain(stage)
    assert len(before) > 4 * len(MODELS)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path.name != "model_meta.json")
    rows = json.loads((stage.path / "scores.json").read_text())
    tasks = {"squad-shifts", "multiemo-clr", "multiemo-domain", "multiemo-sentiment"}
    assert {(row["model"], row["task"]) for row in rows} == {(model, task) for model in (*MODELS, "bm25", "wordllama") for task in tasks}
    assert {row["subset"] for row in rows if row["task"] == "multiemo-clr" and row["value"] is not None} == {*LANGUAGES, "mean"}
    (best,) = [row["value"] for row in rows if (row["model"], row["task"], row["metric"]) == ("bm25", "squad-shifts", "recall_at_10")]
    assert best == 1  # the question holds words of its paragraph
    assert stage.results["sets"]["squad-shifts"] == {"queries": 10, "corpus": 15, "qrels": 10}
    assert set(stage.results["models"]) == {*MODELS, "bm25", "wordllama"}


def test_without_the_archive_nothing_is_written(ready, params, tmp_path):
    stage = ready("out_of_domain", with_archive(params, tmp_path / "none.tar.gz"))
    how = r"get it with .*bigbench==1\.0\.0`, name its place in out_of_domain.archive"
    with pytest.raises(UserError, match=rf"^out_of_domain.archive: no .*none.tar.gz: {how}$"):
        measure.evaluate_out_of_domain(stage)
    assert stage.status == "new" and [path.name for path in stage.path.iterdir()] == [".lock"]


def test_an_archive_without_the_sets_is_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("bigbench-1.0.0/README.md"))
    with pytest.raises(UserError, match=r"out_of_domain.archive: .*: no amazon_reviews_v1.0, .* in it: give the sdist of bigbench 1.0.0"):
        write_sets(tmp_path, tmp_path / "a.tar.gz", SMALL, "test")


def test_nothing_that_trains_reads_the_archive():
    root = Path(conan_lib.__file__).parent
    rooms = [path for room in ("data", "training", "losses", "negatives", "attention", "model") for path in (root / room).rglob("*.py")]
    assert len(rooms) > 40
    for path in rooms:
        assert not re.search(r"big.?bench|multiemo|squad.?shifts", path.read_text(encoding="utf-8").lower()), path
    readers = {name for name, spec in TABLE.items() if {"out_of_domain", "mixing"} & set(spec.sections)}
    assert readers == {"out_of_domain", "mix"}
    assert not [name for name, spec in TABLE.items() if readers & set(spec.inputs)], "their results feed nothing"
    assert "out_of_domain" not in RUN
