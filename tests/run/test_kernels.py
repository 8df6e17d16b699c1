"""Warm kernels are forks of one process that made the notebooks' imports, all but the first, which need not wait for them; they share
nothing else, end with their run, and leave at once: exit handlers run, modules are not taken apart.

Elsewhere than on Linux kernels start in the ordinary way.
"""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import papermill
import pytest

from conan_lib.run import kernels
from conan_lib.run.kernels import WarmStart, kernel_manager
from tests.conftest import write_notebook

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
LOOK = """
import json, os, sys
state = {"grids": "conan_lib.grids" in sys.modules, "left": hasattr(json, "left") or "LEFT" in os.environ, "mine": os.environ.get("MINE"),
         "folder": os.getcwd(), "pid": os.getpid(), "parent": os.getppid()}
json.left = os.environ["LEFT"] = "behind"
print(json.dumps(state), end="")
"""
IMPORTS = "if False:\n    from conan_lib.grids import Grid\n    from conan_lib.no_such import module\n"
OPTIONS = {"kernel_name": "python3", "progress_bar": False, "start_timeout": 300}  # a busy machine may take longer than the default minute


@pytest.fixture(autouse=True)
def fresh():
    """A fork server outlives its warm start: none of an earlier test, none for a later one."""
    forkserver._forkserver._stop()
    yield
    forkserver._forkserver._stop()


@pytest.fixture
def source(tmp_path):
    write_notebook(tmp_path / "look.ipynb", IMPORTS + LOOK)
    return tmp_path / "look.ipynb"


def look(source: Path, manager: type) -> dict:
    """Run the notebook in a kernel of the class; what it saw."""
    copy = papermill.execute_notebook(source, None, cwd=str(source.parent), kernel_manager_class=manager, **OPTIONS)
    return json.loads("".join(output.text for cell in copy.cells for output in cell.get("outputs", [])))


@LINUX
def test_warm_kernels_have_the_imports_and_nothing_of_each_other(source):
    values = {"MINE": "yes"}
    manager = kernel_manager(values, WarmStart([source], values))
    first, second, third = (look(source, manager) for _ in range(3))
    ours = {"left": False, "mine": "yes", "folder": str(source.parent)}
    assert first.items() >= {**ours, "grids": False, "parent": os.getpid()}.items()  # it did not wait for the imports
    for one in (second, third):
        assert one.items() >= {**ours, "grids": True, "parent": forkserver._forkserver._forkserver_pid}.items()
        with pytest.raises(ProcessLookupError):
            os.kill(one["pid"], 0)


@LINUX
def test_a_fork_server_that_was_killed_is_replaced_by_one_with_the_same_environment(source):
    """Whether the hub may be reached is settled when its client is imported, which is before a kernel begins."""
    values = {"MINE": "yes"}
    manager = kernel_manager(values, WarmStart([source], values))
    for _ in range(2):
        look(source, manager)
    os.kill(before := forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    parent = look(source, manager)["parent"]
    assert parent == forkserver._forkserver._forkserver_pid != before
    assert b"MINE=yes" in Path(f"/proc/{parent}/environ").read_bytes().split(b"\0") and "MINE" not in os.environ


@LINUX
def test_one_that_dies_between_the_look_and_the_fork_is_replaced_by_one_with_the_same_environment(source, monkeypatch):
    """multiprocessing itself starts it then, in the moment of forking."""
    warm = WarmStart([source], {"MINE": "yes"})
    os.kill(before := forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    os.waitpid(before, 0)
    monkeypatch.setattr(WarmStart, "_ensure_running", lambda self: None)
    monkeypatch.setattr(os, "waitpid", lambda pid, options: (pid, 0))  # it has been reaped
    warm.fork(time.sleep, 0).join()
    environ = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/environ").read_bytes()
    assert b"MINE=yes" in environ.split(b"\0") and "MINE" not in os.environ


@pytest.mark.parametrize("how", ["no notebooks", "darwin"])
def test_other_kernels_start_in_the_ordinary_way(source, monkeypatch, how):
    with monkeypatch.context() as patch:
        patch.setattr(kernels.sys, "platform", "darwin" if how == "darwin" else sys.platform)
        warm = WarmStart([source] if how == "darwin" else [], {})
    manager = kernel_manager({"MINE": "yes"}, warm)
    look(source, manager)
    assert look(source, manager).items() >= {"grids": False, "mine": "yes", "parent": os.getpid()}.items()


LEAVE = """
import atexit, os, sys, types
class Part:
    def __del__(self, make=os.mkdir):
        make("taken-apart")
sys.modules["part"] = types.ModuleType("part")
sys.modules["part"].part = Part()
atexit.register(os.mkdir, "said-goodbye")
"""


@LINUX
def test_a_warm_kernel_runs_its_exit_handlers_and_leaves_its_modules_alone(tmp_path):
    """A plain Python does both: that is what this test would see of a warm kernel without the short cut."""
    plain, warm = tmp_path / "plain", tmp_path / "warm"
    plain.mkdir()
    subprocess.run([sys.executable, "-c", LEAVE], cwd=plain, check=True)
    assert {path.name for path in plain.iterdir()} == {"said-goodbye", "taken-apart"}
    warm.mkdir()
    write_notebook(tmp_path / "leave.ipynb", LEAVE)
    start = WarmStart([tmp_path / "leave.ipynb"], {})
    start.first = False

    class Patient(kernel_manager({}, start)):
        shutdown_wait_time = 60.0  # the default of 5 seconds kills a kernel that is still leaving on a busy machine

    papermill.execute_notebook(tmp_path / "leave.ipynb", None, cwd=str(warm), kernel_manager_class=Patient, **OPTIONS)
    assert {path.name for path in warm.iterdir()} == {"said-goodbye"}


def note(path: Path, fails_in_a_fork: int) -> None:
    """What a call does: it notes its parent; in a fork of `fails_in_a_fork`, the process under test, it then fails."""
    with open(path, "a") as file:
        print(os.getppid(), "conan_lib.grids" in sys.modules, file=file)
    print("heard by nobody in a fork")
    if os.getpid() != fails_in_a_fork:
        raise SystemExit(1)


@LINUX
def test_a_call_is_made_in_a_fork_and_here_where_that_fails(source, tmp_path, monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, kernels.REPORT, raising=False)
    warm = WarmStart([source], {})
    warm.call(partial(os.mkdir, tmp_path / "made"))
    assert (tmp_path / "made").is_dir() and capfd.readouterr() == ("", "")
    warm.call(partial(note, tmp_path / "notes", os.getpid()))
    forked, here = (tmp_path / "notes").read_text().splitlines()
    assert forked == f"{forkserver._forkserver._forkserver_pid} True" and here.startswith(f"{os.getppid()} ")
    assert capfd.readouterr() == ("heard by nobody in a fork\n", "")


PIPELINE = """
import os, sys
from pathlib import Path
from tests.run.test_kernels import OPTIONS
from conan_lib.run.kernels import WarmStart, kernel_manager
import papermill
if __name__ == "__main__":
    warm = WarmStart([Path(sys.argv[1])], {})
    warm.first = False
    papermill.execute_notebook(sys.argv[1], None, kernel_manager_class=kernel_manager({}, warm), **OPTIONS)
"""


@LINUX
def test_a_warm_kernel_ends_with_a_run_that_is_killed(tmp_path):
    pid, script, notebook = tmp_path / "pid", tmp_path / "pipeline.py", tmp_path / "sleep.ipynb"
    script.write_text(PIPELINE)
    write_notebook(
        notebook, f"import os, pathlib, time\npathlib.Path({str(pid)!r}).write_text(f'{{os.getpid()}} {{os.getppid()}}')\ntime.sleep(900)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    run = subprocess.Popen([sys.executable, script, notebook], env=environment, stderr=subprocess.DEVNULL)
    while not (pid.is_file() and pid.read_text()):
        assert run.poll() is None
        time.sleep(0.05)
    run.kill()
    run.wait()
    deadline = time.monotonic() + 120
    for one in pid.read_text().split():
        while (status := Path(f"/proc/{one}/status")).exists() and "zombie" not in status.read_text():
            assert time.monotonic() < deadline, "the kernel or its fork server outlives the run"
            time.sleep(0.1)
