"""Soft-mask attention by whichever backend suits: all compute the same, the equation of `reference_attention`.

| backend | memory | what it is |
|---|---|---|
| dense | L x L | stock SDPA, with the additive mask log M (`weight`); plain maths (`logit`: no stock kernel scales logits) |
| halves | L | two flash attentions merged by log-sum-exp (`conan_lib.attention.flash`) |
| reference | L x L | the equation as printed |
"""

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from conan_lib.attention.flash import halves_attention
from conan_lib.attention.softmask import Backend, SoftMask, reference_attention
from conan_lib.errors import UserError

CPU_DENSE_UP_TO = 4096
"""Tokens a row: above, the mask alone costs 64 MiB a row and more."""
GROUP_BYTES = 8 * 2**20
"""Logits made at once by the `logit` reading: few enough to stay near the cores, enough to be worth a call."""


def pick_backend(q: Tensor, mask: SoftMask, alpha: float | None = None, dropout: float = 0.0, v: Tensor | None = None) -> Backend:
    """The backend that "auto" takes, by device, dtype, shapes, reading and end of the transition. q is (B, H, L, D), v (B, G, L, D or E).

    Stock causal and bidirectional attention without padding need no mask, so they are dense (linear in memory) everywhere. On the CPU the
    halves are for rows longer than `CPU_DENSE_UP_TO`. On CUDA they are for what flash attention takes: float16 and bfloat16, head dims that
    are multiples of 8 up to 256, compute capability 8.0 and up. Values of another head dim than the queries' (MLA) are dense everywhere.
    """
    alpha = mask.alpha if alpha is None else alpha
    if dropout > 0 or (mask.full and mask.kind(alpha) != "soft") or (v is not None and v.shape[-1] != q.shape[-1]):
        return "dense"
    if q.device.type == "cpu":
        return "halves" if q.shape[2] > CPU_DENSE_UP_TO else "dense"
    return "halves" if q.device.type == "cuda" and _flash_takes(q) else "dense"


def _flash_takes(q: Tensor) -> bool:
    fits = q.dtype in (torch.float16, torch.bfloat16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
    return fits and torch.version.hip is None and torch.cuda.get_device_capability(q.device) >= (8, 0)


def soft_mask_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: SoftMask,
    alpha: float | None = None,
    scale: float | None = None,
    dropout: float = 0.0,
    backend: Backend = "auto",
) -> Tensor:
    """Soft-mask attention -> (B, H, L, E); rows of padding are finite and mean nothing. Under autocast q, k and v are cast as for SDPA.

    Args:
        q: (B, H, L, D). k: (B, G, L, D). v: (B, G, L, E); G divides H, E is D but for MLA.
        alpha: overrides the mask's own.
        scale: of the logits, D^-0.5 unless given.
        dropout: of the attention weights; "dense" alone has it.
        backend: "auto" takes the mask's own and, where that is "auto" too, `pick_backend`'s.

    Raises:
        UserError: the backend does not exist or cannot do what is asked.
    """
    device = q.device.type
    if torch.is_autocast_enabled(device):
        q, k, v = (x.to(torch.get_autocast_dtype(device)) for x in (q, k, v))
    alpha = mask.alpha if alpha is None else alpha
    backend = mask.backend if backend == "auto" else backend
    backend = pick_backend(q, mask, alpha, dropout, v) if backend == "auto" else backend
    if dropout > 0 and backend != "dense":
        raise UserError(f"soft_mask: backend {backend} has no attention dropout: set config.attention_dropout to 0, or take backend dense")
    match backend:
        case "dense":
            return dense_attention(q, k, v, mask, alpha, scale, dropout)
        case "halves":
            if device == "cuda" and not _flash_takes(q):
                raise UserError(
                    f"soft_mask: backend halves on CUDA needs float16 or bfloat16, head dims that are multiples of 8 up to 256 and compute "
                    f"capability 8.0, not {q.dtype} with head dim {q.shape[-1]} on this device: take backend dense"
                )
            return halves_attention(q, k, v, mask, alpha, scale)
        case "reference":
            return reference_attention(q, k, v, alpha, mask.segments, mask.reading, mask.ratio, scale)
    raise UserError(f"soft_mask: backend {backend!r} is not one of {', '.join(get_args(Backend))}")


def dense_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: SoftMask, alpha: float, scale: float | None = None, dropout: float = 0.0
) -> Tensor:
    """The attention by stock SDPA or plain maths; the mask is made once for all layers. Arguments as in `soft_mask_attention`."""
    if mask.reading == "logit" and mask.kind(alpha) == "soft" and q.dtype in (torch.float16, torch.bfloat16):
        # logits rounded to half precision would be worse than those of stock SDPA
        return dense_attention(q.float(), k.float(), v.float(), mask, alpha, scale, dropout).to(q.dtype)
    factor, bias = mask.terms(alpha, q.dtype)
    if factor is None:
        causal = bias is None and mask.kind(alpha) == "causal"
        return F.scaled_dot_product_attention(
            q, k, v, bias, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
    groups = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    with torch.autocast(q.device.type, enabled=False):  # which would round these products, and not those of the backward pass
        if not dropout:
            return _ScaledLogits.apply(q, k, v, factor, bias, scale)
        logits = (q * scale) @ k.transpose(-1, -2) * factor
        return F.dropout((logits if bias is None else logits + bias).softmax(-1), dropout) @ v


class _ScaledLogits(torch.autograd.Function):
    """softmax(q k^T * scale * factor + bias) v -> (B, H, L, E), a few sequences at a time and in place.

    Plain operations make and keep several L x L tensors for the whole batch, and fetching that memory costs more than the arithmetic: here
    the weights alone are kept, and each group's gradient reuses the memory of the one before."""

    @staticmethod
    def forward(ctx, q, k, v, factor, bias, scale):
        B, H, L, _ = q.shape
        out, kept = q.new_empty(B, L, H, v.shape[-1]).transpose(1, 2), []  # laid out as transformers wants it next
        for rows in _groups(q):
            weights = (q[rows] * scale) @ k[rows].transpose(-1, -2)
            weights.mul_(_of(factor, rows))
            if bias is not None:
                weights.add_(_of(bias, rows))
            torch.softmax(weights, -1, out=weights)
            out[rows] = weights @ v[rows]
            kept.append(weights)
        ctx.save_for_backward(q, k, v, factor, *kept)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        q, k, v, factor, *kept = ctx.saved_tensors
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        space = torch.empty_like(kept[0])
        for rows, weights in zip(_groups(q), kept, strict=True):
            dv[rows] = weights.transpose(-1, -2) @ dout[rows]
            grad = torch.matmul(dout[rows], v[rows].transpose(-1, -2), out=space[: len(weights)])
            torch._softmax_backward_data(grad, weights, -1, grad.dtype, grad_input=grad)
            grad.mul_(_of(factor, rows))
            dq[rows] = (grad @ k[rows]).mul_(ctx.scale)
            dk[rows] = grad.transpose(-1, -2) @ (q[rows] * ctx.scale)
        return dq, dk, dv, None, None, None


def _groups(q: Tensor) -> list[slice]:
    """The sequences whose logits together take `GROUP_BYTES`, or one."""
    B, H, L, _ = q.shape
    step = max(1, GROUP_BYTES // (H * L * L * q.element_size()))
    return [slice(start, start + step) for start in range(0, B, step)]


def _of(mask: Tensor, rows: slice) -> Tensor:
    """The part of a mask (B or 1, 1, L, L) for these sequences."""
    return mask[rows] if len(mask) > 1 else mask
