"""Faults that pass are waited for, and every record comes once; faults that stay, and what is not there, are one line. A broken record is
counted and skipped where the set says so. Shards of parquet and of JSON lines are read by the code that reads everything else."""

import errno
import json

import datasets
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import errors

from conan_lib.data.clean import Funnel
from conan_lib.data.declared import files, hub, read, retry
from conan_lib.errors import UserError
from conan_lib.params.sets import DeclaredSet

RECORDS = [{"query": f"question {n}", "positive": f"answer {n}"} for n in range(60)]


@pytest.fixture
def pauses(monkeypatch):
    found = []
    monkeypatch.setattr(retry.time, "sleep", found.append)
    return found


@pytest.fixture(params=[".parquet", ".jsonl"])
def shards(request, tmp_path):
    """RECORDS in three shards."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(3):
        path, own = folder / f"{number}{request.param}", RECORDS[20 * number : 20 * number + 20]
        if request.param == ".parquet":
            pq.write_table(pa.Table.from_pylist(own), path)
        else:
            path.write_text("".join(json.dumps(record) + "\n" for record in own))
    return folder


def faulty(monkeypatch, suffix, faults):
    """The reader of a kind of file, which fails before record numbers of its own count; a fault is (count, error)."""
    reader, faults, count = files.READERS[suffix], list(faults), [0]

    def failing(path):
        for row in reader(path):
            count[0] += 1
            if faults and count[0] == faults[0][0]:
                raise faults.pop(0)[1]
            yield row

    monkeypatch.setitem(files.READERS, suffix, failing)


def anchors(folder, **given):
    declared = DeclaredSet.model_validate({"from": str(folder), "task": "retrieval", "lang": "en", **given})
    return [row["anchor"] for row in read(declared, ("en",), Funnel())]


def test_faults_that_pass_lose_and_repeat_nothing(shards, pauses, monkeypatch):
    whole = anchors(shards)
    suffix = next(shards.iterdir()).suffix
    gone = OSError(errno.ESTALE, "Stale file handle")
    faulty(monkeypatch, suffix, [(7, gone), (8, ConnectionResetError()), (40, TimeoutError()), (41, gone), (90, gone)])
    assert anchors(shards) == whole == [record["query"] for record in RECORDS]
    assert pauses == [1, 2, 1, 2, 1], "pauses grow until there is a record"


def test_faults_that_stay_are_one_line(shards, pauses, monkeypatch):
    faulty(monkeypatch, next(shards.iterdir()).suffix, [(n, OSError(errno.EIO, "Input/output error")) for n in range(1, 100)])
    with pytest.raises(UserError, match=rf"^{shards}: Input/output error after 6 tries: [^\n]*$"):
        anchors(shards)
    assert pauses == [1, 2, 4, 8, 16]


def test_what_is_not_there_is_not_waited_for(tmp_path, pauses):
    with pytest.raises(UserError, match="no such file or folder"):
        anchors(tmp_path / "none")
    assert not pauses


@pytest.mark.parametrize("line", ['{"query": "half', "[1, 2]", '{"query": "no positive"}', "7"])
def test_a_broken_record_is_counted_and_skipped(tmp_path, line):
    lines = [json.dumps(record) for record in RECORDS]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines[:5], line, *lines[5:]]))
    declared = {"from": str(tmp_path / "pairs.jsonl"), "task": "retrieval", "lang": "en"}
    funnel = Funnel()
    rows = list(read(DeclaredSet.model_validate({**declared, "bad_records": "skip"}), ("en",), funnel))
    assert len(rows) == 60 and {row["step"]: row["documents"] for row in funnel.rows()}["read"] == 61
    assert {row["step"]: row["documents"] for row in funnel.rows()}["complete"] == 60
    with pytest.raises(UserError, match=r"pairs.jsonl, line 6: [^\n]*, or set bad_records: skip$"):
        list(read(DeclaredSet.model_validate(declared), ("en",), Funnel()))


def answer(status):
    return errors.HfHubHTTPError("no", response=httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co")))


def test_the_hub_is_asked_again_and_goes_on_where_it_was(pauses, monkeypatch):
    """The stream is shuffled, and begun again it comes in the same order."""
    faults = [answer(503), TimeoutError(), answer(429)]

    def generate():
        for n, record in enumerate(RECORDS):
            if n == 30 and faults:
                raise faults.pop()
            yield record

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.IterableDataset.from_generator(generate))
    monkeypatch.setattr(hub, "SHUFFLED", 5)
    declared = DeclaredSet.model_validate({"from": f"owner/name@{'0a' * 20}", "task": "retrieval", "lang": "en"})
    found = [row["anchor"] for row in read(declared, ("en",), Funnel())]
    assert sorted(found) == sorted(record["query"] for record in RECORDS) and pauses
    assert found == [row["anchor"] for row in read(declared, ("en",), Funnel())]


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_is_not_asked_again(status):
    assert not retry.passing(answer(status)) and not retry.passing(errors.OfflineModeIsEnabled("off"))
