"""A key names content: it ignores order and place, and follows every parameter and input. Only a manifest makes a thing finished.

A killed attempt leaves it partial; an interrupted one keeps its clock. Two processes that want one artefact compute it once.
JSON is written whole or not at all.
"""

import errno
import fcntl
import json
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from conan_lib import artefacts
from conan_lib.artefacts import MANIFEST, Artefact
from conan_lib.errors import UserError
from conan_lib.files import replacing, scratch, write_json


def test_key_ignores_the_order_of_parameters_and_the_place(tmp_path):
    one = Artefact("weak", 1, {"a": {"x": 1, "y": [2, 3]}, "b": "z"})
    other = Artefact("weak", 1, {"b": "z", "a": {"y": [2, 3], "x": 1}}, root=tmp_path)
    assert one.key == other.key
    assert len(one.key) == 16 and int(one.key, 16) >= 0


def test_key_follows_everything_that_it_names():
    data = Artefact("data", 1, {"seed": 0})
    one = Artefact("weak", 1, {"a": 1}, {"data": data})
    others = [
        Artefact("sft", 1, {"a": 1}, {"data": data}),
        Artefact("weak", 2, {"a": 1}, {"data": data}),
        Artefact("weak", 1, {"a": 2}, {"data": data}),
        Artefact("weak", 1, {"a": 1}, {"data": Artefact("data", 1, {"seed": 1})}),
        Artefact("weak", 1, {"a": 1}, {"corpus": data}),
        Artefact("weak", 1, {"a": 1}),
    ]
    assert len({one.key, *(other.key for other in others)}) == 7


def test_finished_only_after_the_manifest(tmp_path):
    artefact = Artefact("weak", 1, {"a": 1}, root=tmp_path)
    assert artefact.status == "new"
    with artefact.work() as work:
        (work.path / "weights").write_text("some")
        assert artefact.status == "partial"
        with pytest.raises(UserError, match=r"stage weak .* is only partly computed"):
            _ = artefact.results
        work.commit({"loss": 1.5})
        assert artefact.status == "finished"
    assert artefact.results == {"loss": 1.5}
    manifest = artefact.manifest
    assert manifest["key"] == artefact.key and manifest["parameters"] == {"a": 1}
    assert manifest["environment"]["packages"]["torch"] and manifest["environment"]["python"]
    assert sorted(p.name for p in artefact.path.iterdir()) == [".lock", "identity.json", MANIFEST, "weights"]


def test_an_interrupted_attempt_is_partial_and_its_seconds_count(tmp_path):
    artefact = Artefact("weak", 1, {}, root=tmp_path)
    with pytest.raises(KeyboardInterrupt), artefact.work():
        time.sleep(0.2)
        raise KeyboardInterrupt
    assert artefact.status == "partial"
    with artefact.work() as work:
        work.commit({})
    assert artefact.manifest["seconds"] >= 0.2


def test_a_missing_input_stops_the_work_before_anything_is_written(tmp_path):
    data = Artefact("data", 1, {}, root=tmp_path)
    weak = Artefact("weak", 1, {}, {"data": data}, root=tmp_path)
    with (
        pytest.raises(
            UserError, match=f"stage weak needs data \\({data.key}\\), which has not been computed yet: run `conan-lib train data"
        ),
        weak.work(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


BROKEN = {
    "empty": b"",
    "cut": b'{"a":',
    "a list": b"[]",
    "without anything": b"{}",
    "not UTF-8": b"\xff\xfe{",
    "deep": b"[" * 100_000,
    "without a time": {"seconds": None},
    "without results": {"results": None},
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_manifest_is_named_and_never_taken_for_a_state(tmp_path, content):
    artefact = Artefact("weak", 1, {}, root=tmp_path)
    with artefact.work() as work:
        work.commit({})
    path = artefact.path / MANIFEST
    path.write_bytes(json.dumps(artefact.manifest | content).encode() if isinstance(content, dict) else content)
    for use in (lambda: artefact.status, lambda: artefact.finished, lambda: artefact.results, lambda: artefact.work().__enter__()):
        with pytest.raises(UserError, match=f"^{path}: damaged: remove {artefact.path} and run its stage again$"):
            use()


def test_another_folders_manifest_finishes_nothing(tmp_path):
    one, other = Artefact("weak", 1, {}, root=tmp_path), Artefact("sft", 1, {}, root=tmp_path)
    again = Artefact("sft", 1, {"a": 1}, root=tmp_path)
    for artefact in (one, other):
        with artefact.work() as work:
            work.commit({})
    again.path.mkdir()
    for source, target in ((other, again), (one, other)):
        (target.path / MANIFEST).write_bytes((source.path / MANIFEST).read_bytes())
        with pytest.raises(
            UserError, match=f"{MANIFEST}: the manifest belongs to {source.stage}/{source.key}: remove {target.path} and run its stage"
        ):
            _ = target.finished


@pytest.mark.parametrize("content", ["", "{", "null", "[1]", '"soon"'])
def test_a_broken_clock_starts_from_nought(tmp_path, content):
    artefact = Artefact("weak", 1, {}, root=tmp_path)
    artefact.path.mkdir(parents=True)
    (artefact.path / "seconds.json").write_text(content)
    with artefact.work() as work:
        work.commit({})
    assert 0 <= artefact.manifest["seconds"] < 5


def _die_at_work(root):
    with Artefact("weak", 1, {}, root=root).work() as work:
        (work.path / "checkpoint").write_text("half")
        os._exit(9)


def _compute_once(root, barrier):
    artefact = Artefact("weak", 1, {}, root=root)
    barrier.wait()
    with artefact.work() as work:
        if not artefact.finished:
            time.sleep(0.3)
            with open(root / "done-by", "a") as file:
                file.write(f"{os.getpid()}\n")
            work.commit({"by": os.getpid()})


def test_a_killed_process_leaves_a_partial_artefact_and_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_die_at_work, args=(tmp_path,))
    process.start()
    process.join(180)
    artefact = Artefact("weak", 1, {}, root=tmp_path)
    assert process.exitcode == 9 and artefact.status == "partial"
    with artefact.work() as work:
        assert (work.path / "checkpoint").read_text() == "half"
        work.commit({})
    assert artefact.finished


def test_of_two_processes_one_does_the_work(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_compute_once, args=(tmp_path, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0, 0]
    workers = (tmp_path / "done-by").read_text().split()
    assert len(workers) == 1 and Artefact("weak", 1, {}, root=tmp_path).results == {"by": int(workers[0])}


@pytest.mark.parametrize("record", [False, True])
def test_who_waits_says_for_whom_and_when_it_goes_on(tmp_path, capfd, monkeypatch, record):
    """Of a flock, and of a record lock."""
    if record:
        monkeypatch.setattr(fcntl, "flock", fcntl.lockf)
    how = "lockf" if record else "flock"
    other = f"import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.{how}(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    artefact = Artefact("weak", 1, {}, root=tmp_path)
    artefact.path.mkdir(parents=True)
    command = [sys.executable, "-c", other, artefact.path / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        threading.Timer(0.5, process.stdin.close).start()
        with artefact.work():
            pass
    who = rf"process {process.pid} of this machine is making it; this one waits .*kill {process.pid} the other"
    waits, goes_on = capfd.readouterr().err.splitlines()[-2:]
    assert re.match(rf"conan-lib: stage weak {artefact.key}: {who}", waits) and re.search(": free after . s; going on$", goes_on)
    with artefact.work():
        assert capfd.readouterr().err == ""


def _work_alone(folder, number):
    with scratch(folder) as place:
        assert not list(place.iterdir())
        (place / str(number)).touch()
        time.sleep(0.1)
        assert [path.name for path in place.iterdir()] == [str(number)]


def test_a_scratch_folder_is_empty_and_of_one_process_at_a_time(tmp_path):
    """What a killed process has left there goes, and nothing stays."""
    folder = tmp_path / "new/.making"
    (folder / "left").mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_work_alone, args=(folder, number)) for number in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0] * 5 and not list(folder.parent.iterdir())


def test_json_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    write_json(path, {"a": "ü"})

    def killed(source, target):
        assert json.loads(path.read_text(encoding="utf-8")) == {"a": "ü"}
        raise KeyboardInterrupt

    monkeypatch.setattr(artefacts.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_json(path, {"a": "new"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "ü"}
    monkeypatch.undo()
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "ü"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_leaves_is_found_by_no_pattern(tmp_path):
    with replacing(tmp_path / "row.json") as new:
        new.write_text("{}")
        assert list(tmp_path.iterdir()) == [new] and not list(tmp_path.glob("*.json"))
    assert list(tmp_path.glob("*.json")) == list(tmp_path.iterdir())


def test_peak_memory_counts_what_was_held():
    """A process that held 300 MB and let it go has a peak 300 MB above one that did not."""
    code = "from conan_lib.environment import peak_memory_mb; held = bytes(b'x' * {}); del held; print(peak_memory_mb())"
    low, high = (float(subprocess.check_output([sys.executable, "-c", code.format(size)])) for size in (1, 300_000_000))
    assert high - low == pytest.approx(300, abs=60)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_flock_a_record_lock_holds_and_without_any_one_line_says_so(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    artefact = Artefact("data", 1, {}, root=tmp_path)
    with artefact.work():
        other = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        held = subprocess.run([sys.executable, "-c", other, artefact.path / ".lock"], capture_output=True, text=True)
        assert "BlockingIOError" in held.stderr
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(UserError, match=r"\.lock: this file system has no locks.*runtime\.artefacts"), artefact.work():
        pass
