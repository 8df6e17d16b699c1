"""The soft mask through FlexAttention, to compare with: linear in L where it is compiled, forward alone on the CPU.

The logits are changed one by one as they are made, so this form would carry any mask; it is the slower one.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from conan_lib.attention.softmask import SoftMask, row_coefficients
from conan_lib.errors import UserError


def flex_attention_under_mask(
    q: Tensor, k: Tensor, v: Tensor, mask: SoftMask, alpha: float | None = None, scale: float | None = None, compiled: bool = True
) -> Tensor:
    """Soft-mask attention by FlexAttention -> (B, H, L, D). Arguments as in `conan_lib.attention.soft_mask_attention`.

    Args:
        compiled: False runs FlexAttention's own eager form, which makes the L x L logits: for tests.

    Raises:
        UserError: gradients are asked for on the CPU, where FlexAttention has none.
    """
    alpha = mask.alpha if alpha is None else alpha
    if q.device.type == "cpu" and torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        raise UserError("soft_mask: FlexAttention has no backward pass on the CPU: call it under torch.no_grad()")
    # alpha enters as a tensor: a Python float would be compiled in, and every step of the schedule compiled anew
    numbers = mask.keep("numbers", (alpha,), lambda: row_numbers(mask, alpha))
    modify = _logit_rule(*numbers) if mask.reading == "logit" else _weight_rule(*numbers)
    attend = _compiled() if compiled else flex_attention
    return attend(q, k, v, score_mod=modify, scale=scale, enable_gqa=q.shape[1] != k.shape[1])


def row_numbers(mask: SoftMask, alpha: float) -> tuple[Tensor, Tensor]:
    """(c or, for `weight`, log c, float32; segments), each (B, L)."""
    c = row_coefficients(alpha, mask.segments, mask.ratio)
    return (c.log() if mask.reading == "weight" else c).float(), mask.segments


def _weight_rule(log_c: Tensor, segments: Tensor):
    def modify(score, b, h, i, j):
        return torch.where(segments[b, i] == segments[b, j], torch.where(j > i, score + log_c[b, i], score), -torch.inf)

    return modify


def _logit_rule(c: Tensor, segments: Tensor):
    def modify(score, b, h, i, j):
        return torch.where(segments[b, i] == segments[b, j], torch.where(j > i, score * c[b, i], score), -torch.inf)

    return modify


@cache
def _compiled():
    return torch.compile(flex_attention)
