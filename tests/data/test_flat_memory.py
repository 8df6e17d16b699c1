"""The memory of the stages corpus, sets and tokenizer, and of tokenising, does not grow with the data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GROWTH = 50
"""MB: row groups that the small run does not fill. From 300 rows of each kind to 30,000 it was 28; lists took 117 to 10,000 already."""


@pytest.mark.slow
def test_a_hundred_times_the_data_take_no_more_memory():
    root = Path(__file__).parents[2]
    command = [sys.executable, Path(__file__).with_name("flat_memory.py"), "200", "20000"]
    environment = {**os.environ, "PYTHONPATH": str(root), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    small, large = map(json.loads, done.stdout.splitlines())
    assert large["weak"] == 100 * small["weak"] == 20_000 and large["documents"] > 80 * small["documents"]
    assert large["peaks"]["tokens"] - small["peaks"]["tokens"] < GROWTH, (small, large)
