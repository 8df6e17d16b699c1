"""Killed at any moments and called again, the pipeline ends in the weights and tables of a run that nothing disturbed; so do two calls at
once, two fresh runs, and, within rounding, another number of threads.

Hours: `make faults` alone runs this, over the smoke tier.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from conan_lib.stages import open_stage
from tests.conftest import SCRATCH
from tests.faults.conftest import conan, finish, parameter_file

pytestmark = pytest.mark.faults
CLOCKS = {"date", "evaluation_phases", "evaluation_time", "memory_usage_mb", "texts_per_second", "tokens_per_second"}
"""Keys whose numbers a clock or the system gave."""
COLUMNS = {"seconds", "peak memory (MB)", "finished"}
"""The same in tables."""
TIMED = ("speed.json", "speed.csv")
"""Files that hold times and little else."""
NOTES = ("run_settings.jsonl", "model_meta.json")
"""What mteb notes of its calls, beside the results."""
SPEED = "C9"
"""The claim that is about time."""
LONGEST = 45
"""Seconds until a kill, at most: about as long as the longest stage with its start."""


def contents(params_file: Path) -> dict[str, object]:
    """stage/file -> what must be equal: the hash of weights and tables, JSON without the numbers of clocks; and each stage's results."""
    found = {}
    for stage in (open_stage(name, params_file) for name in SCRATCH):
        stage.artefact.verify()
        found[stage.name] = _still(stage.results, CLOCKS)
        for name, (_, digest) in stage.artefact.manifest["files"].items():
            path = stage.path / name
            if path.suffix == ".json":
                digest = _still(json.loads(path.read_text(encoding="utf-8")), CLOCKS)
            if path.name not in (*TIMED, *NOTES):
                found[f"{stage.name}/{name}"] = digest
    reports = params_file.parent / "reports/smoke"
    for path in sorted(reports.rglob("*.csv")):
        if path.name not in TIMED:
            with open(path, encoding="utf-8", newline="") as file:
                found[str(path.relative_to(reports))] = [_still(row, COLUMNS) for row in csv.DictReader(file) if row.get("id") != SPEED]
    return found


def _still(value, without: set[str]):
    """A value of JSON without these keys."""
    if isinstance(value, dict):
        return {key: _still(one, without) for key, one in value.items() if key not in without}
    return [_still(one, without) for one in value] if isinstance(value, list) else value


def differing(one: Path, other: Path) -> list[str]:
    """What two runs do not have in common."""
    first, second = contents(one), contents(other)
    return [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]


def family(pid: int) -> list[int]:
    """A process and those below it."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [pid, *(one for child in children for one in family(int(child)))]


def kill_at_random(params_file: Path, chance: random.Random) -> str | None:
    """Start the run and kill it, its kernel, or all of it; says which, None where it had ended before."""
    run = conan("run", params_file)
    try:
        run.communicate(timeout=chance.uniform(0, LONGEST))
        return None
    except subprocess.TimeoutExpired:
        own = family(run.pid)
    what = chance.choice(["the run", "the run", "a process below it", "all"])
    for pid in {"the run": own[:1], "all": own}.get(what, [chance.choice(own)]):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    run.communicate()
    return what


def test_killed_at_random_moments_it_ends_in_the_same_weights_and_tables(smoke, tmp_path, kills, measured, say):
    chance, counts, rounds, began = random.Random(0), Counter(), 0, time.monotonic()
    while counts.total() < kills:
        rounds += 1
        params_file = parameter_file(tmp_path / str(rounds), runtime={"save_steps": 2})
        while counts.total() < kills and (killed := kill_at_random(params_file, chance)):
            counts[killed] += 1
            left = (time.monotonic() - began) / counts.total() * (kills - counts.total()) / 60
            say(f"killed {counts.total()} of {kills} times ({killed}), run {rounds}; about {left:.0f} min left")
        finish(params_file)
        assert differing(smoke, params_file) == []
        say(f"run {rounds} is equal to the undisturbed one")
    done = ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))
    measured("SIGKILL at random moments", f"{counts.total()} survived ({done}) in {rounds} runs; weights and tables bit-identical")


def test_interrupted_it_says_how_to_go_on(tmp_path, measured):
    """While kernels start, and at work; for the imports before see tests/run/test_cli_stops.py."""
    moments = (10, 20, 40)
    for seconds in moments:
        # a shell may have started this one deaf to Ctrl-C, which it would hand down
        hears = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        run = conan("run", parameter_file(tmp_path), start_new_session=True, preexec_fn=hears)
        time.sleep(seconds)
        os.killpg(run.pid, signal.SIGINT)
        said, _ = run.communicate()
        assert run.returncode == 130 and said.splitlines()[-1] == "conan-lib: interrupted; run it again to go on", (seconds, said)
    measured("Ctrl-C", f"after {', '.join(map(str, moments))} s: exit code 130, and the last line says how to go on")


def test_two_calls_at_once_end_in_one_result(smoke, tmp_path, measured, say):
    """Of the same parameters; and of others, which share the stages up to pretraining."""
    same, other = parameter_file(tmp_path / "one"), tmp_path / "one/other.yaml"
    other.write_text(f"base: smoke.yaml\ntier: other\nsft: {{seed: 1}}\nruntime: {{artefacts: {tmp_path / 'one/artefacts'}}}\n")
    say("three calls at once: some five minutes")
    runs = [conan("run", path) for path in (same, same, other)]
    said = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert differing(smoke, same) == []
    alone = parameter_file(tmp_path / "two", sft={"max_steps": 6, "seed": 1})
    shutil.copytree(tmp_path / "one/artefacts/corpus", tmp_path / "two/artefacts/corpus")
    finish(alone)
    weights = [(open_stage("supervised", path).path / "model/model.safetensors").read_bytes() for path in (other, alone)]
    assert weights[0] == weights[1]
    measured("two runs of the same parameters and one of others at once", "bit-identical to runs alone")


def test_two_fresh_runs_are_equal_and_other_threads_differ_by_rounding(smoke, tmp_path, measured, say):
    say("two more runs: some four minutes")
    again = finish(parameter_file(tmp_path / "again"))
    assert differing(smoke, again) == []
    two = finish(parameter_file(tmp_path / "threads", runtime={"threads": 2}))
    far = max(_distance(smoke, two, name) for name in ("pretrain", "sft", "weak", "supervised"))
    assert far < 1e-2
    measured("two fresh runs", f"bit-identical; with 2 threads and not 1, weights differ by at most {far:.1e} of their norm")


def _distance(one: Path, other: Path, name: str) -> float:
    first, second = (load_file(open_stage(name, path).path / "model/model.safetensors") for path in (one, other))
    moved, size = (
        np.sqrt(sum(float(t.double().square().sum()) for t in ts)) for ts in ((first[k] - second[k] for k in first), first.values())
    )
    return moved / size
