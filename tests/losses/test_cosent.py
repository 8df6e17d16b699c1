"""Pins: CoSENT equals its equation in a double loop and sentence-transformers' loss, with ties; the gradient orders pairs by gold; a wrong
argument is one line, and a NaN gold never passes."""

import math

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from conan_lib.losses import cosent

GOLD = torch.tensor([0.1, 0.9, 0.4, 0.9, 0.1, 0.0])


@pytest.mark.equation("cosent")
def test_equals_a_double_loop():
    scores = torch.tanh(torch.randn(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    total = 1.0
    for i in range(6):
        for k in range(6):
            if GOLD[i] > GOLD[k]:
                total += math.exp((scores[k] - scores[i]) / 0.05)
    assert cosent(scores, GOLD, 0.05).item() == pytest.approx(math.log(total), rel=1e-12)


@pytest.mark.equation("cosent")
@pytest.mark.parametrize("gold", [GOLD, torch.full((6,), 0.5)])
def test_equals_sentence_transformers(gold):
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(6, 8, generator=generator), torch.randn(6, 8, generator=generator)
    theirs = CoSENTLoss(model=None, scale=1 / 0.05).compute_loss_from_embeddings([first, second], gold)
    assert cosent(F.cosine_similarity(first, second), gold, 0.05).item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-6)


@pytest.mark.equation("cosent")
def test_gradient_raises_the_pair_with_the_higher_gold_and_is_finite_without_pairs():
    scores = torch.zeros(2, requires_grad=True)
    cosent(scores, torch.tensor([0.2, 0.8]), 0.05).backward()
    assert scores.grad[0] > 0 > scores.grad[1]
    one = torch.zeros(1, requires_grad=True)
    loss = cosent(one, torch.tensor([0.5]), 0.05)
    loss.backward()
    assert loss.item() == 0 and one.grad.item() == 0


NAN = torch.tensor([0.1, math.nan])


@pytest.mark.parametrize(
    ("scores", "gold", "temperature", "message"),
    [
        (torch.ones(6), GOLD[:, None], 0.05, r"shape \(B,\), not \(6,\) and \(6, 1\)"),
        (torch.ones(6), GOLD[:1], 0.05, r"shape \(B,\), not \(6,\) and \(1,\)"),
        (torch.ones(6, 1), GOLD[:, None], 0.05, r"shape \(B,\), not \(6, 1\) and \(6, 1\)"),
        (torch.ones(2), NAN, 0.05, "gold holds NaN or infinity"),
        (torch.ones(6), GOLD, 0.0, "temperature 0.0 must be above 0"),
    ],
)
def test_a_wrong_argument_is_one_line(scores, gold, temperature, message):
    with pytest.raises(ValueError, match=f"^cosent: .*{message}"):
        cosent(scores, gold, temperature)


def test_where_a_check_would_stop_the_compiler_a_nan_gold_makes_the_loss_nan():
    compiled = torch.compile(cosent, backend="eager", fullgraph=True)  # fullgraph: no check looks at a value
    assert compiled(torch.ones(2), NAN, 0.05).isnan()
    scores = torch.linspace(-1, 1, 6)
    torch.testing.assert_close(compiled(scores, GOLD, 0.05), cosent(scores, GOLD, 0.05))
