"""What the long tests share: a finished run of the smoke tier, and the page that keeps what they measured."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from conan_lib.environment import environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "reports/reliability.md"
HEAD = """# Reliability

What `make faults` measured; each row is written by the test that measured it, which fails where the row would not be true.

| what | found | date | revision | machine | versions |
|---|---|---|---|---|---|
"""


def record(what: str, found: str, page: Path = PAGE) -> None:
    """Put a row into the page, in the place of an older one of that name."""
    made = environment()
    versions = ", ".join(f"{name} {made['packages'][name]}" for name in ("torch", "transformers", "sentence-transformers"))
    rows = page.read_text(encoding="utf-8").splitlines()[HEAD.count("\n") :] if page.is_file() else []
    row = [what, found, time.strftime("%Y-%m-%d", time.gmtime()), made["revision"], made["machine"], f"Python {made['python']}, {versions}"]
    rows = [old for old in rows if not old.startswith(f"| {what} |")] + [f"| {' | '.join(map(str, row))} |"]
    page.write_text(HEAD + "\n".join(sorted(rows)) + "\n", encoding="utf-8")


@pytest.fixture
def measured(request) -> Callable[[str, str], None]:
    """Writes a row of reports/reliability.md; for tests of `make faults` alone."""
    assert request.node.get_closest_marker("faults")
    return record


@pytest.fixture(scope="session")
def say(request) -> Callable[[str], None]:
    """Prints a line at once, though pytest keeps what tests print: these take long."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def line(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"\n{time.strftime('%H:%M:%S')} {text}", end="", flush=True)

    return line


def parameter_file(folder: Path, **over) -> Path:
    """params/smoke.yaml on one thread, with its artefacts and reports below `folder`."""
    raw = yaml.safe_load((ROOT / "params/smoke.yaml").read_text(encoding="utf-8"))
    raw["runtime"] |= {"artefacts": str(folder / "artefacts"), "reports": str(folder / "reports"), "threads": 1}
    for section, values in over.items():
        raw[section] |= values
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "smoke.yaml").write_text(yaml.safe_dump(raw))
    return folder / "smoke.yaml"


def conan(*arguments, **options) -> subprocess.Popen:
    """Start the command line in the project."""
    command = [sys.executable, "-m", "conan_lib", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def finish(params_file: Path) -> Path:
    """Run all notebooks; returns the parameter file."""
    run = conan("run", params_file)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    return params_file


@pytest.fixture(scope="session")
def smoke(tmp_path_factory, say) -> Path:
    """The parameter file of a run that nothing disturbed."""
    say("the run that nothing disturbs: some two minutes")
    return finish(parameter_file(tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture(scope="session")
def kills(request) -> int:
    """How often the pipeline is killed."""
    return request.config.getoption("--kills")
