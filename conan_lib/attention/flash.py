"""The soft mask as two stock flash attentions, merged by log-sum-exp: exact, memory linear in L, forward and backward.

Row i sees its past with weight 1 and its future with a weight that depends on i alone, c_i. So with q_i' = q_i and offset_i = log c_i
(`weight`), or q_i' = c_i q_i and offset_i = 0 (`logit`):

    past    (O_p, L_p) = attention of q over j <= i
    future  (O_f, L_f) = attention of q' over j > i, then L_f += offset
    L = logaddexp(L_p, L_f),  O = exp(L_p - L) O_p + exp(L_f - L) O_f

Given the L and O of the whole, each half's stock backward sees the true weights exp(S - L) (future: L - offset, which brings the factor c_i
in), and the halves' gradients add up; dq = dq_p + c dq_f in `logit`.

A batch goes through without padding, as T tokens of N sequences end to end. j > i is a window: without the last row of a sequence, which
has no future, bottom-right alignment sets row i beside key i + 1, and window (0, -1) starts there. So keys and values are not copied,
nothing is flipped and no row is empty.

Shapes: T tokens, N sequences, H query heads, G key/value heads, D head dim; q (T, H, D); k, v (T, G, D); log-sum-exp (H, T).
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from conan_lib.attention.softmask import SoftMask
from conan_lib.errors import UserError

EVERYTHING, FUTURE = (-1, -1), (0, -1)


class Spans(NamedTuple):
    """Which rows meet which keys: the bounds of the sequences (N + 1, int32), the longest, and the rule within a sequence."""

    rows: Tensor
    keys: Tensor
    longest_row: int
    longest_key: int
    causal: bool = False
    window: tuple[int, int] = EVERYTHING


class Operators(NamedTuple):
    """Flash attention over sequences laid end to end."""

    forward: Callable[[Tensor, Tensor, Tensor, Spans, float], tuple[Tensor, Tensor]]
    """(q, k, v, spans, scale) -> output (T, H, D), log-sum-exp (H, T)."""
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]
    """(dout, q, k, v, out, log-sum-exp, spans, scale) -> dq, dk, dv."""


def halves_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: SoftMask,
    alpha: float | None = None,
    scale: float | None = None,
    operators: Operators | None = None,
) -> Tensor:
    """Soft-mask attention by two flash attentions -> (B, H, L, D); by one where the mask is a stock one. Rows of padding are 0.

    Equation `soft_mask_halves`, see the module.

    Args:
        q: (B, H, L, D). k, v: (B, G, L, D); G divides H. On CUDA float16 or bfloat16; on the CPU these are computed in float32, which its
            kernels are quicker in.
        alpha: overrides the mask's own.
        scale: of the logits, D^-0.5 unless given.
        operators: those of the device unless given.

    Raises:
        UserError: values have another head dim than queries, which flash attention does not take.
    """
    if v.shape[-1] != q.shape[-1]:
        raise UserError(
            f"soft_mask: backend halves needs values of the queries' head dim {q.shape[-1]}, not {v.shape[-1]}: take backend auto or dense"
        )
    if operators is None:
        if q.device.type != "cpu":
            operators = cuda_operators()
        elif q.dtype in (torch.float16, torch.bfloat16):
            return halves_attention(q.float(), k.float(), v.float(), mask, alpha, scale).to(q.dtype)
        else:
            operators = cpu_operators()
    B, H, L, D = q.shape
    own = mask.sequences
    if not own.longest:
        return 0.0 * (q + k.sum() + v.sum())
    tokens = None if len(own.tokens) == B * L else own.tokens
    q, k, v = (x.transpose(1, 2).reshape(B * L, -1, D) for x in (q, k, v))
    if tokens is not None:
        q, k, v = (x.index_select(0, tokens) for x in (q, k, v))
    out = _Halves.apply(q, k, v, mask, mask.alpha if alpha is None else alpha, D**-0.5 if scale is None else scale, operators)
    if tokens is not None:
        out = out.new_zeros(B * L, H, D).index_copy(0, tokens, out)
    return out.view(B, L, H, D).transpose(1, 2)


class _Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, mask, alpha, scale, operators):
        kind, own = mask.kind(alpha), mask.sequences
        ctx.scale, ctx.operators = scale, operators
        ctx.spans = Spans(own.bounds, own.bounds, own.longest, own.longest, causal=kind != "bidirectional")
        ctx.future = None
        out, total = operators.forward(q, k, v, ctx.spans, scale)
        if kind == "soft" and own.longest > 1:
            ctx.future = future = mask.keep("future", (alpha, total.dtype), lambda: _Future(mask, alpha, total.dtype))
            rows = future.rows
            out_f, lse = operators.forward(future.query(q), k, v, future.spans, scale)
            lse, past = lse + future.offset, total[:, rows]
            total[:, rows] = both = torch.logaddexp(past, lse)
            share = (lse - both).exp().t()[..., None]  # float32: rounded to bfloat16 it would show in the output
            out[rows] = torch.addcmul(out_f * share, out[rows], 1 - share).to(out.dtype)
        ctx.save_for_backward(q, k, v, out, total)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        q, k, v, out, total = ctx.saved_tensors
        dout = dout.contiguous()
        dq, dk, dv = ctx.operators.backward(dout, q, k, v, out, total, ctx.spans, ctx.scale)
        if future := ctx.future:
            rows = future.rows
            dq_f, dk_f, dv_f = ctx.operators.backward(
                dout[rows], future.query(q), k, v, out[rows], total[:, rows] - future.offset, future.spans, ctx.scale
            )
            dq[rows] += dq_f if future.factor is None else dq_f * future.factor
            dk, dv = dk.add_(dk_f), dv.add_(dv_f)
        return dq, dk, dv, None, None, None, None


class _Future:
    """What the second attention needs beside q, k and v: made once for all layers. F rows, each sequence's last left out.

    Attributes:
        rows: their places among the T tokens; a slice, hence no copies, where there is one sequence.
        factor: (F, 1, 1) what the query is multiplied by, or None. offset: (F,) what is added to the log-sum-exp.
    """

    def __init__(self, mask: SoftMask, alpha: float, dtype: torch.dtype):
        own = mask.sequences
        count = len(own.bounds) - 1
        self.rows = slice(0, own.longest - 1) if count == 1 else (own.row < own.length).nonzero()[:, 0]
        c = mask.coefficients(alpha)[self.rows]
        self.factor = None if mask.reading == "weight" else c[:, None, None].to(dtype)
        self.offset = (c.log() if mask.reading == "weight" else torch.zeros_like(c)).to(dtype)
        bounds = own.bounds - torch.arange(count + 1, device=c.device, dtype=torch.int32)
        self.spans = Spans(bounds, own.bounds, own.longest - 1, own.longest, window=FUTURE)

    def query(self, q: Tensor) -> Tensor:
        return q[self.rows] if self.factor is None else (q[self.rows] * self.factor).to(q.dtype)


@cache
def cuda_operators() -> Operators:
    """Those of the flash-attn package where it is installed, else torch's own.

    Raises:
        UserError: the package is installed but does not load.
    """
    try:
        package = import_module("flash_attn.flash_attn_interface")
    except ImportError as error:
        if error.name in ("flash_attn", "flash_attn.flash_attn_interface"):  # not installed, or a version without these functions
            return Operators(_aten_forward, _aten_backward)
        raise UserError(f"flash-attn is installed but does not load ({error}): reinstall it for this torch, or uninstall it") from error
    return Operators(partial(_package_forward, package), partial(_package_backward, package))


def _aten_forward(q, k, v, spans, scale):
    left, right = spans.window
    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        q, k, v, spans.rows, spans.keys, spans.longest_row, spans.longest_key, 0.0, spans.causal, False,
        scale=scale, window_size_left=left, window_size_right=right,
    )  # fmt: skip
    return out, lse


def _aten_backward(dout, q, k, v, out, lse, spans, scale):
    left, right = spans.window
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=q.device), torch.empty(0, device=q.device)
    return torch.ops.aten._flash_attention_backward(
        dout, q, k, v, out, lse.contiguous(), spans.rows, spans.keys, spans.longest_row, spans.longest_key, 0.0, spans.causal, *no_dropout,
        scale=scale, window_size_left=left, window_size_right=right,
    )  # fmt: skip


def _package_forward(package, q, k, v, spans, scale):
    left, right = spans.window
    out, lse, *_ = package._flash_attn_varlen_forward(
        q, k, v, spans.rows, spans.keys, spans.longest_row, spans.longest_key, 0.0, scale, spans.causal,
        window_size_left=left, window_size_right=right,
    )  # fmt: skip
    return out, lse


def _package_backward(package, dout, q, k, v, out, lse, spans, scale):
    left, right = spans.window
    grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)]
    package._flash_attn_varlen_backward(
        dout, q, k, v, out, lse.contiguous(), *grads, spans.rows, spans.keys, spans.longest_row, spans.longest_key, 0.0, scale,
        spans.causal, left, right, 0.0, None, False,
    )  # fmt: skip
    return tuple(grads)


def cpu_operators() -> Operators:
    """torch's CPU flash attention. It knows no windows: the future is causal when rows and keys run backwards, and they are equally many
    when the first key is left out, which is no row's future."""
    return Operators(_cpu_forward, _cpu_backward)


def _cpu_forward(q, k, v, spans, scale):
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:2])
    turn, causal = _direction(spans)
    for rows, keys in _runs(spans):
        inputs = turn(rows(q)), turn(keys(k)), turn(keys(v))
        o, s = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*_swap(*inputs), 0.0, causal, scale=scale)
        for x, part in zip((out, lse), _swap(o, s), strict=True):
            rows(x).copy_(turn(part))
    return out, lse.t()


def _cpu_backward(dout, q, k, v, out, lse, spans, scale):
    grads = [torch.zeros_like(x) for x in (q, k, v)]
    turn, causal = _direction(spans)
    for rows, keys in _runs(spans):
        inputs = turn(rows(dout)), turn(rows(q)), turn(keys(k)), turn(keys(v)), turn(rows(out)), turn(rows(lse.t()))
        *inputs, s = _swap(*inputs)
        found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(*inputs, s.contiguous(), 0.0, causal, scale=scale)
        for x, part, side in zip(grads, _swap(*found), (rows, keys, keys), strict=True):
            side(x).copy_(turn(part))
    return tuple(grads)


def _direction(spans: Spans) -> tuple[Callable[[Tensor], Tensor], bool]:
    """How sequences (n, l, ...) are laid before the CPU kernel, and whether it is causal then."""
    backwards = spans.window == FUTURE
    return (lambda x: x.flip(1)) if backwards else (lambda x: x), backwards or spans.causal


def _runs(spans: Spans) -> Iterator[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]:
    """For n neighbouring sequences of equal length, which one call of the kernel takes: views of their rows and keys, (n, l, ...)."""
    lengths = zip(spans.rows.diff().tolist(), spans.keys.diff().tolist(), strict=True)
    row, key, first = 0, 0, int(spans.window == FUTURE)
    for (of_rows, of_keys), run in groupby(lengths):
        n = len(list(run))
        if of_rows:
            yield partial(_sequences, start=row, n=n, length=of_rows), partial(_sequences, start=key, n=n, length=of_keys, first=first)
        row, key = row + n * of_rows, key + n * of_keys


def _sequences(x: Tensor, start: int, n: int, length: int, first: int = 0) -> Tensor:
    return x[start : start + n * length].unflatten(0, (n, length))[:, first:]


def _swap(*tensors: Tensor) -> list[Tensor]:
    """(n, l, H, ...) <-> (n, H, l, ...)."""
    return [x.transpose(1, 2) for x in tensors]
