"""Invariants: the benchmark of dynamic negatives times as many steps in both arms, on the same batches, and its pool does swap; what it
lacks is one line."""

import pytest

from benchmarks import dhnm
from conan_lib.errors import UserError
from conan_lib.stages import open_stage
from conan_lib.training.mine import mine_negatives
from tests.small_pairs import finish_weak, pair_params


def test_dynamic_negatives_are_timed_beside_static_ones(tmp_path):
    params = pair_params(tmp_path, supervised={"dhnm": {"floor": 0.95}})
    finish_weak(params)
    mine_negatives(open_stage("mine", params))
    found = dhnm.measure(open_stage("supervised", params), steps=12)
    assert found["steps"] == 12 and found["swaps"] > 0
    assert 0.2 < found["ratio_q1"] <= found["ratio"] <= found["ratio_q3"] < 5 and min(found["ms_with"], found["ms_without"]) > 0


def test_stages_that_have_not_finished_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("tier: tiny\n", encoding="utf-8")
    with pytest.raises(UserError, match="not finished: sets, weak, mine"):
        dhnm.main(["small.yaml"])
