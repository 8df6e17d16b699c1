"""Pins: the mask and both readings equal a float64 double loop, outputs and gradients; the stated endpoints; a text's own attention does
not depend on padding or packing; padding rows never produce NaN; schedules start at 0 and end at 1; `logit` is not causal at 0."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from conan_lib.attention import SoftMask, alpha_at, mask_matrix, reference_attention, row_coefficients, soft_mask_attention

READINGS = ("weight", "logit")


def loop_attention(q, k, v, alpha, segments, reading, ratio):
    """The equations, written token by token in Python floats; padding rows stay 0."""
    B, H, L, D = q.shape
    group = H // k.shape[1]
    out = [[[torch.zeros(D, dtype=torch.float64) for _ in range(L)] for _ in range(H)] for _ in range(B)]
    for b in range(B):
        for h in range(H):
            for t in range(L):
                own = [j for j in range(L) if segments[b, j] == segments[b, t]]
                if segments[b, t] == 0:
                    continue
                i, l = own.index(t) + 1, len(own)
                c = min(alpha * (l / i if ratio == "l/i" else i / l), 1.0)
                weights = []
                for j in own:
                    s, m = q[b, h, t] @ k[b, h // group, j] / math.sqrt(D), 1.0 if j <= t else c
                    weights.append(m * s.exp() if reading == "weight" else (s * m).exp())
                total = sum(weights)
                out[b][h][t] = sum(w / total * v[b, h // group, j] for w, j in zip(weights, own, strict=True))
    return torch.stack([torch.stack([torch.stack(rows) for rows in heads]) for heads in out])


def segments_of(kind: str, length: int, lengths: tuple[int, ...]) -> torch.Tensor:
    """(B, L): rows of the given lengths padded left or right, or each row packed with two sequences."""
    rows = []
    for own in (min(n, length) for n in lengths):
        pad = [0] * (length - own)
        if kind == "packed":
            rows.append([1] * (own // 2) + [2] * (own - own // 2) + pad)
        else:
            rows.append([1] * own + pad if kind == "right" else pad + [1] * own)
    return torch.tensor(rows)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-12)).item()


@pytest.mark.equation("soft_mask_weight")
@pytest.mark.equation("soft_mask_logit")
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    length=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=2).map(tuple),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2)]),
    alpha=st.sampled_from([0.0, 0.01, 0.3, 0.77, 1.0]),
    reading=st.sampled_from(READINGS),
    ratio=st.sampled_from(["l/i", "i/l"]),
    padding=st.sampled_from(["left", "right", "packed"]),
)
def test_outputs_and_gradients_equal_a_float64_double_loop(seed, length, lengths, heads, alpha, reading, ratio, padding):
    generator = torch.Generator().manual_seed(seed)
    segments = segments_of(padding, length, lengths)
    shapes = [(len(lengths), heads[0], length, 4), (len(lengths), heads[1], length, 4), (len(lengths), heads[1], length, 4)]
    exact = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    single = [x.detach().float().requires_grad_() for x in exact]
    double = [x.detach().clone().requires_grad_() for x in exact]
    real = (segments > 0)[:, None, :, None]
    direction = torch.randn(shapes[0], generator=generator, dtype=torch.float64) * real

    wanted = loop_attention(*exact, alpha, segments, reading, ratio)
    wanted_grads = torch.autograd.grad((wanted * direction).sum(), exact)
    mask = SoftMask(segments, bool((segments == 1).all()), alpha, reading, ratio)
    for found, inputs, limit in (
        (reference_attention(*double, alpha, segments, reading, ratio), double, 1e-12),
        (reference_attention(*single, alpha, segments, reading, ratio), single, 1e-5),
        (soft_mask_attention(*single, mask), single, 1e-5),
    ):
        assert found.isfinite().all()
        assert relative(found * real, wanted) < limit
        for grad, wanted_grad in zip(torch.autograd.grad((found * direction).sum(), inputs), wanted_grads, strict=True):
            # a gradient that is exactly 0 (one key: a constant weight) is held by its absolute size
            assert relative(grad, wanted_grad) < limit or (grad - wanted_grad).abs().max() < limit


@pytest.mark.equation("soft_mask")
def test_mask_by_hand_and_padding_does_not_move_it():
    # l = 4, alpha = 0.25: c = min(1/1, 1), 1/2, 1/3, 1/4
    c = torch.tensor([1, 1 / 2, 1 / 3, 1 / 4], dtype=torch.float64)
    by_hand = torch.ones(4, 4, dtype=torch.float64).tril() + c[:, None] * torch.ones(4, 4, dtype=torch.float64).triu(1)
    alone = mask_matrix(0.25, torch.ones(1, 4, dtype=torch.long))[0]
    torch.testing.assert_close(alone, by_hand)
    padded = mask_matrix(0.25, torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 2, 2, 2, 2]]))
    for b, start in ((0, 0), (1, 2), (2, 2)):
        torch.testing.assert_close(padded[b, start : start + 4, start : start + 4], by_hand)
    assert padded[0, :4, 4:].eq(0).all() and padded[1, 2:, :2].eq(0).all() and padded[2, 2:, :2].eq(0).all()
    torch.testing.assert_close(row_coefficients(0.5, torch.ones(1, 4), "i/l"), torch.tensor([[1, 2, 3, 4]]).double() / 8)


@pytest.mark.equation("soft_mask_schedules")
def test_schedules():
    for schedule, middle in (("linear", 0.3), ("quadratic", 0.09), ("inverse_quadratic", 0.51)):
        assert alpha_at(0, 200, schedule) == 0
        assert alpha_at(200, 200, schedule) == alpha_at(300, 200, schedule) == 1
        assert alpha_at(60, 200, schedule) == pytest.approx(middle)
    with pytest.raises(ValueError, match="cubic"):
        alpha_at(1, 2, "cubic")


@pytest.mark.equation("soft_mask_weight")
@pytest.mark.parametrize("padded", [False, True])
def test_weight_is_causal_at_0_and_bidirectional_at_1(padded):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 8, 16), torch.randn(2, 2, 8, 16), torch.randn(2, 2, 8, 16)
    segments = torch.ones(2, 8, dtype=torch.long)
    if padded:
        segments[0, 5:], segments[1, :3] = 0, 0
    valid = segments.bool()
    mask = SoftMask(segments, not padded)
    keys = valid[:, None, None, :]
    eye = torch.eye(8, dtype=torch.bool)
    causal = F.scaled_dot_product_attention(q, k, v, (keys & torch.ones(8, 8, dtype=torch.bool).tril()) | eye, enable_gqa=True)
    both = F.scaled_dot_product_attention(q, k, v, keys | eye, enable_gqa=True)
    rows = valid[:, None, :, None]
    torch.testing.assert_close(soft_mask_attention(q, k, v, mask, alpha=0.0) * rows, causal * rows, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(soft_mask_attention(q, k, v, mask, alpha=1.0) * rows, both * rows, rtol=1e-6, atol=1e-6)
    # the shortcuts are no shortcut in value: just beside the ends the general path gives the same
    torch.testing.assert_close(soft_mask_attention(q, k, v, mask, alpha=1e-9) * rows, causal * rows, rtol=1e-5, atol=1e-5)
    logit = SoftMask(segments, not padded, reading="logit")
    torch.testing.assert_close(soft_mask_attention(q, k, v, logit, alpha=1.0) * rows, both * rows, rtol=1e-6, atol=1e-6)


@pytest.mark.equation("soft_mask_logit")
def test_logit_at_0_is_not_causal():
    """The finding: multiplying a logit by 0 gives weight exp(0) = 1, so at alpha = 0 over a third of the mass lies on future tokens."""
    torch.manual_seed(0)
    L, trials = 10, 400
    q, k = torch.randn(trials, 1, L, 64, dtype=torch.float64), torch.randn(trials, 1, L, 64, dtype=torch.float64)
    v = torch.eye(L, dtype=torch.float64).expand(trials, 1, L, L)  # with V = I the output is the attention itself
    segments = torch.ones(trials, L, dtype=torch.long)
    future = {reading: reference_attention(q, k, v, 0.0, segments, reading)[:, 0].triu(1).sum(-1).mean().item() for reading in READINGS}
    assert future["weight"] == 0
    assert 0.35 < future["logit"] < 0.41


@pytest.mark.equation("soft_mask_weight")
@pytest.mark.parametrize("reading", READINGS)
def test_a_text_alone_padded_or_packed_gets_the_same_vectors(reading):
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, 2, 5, 8, dtype=torch.float64) for _ in range(3))
    other = torch.randn(3, 1, 2, 4, 8, dtype=torch.float64)

    def run(segments, order):
        inputs = [torch.cat([x, o] if order == "first" else [o, x], 2) for x, o in zip((q, k, v), other, strict=True)]
        out = soft_mask_attention(*inputs, SoftMask(torch.tensor([segments]), False, 0.4, reading))
        return out[:, :, :5] if order == "first" else out[:, :, 4:]

    alone = soft_mask_attention(q, k, v, SoftMask(torch.ones(1, 5, dtype=torch.long), True, 0.4, reading))
    for segments, order in (
        ([1] * 5 + [0] * 4, "first"), ([0] * 4 + [1] * 5, "last"), ([1] * 5 + [2] * 4, "first"), ([1] * 4 + [2] * 5, "last")
    ):  # fmt: skip
        torch.testing.assert_close(run(segments, order), alone)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_rows_of_padding_alone_stay_finite_forward_and_backward(reading, alpha):
    inputs = [torch.randn(2, 1, 4, 8, requires_grad=True) for _ in range(3)]
    out = soft_mask_attention(*inputs, SoftMask(torch.tensor([[0, 0, 0, 0], [1, 1, 0, 0]]), False, alpha, reading))
    grads = torch.autograd.grad(out.sum(), inputs)
    assert out.isfinite().all() and all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("reading", READINGS)
def test_bf16_is_no_worse_than_half_as_bad_again_as_stock_attention(reading):
    torch.manual_seed(2)
    q, k, v = (torch.randn(2, 4, 64, 64, dtype=torch.float64) for _ in range(3))
    segments = torch.ones(2, 64, dtype=torch.long)
    low = [x.bfloat16() for x in (q, k, v)]
    stock = relative(F.scaled_dot_product_attention(*low), F.scaled_dot_product_attention(q, k, v))
    ours = relative(soft_mask_attention(*low, SoftMask(segments, True, 0.2, reading)), reference_attention(q, k, v, 0.2, segments, reading))
    assert ours < 1.5 * stock
