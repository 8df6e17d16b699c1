"""Warm kernels are forks of one process that made the notebooks' imports, all but the first, which need not wait for them; they share
nothing else, end with their block, and leave at once: exit handlers run, modules are not taken apart.

Elsewhere than on Linux kernels start in the ordinary way.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import papermill
import pytest

from conan_lib.run.kernels import Nursery, imports_of, kernel_manager
from tests.conftest import write_notebook

LOOK = """
import json, os, sys
state = {"colorsys": "colorsys" in sys.modules, "left": hasattr(json, "left") or "LEFT" in os.environ, "mine": os.environ.get("MINE"),
         "folder": os.getcwd(), "parent": os.getppid()}
json.left = os.environ["LEFT"] = "behind"
print(json.dumps(state), end="")
"""
OPTIONS = {"kernel_name": "python3", "progress_bar": False, "start_timeout": 300}  # a busy machine may take longer than the default minute


@pytest.fixture
def look(tmp_path):
    """Runs a notebook in a kernel of the class and says what it saw."""
    source = tmp_path / "look.ipynb"
    write_notebook(source, LOOK)

    def look(manager: type) -> dict:
        copy = papermill.execute_notebook(source, tmp_path / "copy.ipynb", cwd=str(tmp_path), kernel_manager_class=manager, **OPTIONS)
        return json.loads("".join(output.text for cell in copy.cells for output in cell.get("outputs", [])))

    return look


def test_the_imports_of_notebooks_are_found_once_and_a_broken_cell_is_left_to_its_run(tmp_path):
    write_notebook(tmp_path / "a.ipynb", "import pandas as pd\nfrom torch import nn, Tensor", "this is no Python")
    write_notebook(tmp_path / "b.ipynb", "import os.path, pandas\nif True:\n    import mteb")
    assert imports_of([tmp_path / "a.ipynb", tmp_path / "b.ipynb"]) == ["pandas", "torch:nn", "torch:Tensor", "os.path"]


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_warm_kernels_have_the_imports_and_nothing_of_each_other(look, tmp_path):
    with kernel_manager({**os.environ, "MINE": "yes"}, ["colorsys:rgb_to_hsv", "no.such:module"]) as manager:
        first, second, third = look(manager), look(manager), look(manager)
    ours = {"left": False, "mine": "yes", "folder": str(tmp_path)}
    assert first == {**ours, "colorsys": False, "parent": os.getpid()}  # it did not wait for the imports
    assert second == third == {**ours, "colorsys": True, "parent": manager.nursery.process.pid}
    with pytest.raises(ProcessLookupError):
        os.kill(second["parent"], 0)


LEAVE = """
import atexit, os, sys, types
class Part:
    def __del__(self, make=os.mkdir):
        make("taken-apart")
sys.modules["part"] = types.ModuleType("part")
sys.modules["part"].part = Part()
atexit.register(os.mkdir, "said-goodbye")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_a_warm_kernel_runs_its_exit_handlers_and_leaves_its_modules_alone(tmp_path):
    """A plain Python does both: that is what this test would see of a warm kernel without the short cut."""
    plain, warm = tmp_path / "plain", tmp_path / "warm"
    plain.mkdir()
    subprocess.run([sys.executable, "-c", LEAVE], cwd=plain, check=True)
    assert {path.name for path in plain.iterdir()} == {"said-goodbye", "taken-apart"}
    warm.mkdir()
    write_notebook(tmp_path / "first.ipynb", "")
    write_notebook(tmp_path / "leave.ipynb", LEAVE)
    with kernel_manager(dict(os.environ), ["colorsys"]) as manager:
        papermill.execute_notebook(tmp_path / "first.ipynb", None, kernel_manager_class=manager, **OPTIONS)

        class Patient(manager):
            shutdown_wait_time = 60.0  # the default of 5 seconds kills a kernel that is still leaving on a busy machine

        papermill.execute_notebook(tmp_path / "leave.ipynb", None, cwd=str(warm), kernel_manager_class=Patient, **OPTIONS)
    assert {path.name for path in warm.iterdir()} == {"said-goodbye"}


@pytest.mark.parametrize("how", [{"warm": False}, {"platform": "darwin"}])
def test_other_kernels_start_in_the_ordinary_way(look, monkeypatch, how):
    with monkeypatch.context() as patch:
        if platform := how.pop("platform", None):
            patch.setattr(sys, "platform", platform)
        with kernel_manager({**os.environ, "MINE": "yes"}, ["colorsys"], **how) as manager:
            patch.undo()
            seen = look(manager)
    assert (seen["colorsys"], seen["mine"], seen["parent"]) == (False, "yes", os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_a_call_has_the_imports_and_leaves_nothing(tmp_path, monkeypatch):
    """It runs in a fork and the caller's folder, silently; what raises, and a nursery that is gone, are False."""
    (tmp_path / "said.py").write_text("""
import os, sys
def save(*names):
    print("heard by nobody")
    with open("said", "w") as file:
        print(os.getppid(), *(name in sys.modules for name in names), file=file)
def fail():
    raise SystemExit("heard by nobody")
""")
    monkeypatch.chdir(tmp_path)
    nursery = Nursery(["colorsys"], {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"})
    try:
        for _ in range(2):
            assert nursery.call("said:save", "colorsys", "this")
            assert (tmp_path / "said").read_text().split() == [str(nursery.process.pid), "True", "False"]
            assert nursery.call("importlib:import_module", "this")
        assert not nursery.call("said:fail") and not nursery.call("no.such:function")
        nursery.process.kill()
        nursery.process.wait()
        assert not nursery.call("said:save")
    finally:
        nursery.close()


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
@pytest.mark.parametrize("answered", [False, True], ids=["asked", "answered"])
def test_a_nursery_whose_pipeline_was_killed_ends_silently(answered):
    """It is gone before the answer, or leaves the answer unread."""
    ours, theirs = socket.socketpair()
    serving = f"from conan_lib.run.kernels import serve; serve({theirs.fileno()}, [])"
    nursery = subprocess.Popen([sys.executable, "-c", serving], pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    theirs.close()
    ours.sendall(json.dumps({"call": "os:getpid", "arguments": [], "folder": "."}).encode() + b"\n")
    if answered:
        select.select([ours], [], [])
    ours.close()
    assert nursery.communicate(timeout=120)[1] == b"" and nursery.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_exit_codes_are_told_and_a_lost_nursery_is_a_dead_kernel(tmp_path):
    (tmp_path / "broken.json").write_text("no JSON")
    nursery = Nursery([], dict(os.environ))
    broken = nursery.start(["-f", str(tmp_path / "broken.json")], dict(os.environ), str(tmp_path))
    deadline = time.monotonic() + 120
    while broken.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert broken.poll() == broken.wait() == 1
    waiting = nursery.start(["-f", str(tmp_path / "own.json")], dict(os.environ), str(tmp_path))
    try:
        assert waiting.poll() is None
        nursery.process.kill()
        nursery.process.wait()
        assert waiting.poll() == waiting.wait() == -9
    finally:
        with suppress(ProcessLookupError):  # it sees that its parent is gone only once it has started
            os.kill(waiting.pid, signal.SIGKILL)
        nursery.close()
