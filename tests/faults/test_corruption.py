"""A finished stage of which a file lost or changed a byte is never taken for whole.

What is made from it, a run, an export and `conan-lib status` name the file; once its folder is removed, that stage alone is made again.
"""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from conan_lib.artefacts import Artefact
from conan_lib.data.records import write_table
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.run.notebooks import NOTEBOOKS, run_notebooks
from conan_lib.stages import open_stage
from tests.conftest import SCRATCH, write_notebook

FILE = "params/small.yaml"


def fill(folder):
    """A file of every kind that a stage writes."""
    (folder / "model").mkdir()
    save_file({"weight": torch.arange(6.0)}, folder / "model/model.safetensors")
    write_table(folder / "rows.parquet", pa.Table.from_pylist([{"text": "one"}, {"text": "two"}]))
    write_json(folder / "history.json", [{"step": 1, "loss": 0.5}])
    np.savez(folder / "pools.npz", ids=np.arange(4))
    np.save(folder / "vectors.npy", np.arange(4.0))
    (folder / "model/README.md").write_text("A model.\n")
    (folder / "figure.png").write_bytes(b"\x89PNG" + bytes(20))


FILLS = """
import tests.faults.test_corruption as own
from conan_lib.stages import open_stage

for name in {stages!r}:
    stage = open_stage(name, params_file)
    if not stage.finished:
        with stage.work() as work:
            own.fill(stage.path)
            work.commit({{}})
"""
KINDS = (
    "model/model.safetensors",
    "rows.parquet",
    "history.json",
    "pools.npz",
    "vectors.npy",
    "model/README.md",
    "figure.png",
    "identity.json",
)


def flipped(content: bytes, place: float = 0.5) -> bytes:
    number = int(place * (len(content) - 1))
    return content[:number] + bytes([content[number] ^ 1]) + content[number + 1 :]


HARM = {
    "a bit flipped": flipped,
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b" ",
    "empty": lambda content: b"",
    "gone": None,
}


def harm(path, how):
    """Do it; returns the line that it deserves."""
    if HARM[how] is None:
        path.unlink()
    else:
        path.write_bytes(HARM[how](path.read_bytes()))
    return f"^{re.escape(str(path))}: {'missing' if how == 'gone' else 'damaged'}: remove "


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("name", KINDS)
def test_what_is_made_from_a_damaged_artefact_names_the_file(tmp_path, one_environment, name, how):
    data = Artefact("corpus", 1, {}, root=tmp_path)
    made = Artefact("tokenizer", 1, {}, {"corpus": data}, root=tmp_path)
    with data.work() as work:
        fill(work.path)
        work.commit({})
    data.verify()
    line = harm(data.path / name, how)
    for use in (data.verify, lambda: made.needs("corpus"), lambda: made.work().__enter__()):
        with pytest.raises(UserError, match=line):
            use()
    assert not made.path.exists()


def test_hidden_files_and_those_of_attempts_may_go(tmp_path, one_environment):
    data = Artefact("corpus", 1, {}, root=tmp_path)
    with data.work() as work:
        (work.path / "checkpoints").mkdir()
        for name in ("checkpoints/state.pt", ".note", "kept.txt"):
            (work.path / name).write_text(name)
        work.commit({})
        (work.path / "checkpoints/state.pt").unlink()
    (data.path / ".note").unlink()
    data.verify()
    assert set(data.manifest["files"]) == {"identity.json", "kept.txt"}


@pytest.fixture
def finished(project, kernels, monkeypatch, one_environment):
    """A finished run whose stage `sets` has a file of every kind; its report is a page."""
    for notebook, stages in NOTEBOOKS.items():
        write_notebook(project / "notebooks" / f"{notebook}.ipynb", FILLS.format(stages=[name for name in stages if name in SCRATCH]))
    monkeypatch.setattr("conan_lib.run.notebooks._report", lambda *_: False)
    run_notebooks(FILE)
    kernels.clear()
    return project


@pytest.mark.parametrize("how", ["a bit flipped", "cut", "gone"])
def test_a_damaged_stage_is_listed_refused_and_made_again_alone(finished, kernels, conan, how):
    stages = {name: open_stage(name, FILE) for name in SCRATCH}
    written = {name: (stage.path / "manifest.json").stat().st_mtime_ns for name, stage in stages.items()}
    files = stages["sets"].artefact.manifest["files"]
    line = harm(stages["sets"].path / "rows.parquet", how)
    for arguments in (("status", FILE, "--check"), ("run", FILE)):
        code, out, err = conan(*arguments)
        assert code == 2 and err.count("\n") == 1 and re.search(line[1:], err)
    assert kernels == []
    out = conan("status", FILE, "--check")[1]
    assert [row.split("│")[2].strip() for row in out.splitlines() if "damaged" in row] == ["sets"]
    shutil.rmtree(stages["sets"].path)
    assert conan("run", FILE)[0] == 0 and kernels == ["01_data"]
    after = {name: (stage.path / "manifest.json").stat().st_mtime_ns for name, stage in stages.items()}
    assert [name for name in SCRATCH if after[name] != written[name]] == ["sets"]
    assert stages["sets"].artefact.manifest["files"] == files


def test_without_check_sizes_alone_are_compared_and_a_broken_manifest_is_listed_too(finished, conan):
    stages = {name: open_stage(name, FILE) for name in ("corpus", "sets", "weak")}
    harm(stages["sets"].path / "rows.parquet", "a bit flipped")
    assert conan("status", FILE)[0] == 0
    harm(stages["corpus"].path / "vectors.npy", "cut")
    (stages["weak"].path / "manifest.json").write_text(json.dumps({}))
    code, out, err = conan("status", FILE)
    assert code == 2 and out.count("damaged") == 2 and "vectors.npy: damaged" in err and "manifest.json: damaged" in err


@pytest.mark.faults
def test_every_file_of_a_finished_run(smoke, measured, say):
    """A bit flipped at three places, a byte less, a byte more, nothing left and no file: each found by a read of the stage."""
    found = 0
    for stage in (open_stage(name, smoke) for name in SCRATCH):
        for name in stage.artefact.manifest["files"]:
            path = stage.path / name
            before = path.read_bytes()
            harmed = [flipped(before, place) for place in (0, 0.5, 1)] if before else []
            for content in (*harmed, before[:-1], before + b" ", b"", None):
                if content == before:
                    continue
                path.unlink() if content is None else path.write_bytes(content)
                with pytest.raises(UserError, match=f"^{re.escape(str(path))}: "):
                    stage.artefact.verify()
                found += 1
            path.write_bytes(before)
        stage.artefact.verify()
        say(f"stage {stage.name}: {found:,} damaged files caught so far")
    measured("damaged files of a finished run", f"{found:,} of {found:,} caught and named")
