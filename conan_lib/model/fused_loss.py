"""Cross-entropy of a large vocabulary whose logits are never held whole: Liger's kernel where it is installed, else chunks of rows."""

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

HELD = 2**26
"""Logits that are held at once: 256 MiB in float32, 447 rows at 150,000 entries."""


class _Chunked(torch.autograd.Function):
    """Both gradients come out of the forward pass, as in Liger, so that no logit is computed twice."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> Tensor:
        total = torch.zeros((), device=hidden.device, dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        of_hidden, of_weight = torch.empty_like(hidden), torch.zeros_like(weight, dtype=total.dtype)
        for start in range(0, len(hidden), rows):
            own, place = hidden[start : start + rows], targets[start : start + rows, None]
            logits = F.linear(own, weight).to(total.dtype)
            logits -= logits.logsumexp(1, keepdim=True)
            total -= logits.gather(1, place).sum()
            error = logits.exp_().scatter_add_(1, place, -torch.ones_like(place, dtype=total.dtype)).to(own.dtype)
            of_hidden[start : start + rows] = error @ weight
            of_weight += error.T @ own
        ctx.save_for_backward(of_hidden, of_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * gradient.to(of_hidden.dtype), of_weight * gradient.to(of_weight.dtype), None, None


def fused_cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy (nats) of softmax(hidden weight^T): equation `next_token`. hidden (N, D), weight (V, D), targets (N,)."""
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if hidden.is_cuda and find_spec("liger_kernel"):
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        return liger_fused_linear_cross_entropy(hidden, weight, targets, reduction="sum")
    with torch.autocast(hidden.device.type, enabled=False):
        return _Chunked.apply(hidden, weight, targets, max(1, HELD // len(weight)))
