"""Pins: InfoNCE equals its equation in float64 and sentence-transformers' loss; excluded candidates change nothing but their own weight;
false negatives are exactly the equal texts and the positives of equal anchors; a wrong argument is one line."""

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from conan_lib.losses import false_negatives, info_nce, info_nce_from_scores


def embeddings(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.equation("infonce")
@pytest.mark.parametrize("exclude", [False, True])
def test_equals_a_double_loop_with_and_without_exclusions(exclude):
    values = torch.tanh(embeddings(3, 7))
    scores = values.clone().requires_grad_()
    positive = torch.tensor([4, 0, 4])
    excluded = torch.rand(3, 7, generator=torch.Generator().manual_seed(1)) < 0.4 if exclude else torch.zeros(3, 7, dtype=torch.bool)
    excluded[0, 4] = exclude  # an excluded positive still counts
    total = 0.0
    for i in range(3):
        kept = [j for j in range(7) if not excluded[i, j] or j == positive[i]]
        total += -math.log(math.exp(values[i, positive[i]] / 0.1) / sum(math.exp(values[i, j] / 0.1) for j in kept))
    loss = info_nce_from_scores(scores, positive, 0.1, excluded if exclude else None)
    assert loss.item() == pytest.approx(total / 3, rel=1e-12)
    loss.backward()
    left_out = excluded.scatter(1, positive[:, None], False)
    assert scores.grad.isfinite().all()
    assert scores.grad[left_out].eq(0).all() and scores.grad[~left_out].ne(0).all()


@pytest.mark.equation("infonce")
@pytest.mark.parametrize("hard", [0, 3])
def test_equals_multiple_negatives_ranking_loss(hard):
    anchors, positives = embeddings(5, 8), embeddings(5, 8, seed=1)
    negatives = embeddings(5, hard, 8, seed=2) if hard else None
    theirs = MultipleNegativesRankingLoss(model=None, scale=1 / 0.05).compute_loss_from_embeddings(
        [anchors, positives, *(negatives[:, n] for n in range(hard))], None
    )
    assert info_nce(anchors, positives, negatives, temperature=0.05).item() == pytest.approx(theirs.item(), rel=1e-9)


@pytest.mark.equation("infonce")
def test_two_anchors_with_one_positive_lose_as_if_it_were_there_once():
    anchors, positive, negatives = embeddings(2, 8), embeddings(1, 8, seed=1), embeddings(2, 1, 8, seed=2)
    doubled = torch.tensor([10, 10, 12, 13])
    excluded = false_negatives(torch.tensor([1, 2]), doubled, torch.tensor([0, 1]))
    unit = torch.nn.functional.normalize
    scores = unit(anchors, dim=-1) @ unit(torch.cat([positive, negatives[:, 0]]), dim=-1).T
    once = info_nce_from_scores(scores, torch.tensor([0, 0]), 0.1)
    assert info_nce(anchors, positive.expand(2, 8), negatives, temperature=0.1, excluded=excluded).item() == pytest.approx(once.item())
    assert info_nce(anchors, positive.expand(2, 8), negatives, temperature=0.1).item() > once.item() + 1e-3


@pytest.mark.equation("infonce")
def test_false_negatives():
    #            anchors: texts 1, 2, 1     candidates: texts 5 6 7 2 8
    excluded = false_negatives(torch.tensor([1, 2, 1]), torch.tensor([5, 6, 7, 2, 8]), torch.tensor([0, 1, 2]))
    assert excluded.tolist() == [
        [True, False, True, False, False],  # its own positive, and that of the equal anchor
        [False, True, False, True, False],  # its own positive, and its own text
        [True, False, True, False, False],
    ]


def test_bf16_scores_are_summed_in_float():
    scores = torch.randn(4, 6).bfloat16()
    assert info_nce_from_scores(scores, torch.arange(4), 0.05).dtype == torch.float32


E = torch.ones
WRONG = {
    "temperature 0": ({"temperature": 0}, "temperature 0 must be above 0"),
    "temperature below 0": ({"temperature": -0.05}, "temperature -0.05 must be above 0"),
    "no anchors": ({"anchors": E(0, 4), "positives": E(0, 4)}, r"with B above 0, not \(0, 0\) and \(0,\)"),
    "fewer positives": ({"positives": E(2, 4)}, r"must both have shape \(B, D\), not \(3, 4\) and \(2, 4\)"),
    "flat negatives": ({"hard_negatives": E(3, 4)}, r"hard_negatives must have shape \(B, N, D\)"),
    "other negatives": ({"hard_negatives": E(3, 2, 5)}, r"of \(3, 4\), not \(3, 2, 5\)"),
    "whole numbers": ({"excluded": torch.zeros(3, 3, dtype=torch.long)}, "excluded must be bool .*, not torch.int64"),
    "a column": ({"excluded": torch.zeros(3, 1, dtype=torch.bool)}, r"= \(3, 3\), not torch.bool of shape \(3, 1\)"),
}


@pytest.mark.parametrize("changed, message", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_argument_is_one_line(changed, message):
    with pytest.raises(ValueError, match=f"^info_nce: .*{message}"):
        info_nce(**{"anchors": E(3, 4), "positives": E(3, 4), "temperature": 0.05} | changed)


def test_scores_and_positives_of_other_shapes_are_refused():
    for scores, positive in ((E(3), torch.arange(3)), (E(3, 4), torch.arange(2)), (E(3, 4), torch.zeros(3, 1, dtype=torch.long))):
        with pytest.raises(ValueError, match=r"must have shapes \(B, C\) and \(B,\)"):
            info_nce_from_scores(scores, positive, 0.05)


def test_no_hard_negatives_of_an_anchor_are_none():
    anchors, positives = embeddings(3, 4), embeddings(3, 4, seed=1)
    assert info_nce(anchors, positives, E(3, 0, 4).double(), temperature=0.1) == info_nce(anchors, positives, temperature=0.1)


def test_a_learnt_temperature_gets_its_gradient():
    temperature = torch.tensor(0.1, requires_grad=True)
    info_nce(embeddings(3, 4).float(), embeddings(3, 4, seed=1).float(), temperature=temperature).backward()
    assert temperature.grad.isfinite() and temperature.grad != 0
