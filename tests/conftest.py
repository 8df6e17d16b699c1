"""A throw-away project for tests of the pipeline and the command line: its own parameters, notebooks, artefacts and reports."""

import gc
import signal
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from conan_lib import artefacts
from conan_lib.run import cli
from conan_lib.run.notebooks import NOTEBOOKS
from conan_lib.table import RUN, START

with suppress(ModuleNotFoundError):  # a machine that only trains may lack it
    from hypothesis import HealthCheck, settings

    # the same examples in every run, and none that fails because the machine is busy
    settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("same")
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell starts `... &` so, and every process that a test starts would never hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

SCRATCH = [name for name in RUN if name != START]
"""The stages of a run without `model.start`."""
CELL = """
from conan_lib.stages import open_stage

for name in {stages!r}:
    stage = open_stage(name, params_file)
    if not stage.finished:
        with stage.work() as work:
            print("working on", name)
            work.commit({{"name": name}})
"""


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=50, help="of `make faults`: how often the pipeline is killed")


def pytest_collection_modifyitems(items):
    """Files with slow tests first: of two workers none is left alone with the longest file at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """Every trainer collects garbage when it starts; half a million objects of the imports, which stay, are not looked through again."""
    gc.freeze()


def write_notebook(path: Path, *cells: str) -> None:
    """A notebook with a parameters cell and then `cells`."""
    import nbformat  # a machine that only trains lacks it, and runs the tests of its GPU

    parameters = nbformat.v4.new_code_cell('params_file = "params/tiny.yaml"', metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, cells)], metadata=kernel), path)


@pytest.fixture(scope="session", autouse=True)
def one_template():
    """Each checkpoint has a model card: its template is compiled once."""
    import jinja2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", cache(jinja2.Environment.compile))
        yield


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The working directory of a small project: params/small.yaml and eight notebooks that commit a name for each of their stages."""
    for folder in ("params", "notebooks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements-data.txt").write_text("# none\n\npytest\n")
    (tmp_path / "params" / "small.yaml").write_text("tier: small\n")
    for notebook, stages in NOTEBOOKS.items():
        write_notebook(tmp_path / "notebooks" / f"{notebook}.ipynb", CELL.format(stages=[name for name in stages if name in SCRATCH]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_environment(monkeypatch):
    """Manifests record an environment that was looked up once: a test may commit a hundred stages."""
    monkeypatch.setattr(artefacts, "environment", cache(artefacts.environment))


@pytest.fixture
def kernels(monkeypatch) -> list[str]:
    """Notebooks are executed in this process instead of a kernel; yields the names of those that were."""
    import nbformat
    import papermill

    started = []

    def execute(source, copy, parameters, **options):
        started.append(Path(source).stem)
        notebook = nbformat.read(source, as_version=4)
        scope = {}
        for cell in notebook.cells:
            exec(cell.source, scope)
            if "parameters" in cell.metadata.get("tags", []):
                scope.update(parameters)
        nbformat.write(notebook, copy)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    return started


@pytest.fixture
def conan(capsys, monkeypatch):
    """Call the command line in this process: conan("run", "params/small.yaml") -> (exit code, stdout, stderr)."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["conan-lib", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return call


@pytest.fixture
def fake_run(tmp_path, monkeypatch):
    """`finish` (write the artefacts of some stages by hand) in a project root of the test's own."""
    from tests.handmade import finish, lay_out

    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    return finish


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The project root of a finished run, its artefacts written by hand, with its report built."""
    from conan_lib.report.build import build_report
    from tests.handmade import executed_notebook, finish, lay_out

    root = tmp_path_factory.mktemp("finished")
    lay_out(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name, stages in (("05_weak", ("teacher", "weak")), ("07_eval", ("peers", "evaluate"))):
            executed_notebook(root / "artefacts" / "notebooks" / "tiny" / f"{name}.ipynb", *stages)
        build_report(finish())
    return root


@pytest.fixture
def report(finished, monkeypatch):
    """The folder of the finished run's report, with the working directory in its project."""
    monkeypatch.chdir(finished)
    return finished / "runs" / "tiny"
