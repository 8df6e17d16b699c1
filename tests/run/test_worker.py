"""A worker computes one stage after the other with the environment that they ask for; its death is a failure in words; a stage that raises
leaves its traceback in the log; no worker outlives the process that started it."""

import fcntl
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conan_lib.artefacts import Work
from conan_lib.grids import open_grid
from conan_lib.run import worker as workers
from conan_lib.run.worker import Told, Worker, compute_logged
from conan_lib.stages import open_stage
from tests.small_grid import FILE, commit, write_grid

pytestmark = pytest.mark.usefixtures("one_environment")
PATIENCE = 120
"""Seconds: on a busy machine a worker's imports alone may take a minute."""


@pytest.fixture
def data(project):
    """A stage of the project that has not finished."""
    return open_stage("corpus", "params/small.yaml")


@pytest.fixture
def worker(data):
    others = set(multiprocessing.active_children())
    worker = Worker(data.params)
    yield worker
    worker.stop()
    assert set(multiprocessing.active_children()) <= others


def with_threads(params, threads):
    return params.model_copy(update={"runtime": params.runtime.model_copy(update={"threads": threads})})


def test_a_worker_that_dies_at_work_is_a_failure_in_words(data, worker, tmp_path):
    with hold(data):  # the worker waits for it
        worker.send(data, tmp_path / "log")
        wait_for((tmp_path / "log").exists)  # it is written to from the stage's first moment
        worker._process.kill()
        assert worker.answer() == "the worker died (exit code -9), perhaps out of memory"
    assert not worker.alive and not worker.fits(data.params)


def test_a_worker_passes_on_that_it_waits(data, worker, tmp_path):
    with hold(data):
        worker.send(data, tmp_path / "log")
        waits = worker.answer()
        assert isinstance(waits, Told) and f"stage corpus {data.key}: process {os.getpid()} of this machine is making it" in waits
        Work(data.artefact).commit({})
    assert worker.answer().endswith("going on") and worker.answer() is None
    assert waits in (tmp_path / "log").read_text()


def test_a_worker_has_the_environment_of_its_stages_and_answers_for_each(data, worker, tmp_path):
    commit(data)
    assert f"OMP_NUM_THREADS={data.runtime.threads}".encode() in Path(f"/proc/{worker._process.pid}/environ").read_bytes().split(b"\0")
    assert worker.fits(data.params) and not worker.fits(with_threads(data.params, 3))
    for stage, answer in ((data, None), (open_stage("sft", data.params), "UserError: stage sft needs"), (data, None)):
        worker.send(stage, tmp_path / "log")
        said = worker.answer()
        assert said is None if answer is None else said.startswith(answer)


def test_a_stage_that_raises_leaves_its_traceback_in_the_log(data, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "compute", lambda stage: print("so far") or (_ for _ in ()).throw(ValueError("loss is\nnot finite")))
    assert compute_logged(data, tmp_path / "log") == "ValueError: loss is not finite"
    assert (tmp_path / "log").read_text().startswith("so far\nTraceback")


def test_a_killed_run_leaves_no_worker_behind(project):
    """SIGKILL to the command while its worker is in a stage: the worker ends too."""
    write_grid(project)
    with hold(open_grid(FILE).cells[0].stages["corpus"]):  # the worker waits for it
        run = subprocess.Popen([Path(sys.executable).with_name("conan-lib"), "run", "--grid", FILE], stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: run.poll() is not None or workers_of(run.pid))
            workers = workers_of(run.pid)
        finally:
            run.kill()
            run.wait()
        assert workers
        wait_for(lambda: not any(alive(pid) for pid in workers))


def workers_of(pid: int) -> list[str]:
    """The children that multiprocessing has spawned, its tracker of resources not among them."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = children.read_text().split() if children.exists() else []
    return [child for child in found if b"spawn_main" in (Path("/proc") / child / "cmdline").read_bytes()]


@contextmanager
def hold(stage):
    """Keep the lock of an artefact, so that whoever computes it waits."""
    stage.path.mkdir(parents=True, exist_ok=True)
    with open(stage.path / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def alive(pid: str) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "zombie" not in status.read_text()


def wait_for(happened) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)
