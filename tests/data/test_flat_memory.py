"""The memory of a run, from its corpus to the supervised stage, does not grow with the data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROWTH = 50
"""MB. From 100 rows of each kind to 10,000 it was 25; with lists in the teacher, mining and training it was 156."""


def measured(count: int) -> dict:
    command = [sys.executable, Path(__file__).with_name("flat_memory.py"), str(count)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_hundred_times_the_data_take_no_more_memory():
    small, large = measured(100), measured(10_000)
    assert large["documents"] > 80 * small["documents"] and large["weak"] > 80 * small["weak"]
    for stage in ("tokens", "supervised"):
        assert large["peaks"][stage] - small["peaks"][stage] < GROWTH, (small, large)
