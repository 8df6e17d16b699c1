"""The script of the GPU's fifteen minutes: a part that is cut off or fails stops no other, keeps what it wrote, and says how it ended."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conan_lib.grids import open_grid

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


def test_what_is_carried_for_the_masks_serves_their_rate_too():
    masks, rate = (open_grid(ROOT / f"params/grids/smollm2-gpu/{name}.yaml").cells[0] for name in ("masks", "rate"))
    for stage in ("corpus", "sets", "heldout", "tokenizer", "teacher"):
        assert masks.stages[stage].key == rate.stages[stage].key
    assert masks.score.key != rate.score.key and rate.params.tasks.split == "dev"


@pytest.mark.slow
def test_the_measurements_are_rehearsed_on_a_cpu(tmp_path):
    lines = script(tmp_path, PARTS="attention training", PATIENCE="8", SECONDS_IN_ALL="800")
    assert [line.split(":")[0] for line in lines] == ["attention", "training"]
    assert all(line.endswith("exit code 0") for line in lines), [path.read_text()[-2000:] for path in tmp_path.glob("*.log")]
    assert "forward + backward" in (tmp_path / "attention" / "attention.csv").read_text()
    assert json.loads((tmp_path / "training" / "training.json").read_text())["steps"]
