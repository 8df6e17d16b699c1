"""Invariants: the benchmark of dynamic negatives times as many steps in both arms, on the same batches, and its pool does swap."""

import importlib.util
from pathlib import Path

from conan_lib.stages import open_stage
from conan_lib.training.mine import mine_negatives
from tests.small_pairs import finish_weak, pair_params

ROOT = Path(__file__).parents[1]


def test_dynamic_negatives_are_timed_beside_static_ones(tmp_path):
    spec = importlib.util.spec_from_file_location("benchmark_dhnm", ROOT / "benchmarks" / "dhnm.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    params = pair_params(tmp_path, supervised={"dhnm": {"floor": 0.95}})
    finish_weak(params)
    mine_negatives(open_stage("mine", params))
    found = benchmark.measure(open_stage("supervised", params), steps=12)
    assert found["steps"] == 12 and found["swaps"] > 0
    assert 0.2 < found["ratio"] < 5 and min(found["ms_with"], found["ms_without"]) > 0
