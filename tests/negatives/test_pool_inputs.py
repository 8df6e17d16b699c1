"""Pins: a wrong argument of a pool is one line and changes nothing; cosines of bf16 pass; lists and arrays are as good as tensors;
no pool holds its own positive, a row twice, or a number that is no row; a state that is none changes nothing."""

import math

import numpy as np
import pytest
import torch

from conan_lib.errors import UserError
from conan_lib.negatives import DhnmOptions, NegativePool

ids = torch.tensor


def pool(pools=3, candidates=8, n=2, **params):
    return NegativePool(torch.arange(pools * candidates).view(pools, candidates) + 100, n, DhnmOptions(**params))


def test_mistakes_are_told():
    with pytest.raises(UserError, match="pool 1 has 1 candidates"):
        NegativePool(torch.tensor([[1, 2], [3, -1]]), 2)
    with pytest.raises(UserError, match="delete the checkpoint"):
        pool(pools=2).load_state_dict(pool(pools=3).state_dict())
    for end in (lambda: pool().update(ids([0]), torch.zeros(1, 2)), lambda: pool().discard(ids([0]))):
        with pytest.raises(RuntimeError, match="update before draw"):
            end()
    negatives = pool()
    negatives.draw(ids([0]))
    negatives.draw(ids([0]))
    with pytest.raises(RuntimeError, match="at most one batch ahead, with no workers, and update or discard each"):
        negatives.draw(ids([0]))


@pytest.mark.parametrize(
    ("candidates", "n", "message"),
    [
        ([[1, 2], [3, -1]], 0, "n 0 must be at least 1"),
        ([[1, 2, 3], [4, -1, 5]], 2, "pool 1: -1 padding must be at the end"),
        ([[1.0, 2.0]], 1, "candidates must be whole numbers"),
        ([1, 2], 1, "candidates must be whole numbers"),
        ([[True, False]], 1, "candidates must be whole numbers"),
        ([[1, 2]], 1.5, "n 1.5 must be at least 1, a whole number"),
        ([[1, 2]], None, "n None must be at least 1, a whole number"),
        ([[1, 2]], True, "n True must be at least 1, a whole number"),
        ([[1, 2], [3, -1]], 2, "pool 1 has 1 candidates, fewer than n 2: give it more candidates, or a smaller n"),
        ([[1, 2, 3], [3, 4, 3]], 2, "pool 1 names row 3 twice: give each candidate once"),
        ([[1, 2, -5]], 2, "pool 0: -5 is no row of a corpus: give rows from 0, and -1 for none"),
        ([], 1, "candidates are empty: give the ranked corpus rows"),
        ([[]], 1, "candidates are empty: give the ranked corpus rows"),
    ],
)
def test_pools_of_another_form_are_refused(candidates, n, message):
    with pytest.raises(UserError, match=message):
        NegativePool(torch.tensor(candidates), n)


@pytest.mark.parametrize("seed", [-1, 1.5, None, "1", True])
def test_a_seed_that_draws_nothing_is_refused_at_once(seed):
    with pytest.raises(UserError, match=f"seed {seed} must be at least 0, a whole number"):
        NegativePool([[1, 2]], 1, seed=seed)


def test_no_pool_holds_its_own_positive():
    ranked = [[1, 2, 0], [2, 0, 1]]
    for positives, told in (([3, 1], "pool 1 holds its own positive, row 1"), (np.array([0, 4]), "pool 0 holds its own positive, row 0")):
        with pytest.raises(UserError, match=told):
            NegativePool(ranked, 1, positives=positives)
    for positives in ([3], [[3, 4]], [3.0, 4.0], 3):
        with pytest.raises(UserError, match=r"positives must be whole numbers \(P,\) = \(2,\)"):
            NegativePool(ranked, 1, positives=positives)
    padded = NegativePool([[1, 2, -1], [2, 0, -1]], 1, positives=[0, -1])  # -1: not in the corpus
    before = str(padded.state_dict())
    with pytest.raises(UserError, match="pool 0 holds its own positive, row 0"):
        padded.refresh(torch.tensor([[2, 0, -1], [2, 0, -1]]))
    assert str(padded.state_dict()) == before and padded.draw([0]).tolist() == [[1]]


def test_a_row_is_found_twice_in_any_block_of_the_pools(monkeypatch):
    monkeypatch.setattr("conan_lib.negatives.checks.AT_ONCE", 2)
    with pytest.raises(UserError, match="pool 4 names row 7 twice"):
        NegativePool([[1, 2, 3]] * 4 + [[7, 1, 7]], 1)


def test_a_wrong_argument_is_named_and_changes_nothing():
    negatives = pool(margin=0.0)
    for wrong in ([-1], [3], [0.0], [[0]]):
        with pytest.raises(UserError, match="pool_ids must be whole numbers"):
            negatives.draw(ids(wrong))
    negatives.draw(ids([0, 1]))
    before = str(negatives.state_dict())
    for pool_ids, scores, positive, message in (
        ([1, 0], (2, 2), (2,), "pool_ids are not those of the batch drawn"),
        ([0], (1, 2), (1,), "pool_ids are not those of the batch drawn"),
        ([0, 1], (2, 3), (2,), "scores must have shape"),
        ([0, 1], (4,), (2,), "scores must have shape"),
        ([0, 1], (2, 2), (2, 1), "positive must have shape"),
        ([0, 1], (2, 2), None, "positive must have shape .* is None"),
    ):
        with pytest.raises(UserError, match=message):
            negatives.update(ids(pool_ids), torch.zeros(scores), None if positive is None else torch.zeros(positive))
    assert str(negatives.state_dict()) == before
    with pytest.raises(UserError, match="pool_ids must be a tensor, or a list or array of numbers, not list"):
        negatives.update([0, "1"], torch.zeros(2, 2), torch.zeros(2))
    with pytest.raises(UserError, match="not those of the batch drawn: update or discard"):
        negatives.discard(ids([1, 0]))
    for number in (math.nan, math.inf, -math.inf, 1.1, -20.0):
        logits = torch.tensor([[0.5, 0.5], [0.5, number]])
        for scores, positive, name in ((logits, torch.zeros(2), "scores"), (torch.zeros(2, 2), logits[1], "positive")):
            with pytest.raises(UserError, match=f"{name} hold {number:.4g}: give cosines, not logits, and discard a batch"):
                negatives.update(ids([0, 1]), scores, positive)
    assert str(negatives.state_dict()) == before
    assert negatives.update(ids([0, 1]), torch.zeros(2, 2), torch.zeros(2)) == 4


def test_cosines_of_half_precision_pass():
    vectors = torch.rand(100_000, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    scores = torch.einsum("bd,bnd->bn", vectors, vectors[:, None])  # each with itself
    assert scores.max() > 1.01
    negatives = NegativePool(torch.zeros(len(scores), 1, dtype=torch.long), 1)
    negatives.draw(torch.arange(len(scores)))
    negatives.update(torch.arange(len(scores)), scores)


def test_lists_and_arrays_are_as_good_as_tensors():
    drawn = []
    for kind in (torch.tensor, np.array, lambda values: values):
        negatives = NegativePool(kind([[1, 2, 3, 4], [5, 6, 7, 8]]), 2, DhnmOptions(margin=0.1))
        for _ in range(3):
            drawn.append(negatives.draw(kind([1, 0])).tolist())
            negatives.update(kind([1, 0]), kind([[0.1, 0.9], [0.9, 0.85]]), kind([0.9, 0.99]))
    assert drawn[:3] == drawn[3:6] == drawn[6:] and drawn[0] != drawn[2]


def test_params_of_another_kind_are_refused():
    with pytest.raises(UserError, match=r"options must be DhnmOptions, not dict: give DhnmOptions\(rule=\.\.\., \.\.\.\)"):
        NegativePool([[1, 2]], 1, {"rule": "v1"})


def test_a_state_that_is_none_or_of_other_candidates_is_refused_and_changes_nothing():
    few = pool(candidates=3)
    before = str(few.state_dict())
    for nothing in ({}, None):
        with pytest.raises(UserError, match=r"the state has no rank, .*: give what state_dict returned"):
            few.load_state_dict(nothing)
    good = few.state_dict()
    for name, wrong, told in (
        ("rank", good["rank"].tolist(), "the state's rank is list: give what state_dict returned"),
        ("initial", good["initial"].long(), "the state's initial is torch.int64: give"),
        ("updates", "3", "the state's updates is str: give"),
        ("latest", good["latest"][:, :1], r"whose latest is of shape \(3, 1\), this run \(3, 2\): delete the checkpoint"),
        ("unused", good["unused"][:2], r"whose unused is of shape \(2,\), this run \(3,\): delete the checkpoint"),
    ):
        with pytest.raises(UserError, match=told):
            few.load_state_dict(good | {name: wrong})
    many = pool(candidates=8)
    for _ in range(3):
        many.draw([0])
        many.update([0], [[0.1, 0.1]])
    with pytest.raises(UserError, match="used more candidates than the pools have: it belongs to other candidates"):
        few.load_state_dict(many.state_dict())
    assert str(few.state_dict()) == before
