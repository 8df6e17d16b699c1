"""Pins: the mask, both readings and every backend equal a float64 double loop, outputs and gradients; the stated endpoints; a text's own
attention does not depend on padding or packing; padding rows never produce NaN; schedules start at 0 and end at 1; `logit` is not causal at
0; bf16 is no worse than half as bad again as stock attention; what the equation does not take is one line."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from conan_lib.attention import (
    SoftMask,
    alpha_at,
    halves_attention,
    mask_matrix,
    reference_attention,
    row_coefficients,
    soft_mask_attention,
)
from conan_lib.attention.flash import Operators, _aten_backward, _aten_forward
from conan_lib.errors import UserError
from tests.soft_mask_oracle import READINGS, batches, loop_attention, relative, varlen_mocks


def mask_of(segments, *rest, **options):
    return SoftMask(segments, bool((segments == 1).all()), *rest, **options)


@pytest.mark.equation("soft_mask_weight")
@pytest.mark.equation("soft_mask_logit")
@pytest.mark.equation("soft_mask_halves")
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("ratio", ["l/i", "i/l", "uniform"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    segments=batches(),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2)]),
    head_dim=st.sampled_from([4, 7]),
    alpha=st.one_of(st.floats(0.01, 0.99), st.sampled_from([0.0, 1.0])),
    scale=st.sampled_from([None, 0.3]),
)
def test_outputs_and_gradients_equal_a_float64_double_loop(seed, segments, heads, head_dim, alpha, reading, ratio, scale):
    generator = torch.Generator().manual_seed(seed)
    batch, length = segments.shape
    shapes = [(batch, n, length, head_dim) for n in (heads[0], heads[1], heads[1])]
    exact = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    real = (segments > 0)[:, None, :, None]
    direction = torch.randn(shapes[0], generator=generator, dtype=torch.float64) * real
    wanted = loop_attention(*exact, alpha, segments, reading, ratio, scale)
    wanted_grads = torch.autograd.grad((wanted * direction).sum(), exact)

    mask = mask_of(segments, alpha, reading, ratio)
    mocks = varlen_mocks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.aten, "_flash_attention_forward", mocks.forward)
        patch.setattr(torch.ops.aten, "_flash_attention_backward", mocks.backward)
        on_cuda = Operators(_aten_forward, _aten_backward)
        for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            inputs = [x.detach().to(dtype).requires_grad_() for x in exact]
            for found in (
                soft_mask_attention(*inputs, mask, scale=scale, backend="reference"),
                soft_mask_attention(*inputs, mask, scale=scale, backend="dense"),
                soft_mask_attention(*inputs, mask, scale=scale, backend="halves"),
                halves_attention(*inputs, mask, scale=scale, operators=on_cuda),
            ):
                assert found.isfinite().all()
                assert relative(found * real, wanted) < limit
                for grad, wanted_grad in zip(torch.autograd.grad((found * direction).sum(), inputs), wanted_grads, strict=True):
                    # a gradient that is exactly 0 (one key: a constant weight) is held by its absolute size
                    assert relative(grad, wanted_grad) < limit or (grad - wanted_grad).abs().max() < limit
    # one attention at the ends, or where no token has a future; two between
    one = mask.kind(alpha) != "soft" or mask.sequences.longest == 1
    past = (mask.kind(alpha) != "bidirectional", (-1, -1))
    assert set(mocks.calls) == ({past} if one else {past, (False, (0, -1))})


@pytest.mark.parametrize(("head_dim", "reading"), [(64, "weight"), (112, "weight"), (112, "logit"), (128, "logit")])
def test_real_head_dims_at_lengths_over_several_blocks_of_the_kernel(head_dim, reading):
    torch.manual_seed(4)
    numbers = torch.ones(2, 700, dtype=torch.long)
    numbers[0, :60], numbers[1, 300:680], numbers[1, 680:] = 0, 2, 0
    mask, real = mask_of(numbers, 0.2, reading), (numbers > 0)[:, None, :, None]
    inputs = [torch.randn(2, n, 700, head_dim, dtype=torch.float64) for n in (4, 1, 1)]
    direction = torch.randn_like(inputs[0]) * real
    results = []
    for backend, dtype in (("reference", torch.float64), ("dense", torch.float32), ("halves", torch.float32)):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        out = soft_mask_attention(*leaves, mask, backend=backend)
        results.append([out * real, *torch.autograd.grad((out * direction).sum(), leaves)])
    for found in results[1:]:
        for x, wanted in zip(found, results[0], strict=True):
            assert relative(x, wanted) < 1e-5


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


def test_what_the_equation_does_not_take_is_one_line():
    ones, q = torch.ones(1, 4, dtype=torch.long), torch.zeros(1, 2, 4, 8)
    attend = lambda alpha, segments, ratio: reference_attention(q, q, q, alpha, segments, ratio=ratio)  # noqa: E731
    for alpha, segments, ratio, told in (
        *((alpha, ones, "l/i", r"alpha: .* is outside 0..1: give one number") for alpha in (-0.5, math.nan, 2, "0.5", None)),
        (0.5, ones, "x/y", "ratio 'x/y' is not one of l/i, i/l, uniform"),
        (0.5, ones[0], "l/i", r"segments must be a tensor \(B, L\) of numbers from 0, 0 for padding, not of shape \(4,\)"),
        (0.5, -ones, "l/i", "segments must be a tensor .* not of -1"),
        (0.5, [[1, 1]], "l/i", "segments must be a tensor .*, not list"),
    ):
        for function in (row_coefficients, mask_matrix, attend):
            with pytest.raises(UserError, match=told):
                function(alpha, segments, ratio)
    with pytest.raises(UserError, match="reading 'logits' is not one of weight, logit"):
        reference_attention(q, q, q, 0.5, ones, "logits")
    for query, key in ((q[0], q), (q, q[:, :, :3]), (q[:, :1], q), (q[..., :4], q), (q, q.repeat(2, 1, 1, 1))):
        with pytest.raises(UserError, match="q, k, v have shapes"):
            reference_attention(query, key, key, 0.5, ones)
    for step, total in ((0, 0), (1, -1), (math.nan, 10), (1, math.nan), (1, math.inf), ("1", 10), (1, None)):
        with pytest.raises(UserError, match="give the step, and the steps of the whole schedule, above 0"):
            alpha_at(step, total)
    with pytest.raises(UserError, match="'cubic' is not one of linear, quadratic, inverse_quadratic"):
        alpha_at(1, 2, "cubic")


@pytest.mark.equation("soft_mask_weight")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("backend", ["dense", "halves", "reference"])
def test_weight_is_causal_at_0_and_bidirectional_at_1(padded, backend):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 8, 16), torch.randn(2, 2, 8, 16), torch.randn(2, 2, 8, 16)
    segments = torch.ones(2, 8, dtype=torch.long)
    if padded:
        segments[0, 5:], segments[1, :3] = 0, 0
    valid = segments.bool()
    mask = SoftMask(segments, not padded, backend=backend)
    keys = valid[:, None, None, :]
    eye = torch.eye(8, dtype=torch.bool)
    causal = F.scaled_dot_product_attention(q, k, v, (keys & torch.ones(8, 8, dtype=torch.bool).tril()) | eye, enable_gqa=True)
    both = F.scaled_dot_product_attention(q, k, v, keys | eye, enable_gqa=True)
    rows = valid[:, None, :, None]
    torch.testing.assert_close(soft_mask_attention(q, k, v, mask, alpha=0.0) * rows, causal * rows, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(soft_mask_attention(q, k, v, mask, alpha=1.0) * rows, both * rows, rtol=1e-6, atol=1e-6)
    # the shortcuts are no shortcut in value: just beside the ends the general path gives the same
    torch.testing.assert_close(soft_mask_attention(q, k, v, mask, alpha=1e-9) * rows, causal * rows, rtol=1e-5, atol=1e-5)
    logit = SoftMask(segments, not padded, reading="logit", backend=backend)
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
@pytest.mark.parametrize("backend", ["dense", "halves"])
def test_a_text_alone_padded_or_packed_gets_the_same_vectors(reading, backend):
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, 2, 5, 8, dtype=torch.float64) for _ in range(3))
    other = torch.randn(3, 1, 2, 4, 8, dtype=torch.float64)

    def run(segments, order):
        inputs = [torch.cat([x, o] if order == "first" else [o, x], 2) for x, o in zip((q, k, v), other, strict=True)]
        out = soft_mask_attention(*inputs, SoftMask(torch.tensor([segments]), False, 0.4, reading, backend=backend))
        return out[:, :, :5] if order == "first" else out[:, :, 4:]

    alone = soft_mask_attention(q, k, v, SoftMask(torch.ones(1, 5, dtype=torch.long), True, 0.4, reading, backend=backend))
    for segments, order in (
        ([1] * 5 + [0] * 4, "first"), ([0] * 4 + [1] * 5, "last"), ([1] * 5 + [2] * 4, "first"), ([1] * 4 + [2] * 5, "last")
    ):  # fmt: skip
        torch.testing.assert_close(run(segments, order), alone)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("backend", ["dense", "halves"])
def test_rows_of_padding_alone_stay_finite_forward_and_backward(reading, alpha, backend):
    for numbers in ([[0, 0, 0, 0], [1, 1, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]):
        inputs = [torch.randn(2, 1, 4, 8, requires_grad=True) for _ in range(3)]
        out = soft_mask_attention(*inputs, SoftMask(torch.tensor(numbers), False, alpha, reading), backend=backend)
        grads = torch.autograd.grad(out.sum(), inputs)
        assert out.isfinite().all() and all(grad.isfinite().all() for grad in grads)


def test_a_hole_in_the_attention_mask_leaves_one_sequence_in_every_backend():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, 6, 4, dtype=torch.float64) for _ in range(3))
    real = [0, 1, 3, 4, 5]
    alone = soft_mask_attention(*(x[:, :, real] for x in (q, k, v)), SoftMask(torch.ones(1, 5), True, 0.3))
    for backend in ("reference", "dense", "halves"):
        out = soft_mask_attention(q, k, v, SoftMask(torch.tensor([[1, 1, 0, 1, 1, 1]]), False, 0.3), backend=backend)
        torch.testing.assert_close(out[:, :, real], alone)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("alpha", [0.02, 0.2, 0.8])
@pytest.mark.parametrize("backend", ["dense", "halves", "on cuda"])
def test_bf16_is_no_worse_than_half_as_bad_again_as_stock_attention(reading, alpha, backend, monkeypatch):
    """ "on cuda" runs our code for CUDA on a mock of its kernels that rounds where they do, and stock attention is that mock too."""
    torch.manual_seed(2)
    low = [torch.randn(2, n, 64, 64).bfloat16().requires_grad_() for n in (4, 2, 2)]
    exact = [x.detach().double().requires_grad_() for x in low]
    direction = torch.randn(2, 4, 64, 64).bfloat16()
    mask, full = (mask_of(torch.ones(2, 64, dtype=torch.long), a, reading) for a in (alpha, 1.0))
    mocks = varlen_mocks(rounded=True)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_forward", mocks.forward)
    monkeypatch.setattr(torch.ops.aten, "_flash_attention_backward", mocks.backward)
    on_cuda = Operators(_aten_forward, _aten_backward)

    def errors(found, wanted):
        grads = zip(torch.autograd.grad(found, low, direction), torch.autograd.grad(wanted, exact, direction.double()), strict=True)
        return [relative(found, wanted), *(relative(*pair) for pair in grads)]

    both = F.scaled_dot_product_attention(*exact, enable_gqa=True)
    wanted = reference_attention(*exact, alpha, mask.segments, reading)
    if backend == "on cuda":
        stock = errors(halves_attention(*low, full, operators=on_cuda), both)
        ours = errors(halves_attention(*low, mask, operators=on_cuda), wanted)
    else:
        stock = errors(F.scaled_dot_product_attention(*low, enable_gqa=True), both)
        ours = errors(soft_mask_attention(*low, mask, backend=backend), wanted)
    assert all(a < 1.5 * b for a, b in zip(ours, stock, strict=True)), [a / b for a, b in zip(ours, stock, strict=True)]


def test_a_mask_is_no_tensor_and_says_so_but_copies_pickles_and_answers_hasattr():
    mask = SoftMask(torch.ones(1, 4), True, 0.3)
    for use in (lambda: torch.ones(4) + mask, lambda: mask.size(), lambda: mask[:, 0], lambda: mask.dtype):
        with pytest.raises(UserError, match="this model computes with its attention mask itself"):
            use()
    assert not hasattr(mask, "to") and getattr(mask, "device", None) is None
    for other in (copy.copy(mask), copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert other.alpha == 0.3 and other.sequences.longest == 4
