"""Pins: which backend is taken when; what each refuses, in one line; dropout and autocast behave as with stock attention; values of
another head dim (MLA) are served or refused; the halves never allocate an L x L tensor and their memory is linear in L; through the
flash-attn package the same comes out as through torch's own kernels."""

import subprocess
import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from conan_lib.attention import SoftMask, halves_attention, pick_backend, reference_attention, soft_mask_attention
from conan_lib.attention.flash import FUTURE, Operators, Spans, _aten_backward, _aten_forward, cuda_operators
from conan_lib.errors import UserError
from tests.soft_mask_oracle import READINGS, relative, varlen_mocks


def inputs(length=6, heads=(4, 2), dim=8, batch=2, **options):
    torch.manual_seed(0)
    return [torch.randn(batch, n, length, dim, **options) for n in (heads[0], heads[1], heads[1])]


def mask_of(length=6, batch=2, padding=0, **options):
    numbers = torch.ones(batch, length, dtype=torch.long)
    numbers[0, length - padding :] = 0
    return SoftMask(numbers, not padding, **options)


def test_auto_picks_by_device_length_dtype_and_end(monkeypatch):
    short, long = torch.empty(1, 1, 4096, 8, device="meta"), torch.empty(1, 1, 4097, 8, device="meta")
    soft, padded = mask_of(alpha=0.3), mask_of(padding=1)

    class On:
        """What `pick_backend` sees of a query on a device that this machine may lack."""

        def __init__(self, like, device, dtype=torch.float32):
            self.shape, self.device, self.dtype = like.shape, torch.device(device), dtype

    assert [pick_backend(On(q, "cpu"), soft) for q in (short, long)] == ["dense", "halves"]
    for reading in READINGS:
        assert pick_backend(On(long, "cpu"), mask_of(alpha=0.3, reading=reading)) == "halves"
    # a stock end needs no mask unless rows are padded
    assert pick_backend(On(long, "cpu"), mask_of()) == pick_backend(On(long, "cpu"), mask_of(), alpha=0.0) == "dense"
    assert pick_backend(On(long, "cpu"), padded) == pick_backend(On(long, "cpu"), padded, alpha=0.0) == "halves"
    assert pick_backend(On(long, "cpu"), soft, dropout=0.1) == "dense"
    assert pick_backend(On(long, "mps"), soft) == "dense"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.version, "hip", None)
    assert pick_backend(On(short, "cuda", torch.bfloat16), soft) == "halves"
    assert pick_backend(On(short, "cuda", torch.bfloat16), mask_of()) == "dense"
    assert pick_backend(On(short, "cuda"), soft) == "dense"
    assert pick_backend(On(short[..., :7], "cuda", torch.bfloat16), soft) == "dense"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert pick_backend(On(short, "cuda", torch.bfloat16), soft) == "dense"


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_logit_a_few_sequences_at_a_time_equals_the_equation(monkeypatch, together, padding):
    q, k, v = (x.requires_grad_() for x in inputs(batch=5, dtype=torch.float64))
    monkeypatch.setattr("conan_lib.attention.backends.GROUP_BYTES", together * 4 * 6 * 6 * 8)
    mask = mask_of(batch=5, padding=padding, alpha=0.3, reading="logit")
    weights = (mask.segments > 0)[:, None, :, None] * torch.randn(5, 4, 6, 8, dtype=torch.float64)
    (soft_mask_attention(q, k, v, mask, backend="dense") * weights).sum().backward()
    found = [x.grad for x in (q, k, v)]
    expected = torch.autograd.grad((reference_attention(q, k, v, 0.3, mask.segments, "logit") * weights).sum(), (q, k, v))
    assert all(relative(a, b) < 1e-12 for a, b in zip(found, expected, strict=True))


def test_the_mask_names_a_backend_and_the_call_overrides_it(monkeypatch):
    from conan_lib.attention import backends

    taken = []
    for name in ("dense_attention", "halves_attention"):
        original = getattr(backends, name)
        monkeypatch.setattr(backends, name, lambda *a, name=name, original=original: taken.append(name) or original(*a))
    for mask, options in (
        (mask_of(alpha=0.3), {}),
        (mask_of(alpha=0.3, backend="halves"), {}),
        (mask_of(alpha=0.3), {"backend": "halves"}),
    ):
        soft_mask_attention(*inputs(), mask, **options)
    assert taken == ["dense_attention", "halves_attention", "halves_attention"]


def test_refusals():
    for backend in ("halves", "reference"):
        with pytest.raises(UserError, match=f"backend {backend} has no attention dropout"):
            soft_mask_attention(*inputs(), mask_of(alpha=0.3), dropout=0.1, backend=backend)
    with pytest.raises(UserError, match="'fast' is not one of auto, dense, halves"):
        soft_mask_attention(*inputs(), mask_of(alpha=0.3), backend="fast")


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("value_dim", [4, 12])
def test_values_of_another_head_dim_equal_the_equation_or_are_refused(monkeypatch, reading, padding, value_dim):
    monkeypatch.setattr("conan_lib.attention.backends.CPU_DENSE_UP_TO", 5)  # auto would take the halves
    mask = mask_of(padding=padding, alpha=0.3, reading=reading)
    exact = [x.requires_grad_() for x in (*inputs(dtype=torch.float64)[:2], torch.randn(2, 2, 6, value_dim, dtype=torch.float64))]
    direction = (mask.segments > 0)[:, None, :, None] * torch.randn(2, 4, 6, value_dim, dtype=torch.float64)
    wanted = reference_attention(*exact, 0.3, mask.segments, reading)
    wanted = [wanted * (direction != 0), *torch.autograd.grad((wanted * direction).sum(), exact)]
    for dtype, limit in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        leaves = [x.detach().to(dtype).requires_grad_() for x in exact]
        out = soft_mask_attention(*leaves, mask)
        found = [out * (direction != 0), *torch.autograd.grad((out * direction).sum(), leaves)]
        assert all(a.shape == b.shape and relative(a, b) < limit for a, b in zip(found, wanted, strict=True))
    with pytest.raises(UserError, match=f"halves needs values of the queries' head dim 8, not {value_dim}: take backend auto or dense"):
        soft_mask_attention(*exact, mask, backend="halves")


@pytest.mark.parametrize("reading", READINGS)
def test_dropout_drops_weights_and_keeps_their_mean(reading):
    q, k, v = inputs(length=16, batch=1)
    mask = mask_of(16, 1, alpha=0.3, reading=reading)
    torch.manual_seed(1)
    drawn = torch.stack([soft_mask_attention(q, k, v, mask, dropout=0.2) for _ in range(600)])
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3
    assert relative(drawn.mean(0), soft_mask_attention(q, k, v, mask).double()) < 0.05


@pytest.mark.parametrize(("backend", "reading"), [("dense", "weight"), ("halves", "weight"), ("dense", "logit")])
def test_autocast_casts_as_it_does_for_stock_attention(backend, reading):
    q, k, v = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        # q and k of a model with norms on them (Qwen3) stay float32 under autocast
        out = soft_mask_attention(q.requires_grad_(), k, v.bfloat16(), mask_of(alpha=0.3, reading=reading), backend=backend)
        assert out.dtype == F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)).dtype == torch.bfloat16
    assert relative(out, reference_attention(q, k, v, 0.3, torch.ones(2, 6), reading).double()) < 1e-2
    assert torch.autograd.grad(out.sum(), q)[0].dtype == torch.float32


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plans_and_masks_are_made_once_for_all_layers(monkeypatch, reading, dtype):
    from conan_lib.attention import flash, softmask

    made = []
    for owner, name in ((softmask.Sequences, "__init__"), (flash._Future, "__init__"), (softmask.SoftMask, "_terms")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda self, *a, original=original, owner=owner: made.append(owner) or original(self, *a))
    mask = mask_of(padding=2, alpha=0.3, reading=reading)
    for _ in range(3):
        soft_mask_attention(*inputs(dtype=dtype), mask, backend="halves")
    assert made == [softmask.Sequences, flash._Future]
    for _ in range(3):
        soft_mask_attention(*inputs(dtype=dtype), mask, backend="dense")
    assert made.count(softmask.SoftMask) == 1


class _Largest(TorchDispatchMode):
    """The largest tensor, in elements, that any operator returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for x in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return found


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("padding", [0, 9])
def test_the_halves_never_make_a_tensor_of_l_times_l(reading, padding):
    length, dim = 512, 8
    for alpha in (0.0, 0.3, 1.0):
        q, k, v = inputs(length, (2, 1), dim, requires_grad=True)
        with _Largest() as largest:
            mask = mask_of(length, padding=padding, alpha=alpha, reading=reading)
            soft_mask_attention(q, k, v, mask, backend="halves").sum().backward()
        assert largest.elements <= q.numel() < length * length
    with _Largest() as largest:  # the probe does see one
        soft_mask_attention(q, k, v, mask_of(length, alpha=0.3, reading=reading), backend="dense")
    assert largest.elements >= length * length


PEAK = """
import resource, torch
from conan_lib.attention import SoftMask, soft_mask_attention
def peak(length, reading):
    q, k, v = (torch.randn(1, 1, length, 16, requires_grad=True) for _ in range(3))
    soft_mask_attention(q, k, v, SoftMask(torch.ones(1, length, dtype=torch.long), True, 0.3, reading)).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
start = peak(64, "weight")
print(max(peak(length, reading) for length in (8192, 16384) for reading in ("weight", "logit")) - start)
"""


@pytest.mark.slow
def test_peak_memory_at_8192_and_16384_tokens_is_far_below_one_mask():
    """One float32 L x L tensor is 256 MiB at 8,192 tokens and 1,024 at 16,384; "auto" takes the halves there."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100


@pytest.mark.parametrize("reading", READINGS)
def test_the_flash_attn_package_serves_where_it_is_installed(reading, monkeypatch):
    mocks, calls = varlen_mocks(), []

    def forward(q, k, v, cu_q, cu_k, max_q, max_k, dropout, scale, causal, window_size_left=-1, window_size_right=-1, softcap=0.0, **rest):
        calls.append("forward")
        window = {"window_size_left": window_size_left, "window_size_right": window_size_right}
        return mocks.forward(q, k, v, cu_q, cu_k, max_q, max_k, dropout, causal, False, scale=scale, **window)[:4]

    def backward(
        dout, q, k, v, out, lse, dq, dk, dv, cu_q, cu_k, max_q, max_k, dropout, scale, causal, window_size_left, window_size_right,
        softcap, alibi_slopes, deterministic, rng_state=None,
    ):  # fmt: skip
        calls.append("backward")
        assert softcap == 0 and alibi_slopes is None and all(x.is_contiguous() for x in (dq, dk, dv))
        window = {"window_size_left": window_size_left, "window_size_right": window_size_right}
        found = mocks.backward(dout, q, k, v, out, lse, cu_q, cu_k, max_q, max_k, dropout, causal, None, None, scale=scale, **window)
        for grad, part in zip((dq, dk, dv), found, strict=True):
            grad.copy_(part)

    interface = ModuleType("flash_attn.flash_attn_interface")
    interface._flash_attn_varlen_forward, interface._flash_attn_varlen_backward = forward, backward
    package = ModuleType("flash_attn")
    package.flash_attn_interface = interface
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    monkeypatch.setitem(sys.modules, "flash_attn.flash_attn_interface", interface)
    mask, results = mask_of(padding=2, alpha=0.3, reading=reading), []
    for operators in (cuda_operators.__wrapped__(), None):
        leaves = inputs(dtype=torch.float64, requires_grad=True)
        out = halves_attention(*leaves, mask, operators=operators)
        results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    assert calls == ["forward"] * 2 + ["backward"] * 2
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_flash_attn_package_that_does_not_load_is_named_and_one_that_is_absent_is_not_missed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    assert cuda_operators.__wrapped__() == Operators(_aten_forward, _aten_backward)
    monkeypatch.delitem(sys.modules, "flash_attn")
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn" / "__init__.py").touch()
    (tmp_path / "flash_attn" / "flash_attn_interface.py").write_text("import a_library_built_for_another_torch\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="flash-attn is installed but does not load"):
        cuda_operators.__wrapped__()
    for name in [name for name in sys.modules if name.split(".")[0] == "flash_attn"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("head_dim", [64, 112, 128])
@pytest.mark.parametrize("rule", [{"causal": True}, {}, {"window": FUTURE}], ids=["past", "all", "future"])
def test_torchs_cuda_kernels_take_our_arguments(head_dim, rule):
    """On fake tensors, so on any machine: the names, types and order that this torch's kernels ask for, and the shapes they give."""
    with FakeTensorMode():
        q, k, v = (torch.empty(300, n, head_dim, device="cuda", dtype=torch.bfloat16) for n in (8, 2, 2))
        bounds = torch.empty(4, device="cuda", dtype=torch.int32)
        spans = Spans(bounds, bounds, 99 if rule else 100, 100, **rule)
        out, lse = _aten_forward(q, k, v, spans, 0.1)
        assert (out.shape, out.dtype, lse.shape, lse.dtype) == (q.shape, q.dtype, (8, 300), torch.float32)
        grads = _aten_backward(out, q, k, v, out, lse, spans, 0.1)
    assert [(x.shape, x.dtype) for x in grads] == [(x.shape, x.dtype) for x in (q, k, v)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: flash attention has no other kernels with windows")
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("head_dim", [64, 112, 128])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("packed", [False, True])
def test_on_a_gpu_the_halves_equal_the_reference(reading, head_dim, alpha, packed):
    torch.manual_seed(3)
    numbers = torch.ones(3, 700, dtype=torch.long, device="cuda")
    if packed:  # left, right and both sides padded, two sequences in a row, a sequence of one token
        numbers[0, :60], numbers[1, 300:680], numbers[1, 680:], numbers[2, :1], numbers[2, 1:] = 0, 2, 0, 1, 2
    mask, real = SoftMask(numbers, not packed, alpha, reading), (numbers > 0)[:, None, :, None]
    exact = [torch.randn(3, n, 700, head_dim, dtype=torch.float64, device="cuda", requires_grad=True) for n in (8, 2, 2)]
    low = [x.detach().bfloat16().requires_grad_() for x in exact]
    direction = torch.randn_like(exact[0]) * real

    def errors(found, wanted):
        grads = zip(torch.autograd.grad(found, low, direction.bfloat16()), torch.autograd.grad(wanted, exact, direction), strict=True)
        return [relative(found * real, wanted * real), *(relative(*pair) for pair in grads)]

    ours = errors(soft_mask_attention(*low, mask, backend="halves"), soft_mask_attention(*exact, mask, backend="reference"))
    stock = errors(
        F.scaled_dot_product_attention(*low, enable_gqa=True),
        reference_attention(*exact, 1.0, torch.ones_like(numbers)),
    )
    assert all(a < 1.5 * b for a, b in zip(ours, stock, strict=True)), (ours, stock)
