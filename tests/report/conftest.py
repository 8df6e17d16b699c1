"""Runs whose artefacts are written by hand: one for a test to change, one report for all tests that only read."""

import pytest
from handmade import executed_notebook, finish, lay_out


@pytest.fixture
def fake_run(tmp_path, monkeypatch):
    """`finish` in a project root of the test's own."""
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    return finish


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The project root of a finished run with its report built."""
    from conan_lib.report.build import build_report

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
    return finished / "reports" / "tiny"
