"""Pins: every kind of step and both loops are measured and written, and a budget leaves out what is wanted least."""

import json

import pytest
import torch

from benchmarks import loops, training
from conan_lib.errors import UserError

SMALL = ["--device", "cpu", "--size", "smoke", "--lengths", "16", "32", "--tokens", "64", "--threads", "1"]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_steps_of_all_stages_are_measured(tmp_path):
    switches = [name for name, on in training.SWITCHES.items() if "compile" not in on]
    folder = training.main([*SMALL, "--parts", "steps", "--switches", *switches, "--out", str(tmp_path)])
    rows = json.loads((folder / "training.json").read_text())["steps"]
    assert {(row["stage"], row["switches"]) for row in rows} == {
        ("weak", "none"), ("supervised", "none"), *(("pretrain", name) for name in switches),
    }  # fmt: skip
    for row in rows:
        assert 0 < row["q1"] <= row["seconds"] <= row["q3"]
        texts = row["texts"] * {"pretrain": 1, "weak": 2, "supervised": 9}[row["stage"]]
        assert row["tokens_per_second"] == pytest.approx(texts * row["length"] / row["seconds"])
        assert (row["mfu"] > 0 and row["planned_gb"] > 0) if row["stage"] == "pretrain" else row["pairs_per_second"] > 0
    assert (folder / "training.md").read_text().count("\n| ") == len(rows) + 1


def test_loops_take_turns_and_a_budget_ends_the_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "STEPS", 3)
    folder = training.main([*SMALL, "--rounds", "2", "--parts", "loops", "--out", str(tmp_path)])
    found = json.loads((folder / "training.json").read_text())["loops"]
    assert list(found) == ["pretrain", "weak"]
    for row in found.values():
        ratios = sorted(one / other for one, other in zip(row["seconds"]["ours"], row["seconds"]["plain"], strict=True))
        assert len(ratios) == row["rounds"] == 2 and row["ratio"] == pytest.approx(sum(ratios) / 2)
    folder = training.main([*SMALL, "--budget", "1e-9", "--out", str(tmp_path / "none")])
    assert json.loads((folder / "training.json").read_text())["steps"] == []


def test_the_most_wanted_comes_first():
    first = list(training.arms([2048, 8192], 16384))[:4]
    assert [(arm.stage, arm.length, arm.texts) for arm in first] == [
        ("pretrain", 2048, 8), ("pretrain", 8192, 2), ("weak", 512, 16), ("supervised", 512, 3),
    ]  # fmt: skip
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda: torch sees no CUDA device"):
            training.main(["--device", "cuda"])
