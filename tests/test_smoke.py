"""All eight notebooks run for real at the smoke tier; a second run does nothing; pretraining killed half-way ends in the same weights; the
report can be drawn from results alone."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from safetensors.torch import load_file

from conan_lib.params import load_params
from conan_lib.report import evidence
from conan_lib.report.build import build_report
from conan_lib.run.notebooks import NOTEBOOKS, steps_of
from conan_lib.stages import open_stage
from tests.conftest import SCRATCH
from tests.golden import GOLDEN, golden

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
CONAN = Path(sys.executable).with_name("conan-lib")


def parameter_file(folder: Path, **over) -> Path:
    """params/smoke.yaml with its artefacts and reports below `folder`."""
    raw = yaml.safe_load((ROOT / "params/smoke.yaml").read_text(encoding="utf-8"))
    raw["runtime"] |= {"artefacts": str(folder / "artefacts"), "reports": str(folder / "reports")}
    for section, values in over.items():
        raw[section] |= values
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def conan(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([CONAN, *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The parameter file of a run that has finished."""
    path = parameter_file(tmp_path_factory.mktemp("smoke"))
    done = conan("run", path)
    assert done.returncode == 0, done.stderr + done.stdout
    return path


def test_every_notebook_ran_without_an_error(finished):
    for step in steps_of(load_params(finished)):
        cells = nbformat.read(step.copy, as_version=4).cells
        assert [output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"] == []
        assert all(cell.execution_count for cell in cells if cell.cell_type == "code"), step.title
    assert all(open_stage(name, finished).finished for name in SCRATCH)


def test_figures_are_pictures_in_the_executed_notebooks_and_their_pages(finished):
    """The kernels are forks that imported the figures' module before there was a notebook."""
    for step in steps_of(load_params(finished)):
        cells = nbformat.read(step.copy, as_version=4).cells
        shown = [output.data for cell in cells for output in cell.get("outputs", []) if "data" in output]
        drawn = [data for data in shown if data.get("text/plain", "").startswith(("<Figure", "<Drawing"))]
        assert drawn and all("image/png" in data for data in drawn), step.title
        page = finished.parent / f"reports/smoke/notebooks/{step.title}.html"
        assert page.read_text(encoding="utf-8").count("<img") == len(drawn)


def test_the_report_is_there_and_shows_the_notebooks(finished):
    folder = finished.parent / "reports/smoke"
    assert "# " in (folder / "report.md").read_text(encoding="utf-8")
    assert (folder / "index.html").stat().st_size > 10_000
    assert {path.stem for path in (folder / "notebooks").glob("*.html")} == set(NOTEBOOKS)


def test_a_second_run_does_nothing(finished):
    files = {path: path.stat().st_mtime_ns for path in finished.parent.rglob("*") if path.is_file()}
    done = conan("run", finished)
    assert done.returncode == 0 and done.stdout.count("already done") == len(SCRATCH)
    assert {path: path.stat().st_mtime_ns for path in finished.parent.rglob("*") if path.is_file()} == files


def test_a_report_of_the_results_alone_is_the_same(finished, tmp_path, monkeypatch):
    """Packed without weights and text, unpacked elsewhere, drawn again; the notebooks' pages come from the published report."""
    there = parameter_file(tmp_path)
    assert conan("pack", finished, tmp_path / "parcel", "--results").returncode == 0
    assert conan("unpack", tmp_path / "parcel", "--artefacts", tmp_path / "artefacts").returncode == 0
    assert not list(tmp_path.glob("artefacts/*/*/**/*.safetensors")) and not list(tmp_path.glob("artefacts/corpus/*/*.parquet"))
    pages = build_report(finished)
    monkeypatch.setattr(evidence, "committed", lambda tier: pages)
    drawn, names = build_report(there), [path.relative_to(pages) for path in sorted(pages.rglob("*")) if path.is_file()]
    assert names == [path.relative_to(drawn) for path in sorted(drawn.rglob("*")) if path.is_file()]
    for name in names:
        texts = [(folder / name).read_bytes() for folder in (pages, drawn)]
        for own in (finished.parent, tmp_path):  # each names its own folders, and a page that came along the first one's
            texts = [text.replace(str(own).encode(), b"") for text in texts]
        assert texts[0] == texts[1], name


KILLED = """
import os, signal, sys
from conan_lib.run.notebooks import train
from conan_lib.training.recorder import Recorder

def dies(self, args, state, control, **rest):
    if state.global_step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    on_step_end(self, args, state, control, **rest)

on_step_end, Recorder.on_step_end = Recorder.on_step_end, dies
train("pretrain", sys.argv[1])
"""


def test_pretraining_killed_half_way_ends_in_the_same_weights(finished, tmp_path):
    def prepare(name: str) -> Path:
        """A run with a longer pretraining and the finished run's data and tokenizer."""
        folder = tmp_path / name
        for stage in ("corpus", "tokenizer"):
            shutil.copytree(finished.parent / "artefacts" / stage, folder / "artefacts" / stage)
        return parameter_file(folder, pretrain={"max_steps": 30}, runtime={"save_steps": 1})

    whole, killed = prepare("whole"), prepare("killed")
    assert conan("train", "pretrain", whole).returncode == 0
    stage = open_stage("pretrain", killed)
    assert subprocess.run([sys.executable, "-c", KILLED, killed], cwd=ROOT, capture_output=True).returncode == -signal.SIGKILL
    assert stage.status == "partial" and (stage.path / "checkpoints/checkpoint-6").is_dir()
    assert conan("train", "pretrain", killed).returncode == 0
    one, two = (load_file(open_stage("pretrain", path).path / "model/model.safetensors") for path in (whole, killed))
    assert one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
    assert open_stage("pretrain", whole).results["bits_per_byte"] == open_stage("pretrain", killed).results["bits_per_byte"]


def test_what_a_stage_means_changes_with_its_version(finished):
    """See tests/golden.py, also for how the golden digests are written."""
    before, now = json.loads(GOLDEN.read_text(encoding="utf-8")), golden(finished)
    write = "run `conan-lib run params/smoke.yaml && python -m tests.golden`"
    changed = [name for name in SCRATCH if before.get(name) != now[name]]
    meant = [name for name in changed if name in before and before[name]["key"] == now[name]["key"]]
    assert not meant, f"{', '.join(meant)}: other output under the same key: raise the version in conan_lib/table.py, then {write}"
    assert not changed, f"{', '.join(changed)}: other keys than in {GOLDEN.name}: {write}, and look at what changes in it"
