"""What tests of soft-mask attention share: the equations as a float64 double loop, batches of any shape, CUDA's kernels in plain torch."""

import math
from types import SimpleNamespace

import torch
from hypothesis import strategies as st
from torch import Tensor

READINGS = ("weight", "logit")


def loop_attention(q, k, v, alpha, segments, reading, ratio, scale=None):
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
                c = min(alpha * {"l/i": l / i, "i/l": i / l, "uniform": 1.0}[ratio], 1.0)
                weights = []
                for j in own:
                    s, m = q[b, h, t] @ k[b, h // group, j] * (scale or 1 / math.sqrt(D)), 1.0 if j <= t else c
                    weights.append(m * s.exp() if reading == "weight" else (s * m).exp())
                total = sum(weights)
                out[b][h][t] = sum(w / total * v[b, h // group, j] for w, j in zip(weights, own, strict=True))
    return torch.stack([torch.stack([torch.stack(rows) for rows in heads]) for heads in out])


@st.composite
def batches(draw, longest: int = 7, rows: int = 2) -> Tensor:
    """(B, L): each row padded left, right, on both sides or not at all, and holding one sequence or two packed ones."""
    length, batch = draw(st.integers(1, longest)), []
    for _ in range(draw(st.integers(1, rows))):
        left = draw(st.integers(0, length - 1))
        first = draw(st.integers(1, length - left))
        second = draw(st.integers(0, length - left - first))
        batch.append([0] * left + [1] * first + [2] * second + [0] * (length - left - first - second))
    return torch.tensor(batch)


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-12)).item()


def varlen_mocks(rounded: bool = False) -> SimpleNamespace:
    """torch.ops.aten._flash_attention_forward and _backward in plain float64 torch, for sequences end to end, with the CUDA kernels' rules.

    Bounds are int32 and cover the tokens; windows count from the bottom right corner and -1 is open; a row with no key gives 0 and a
    log-sum-exp of +inf; the log-sum-exp is (H, T), float32 for half precision. `calls` lists (causal, window) of each forward call.
    rounded: weights and their gradients are rounded to the inputs' dtype before they are multiplied, as the kernels do.
    """
    calls = []

    def blocks(q, k, v, cu_q, cu_k, max_q, max_k, causal, left, right, scale):
        assert (
            cu_q.dtype == cu_k.dtype == torch.int32 and q.dtype == k.dtype == v.dtype and q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
        )
        assert (cu_q[-1], cu_k[-1]) == (len(q), len(k)) and (cu_q.diff().max(), cu_k.diff().max()) == (max_q, max_k)
        group = q.shape[1] // k.shape[1]
        for n in range(len(cu_q) - 1):
            rows, keys = slice(cu_q[n], cu_q[n + 1]), slice(cu_k[n], cu_k[n + 1])
            a, b, c = (
                x.double().transpose(0, 1) for x in (q[rows], k[keys].repeat_interleave(group, 1), v[keys].repeat_interleave(group, 1))
            )
            i, j = torch.arange(a.shape[1])[:, None] + b.shape[1] - a.shape[1], torch.arange(b.shape[1])
            seen = torch.ones(a.shape[1], b.shape[1], dtype=torch.bool)
            seen &= (left < 0) | (j >= i - left)
            seen &= (j <= i) if causal else (right < 0) | (j <= i + right)
            yield rows, keys, a, b, c, (a @ b.transpose(1, 2) * scale).masked_fill(~seen, -torch.inf), group

    def near(x, dtype):
        return x.to(dtype).double() if rounded else x

    def forward(q, k, v, cu_q, cu_k, max_q, max_k, dropout, causal, debug, *, scale, window_size_left=-1, window_size_right=-1):
        assert dropout == 0 and not debug
        calls.append((causal, (window_size_left, window_size_right)))
        out, lse = torch.empty_like(q), torch.empty(q.shape[1], len(q), dtype=torch.promote_types(q.dtype, torch.float32))
        for rows, _, _, _, c, s, _ in blocks(q, k, v, cu_q, cu_k, max_q, max_k, causal, window_size_left, window_size_right, scale):
            total = s.logsumexp(-1)
            total = total.masked_fill(total == -torch.inf, torch.inf)
            top = s.amax(-1, keepdim=True).clamp(min=-1e300)
            weights = (s - top).exp()
            mixed = near(weights, q.dtype) @ c / weights.sum(-1, keepdim=True).clamp(min=1e-300)
            out[rows], lse[:, rows] = mixed.transpose(0, 1).to(q.dtype), total.to(lse.dtype)
        return out, lse, torch.zeros(2, dtype=torch.uint64), torch.empty(0), torch.empty(0)

    def backward(
        dout, q, k, v, out, lse, cu_q, cu_k, max_q, max_k, dropout, causal, rng, unused, *, scale, window_size_left=-1, window_size_right=-1
    ):
        assert dropout == 0 and lse.is_contiguous() and lse.shape == (q.shape[1], len(q)) and dout.is_contiguous()
        dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
        for rows, keys, a, b, c, s, group in blocks(q, k, v, cu_q, cu_k, max_q, max_k, causal, window_size_left, window_size_right, scale):
            d, o = dout[rows].double().transpose(0, 1), out[rows].double().transpose(0, 1)
            weights = (s - lse[:, rows].double()[..., None]).exp()
            ds = near(weights * (d @ c.transpose(1, 2) - (d * o).sum(-1, keepdim=True)), q.dtype) * scale
            dq[rows] = (ds @ b).transpose(0, 1).to(q.dtype)
            for grad, part in ((dk, ds.transpose(1, 2) @ a), (dv, near(weights, q.dtype).transpose(1, 2) @ d)):
                grad[keys] = part.unflatten(0, (-1, group)).sum(1).transpose(0, 1).to(q.dtype)
        return dq, dk, dv

    return SimpleNamespace(forward=forward, backward=backward, calls=calls)
