"""The soft mask: schedule, row coefficients, the mask itself, attention by the equation, and the fast path that every layer shares.

Shapes: B batch, H query heads, G key/value heads (G divides H), L length, D head dim.

`segments` (B, L) says which token belongs to which sequence: 0 is padding, on either side; a padding mask is the case of one sequence a
row, and 1, 2, ... number several sequences packed into a row. Row numbers i and lengths l are those of a token's own sequence, so a text
gets the same mask alone, padded, or packed.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Reading = Literal["weight", "logit"]
Ratio = Literal["l/i", "i/l"]
Schedule = Literal["linear", "quadratic", "inverse_quadratic"]


def alpha_at(step: int, total: int, schedule: Schedule = "linear") -> float:
    """alpha(t): t/tau, (t/tau)^2 or 1 - (1 - t/tau)^2, from 0 at step 0 to 1 at step `total` and after. Equation `soft_mask_schedules`."""
    progress = min(max(step / total, 0.0), 1.0)
    match schedule:
        case "linear":
            return progress
        case "quadratic":
            return progress**2
        case "inverse_quadratic":
            return 1 - (1 - progress) ** 2
    raise ValueError(f"schedule {schedule!r} is not linear, quadratic or inverse_quadratic")


def row_coefficients(alpha: float, segments: Tensor, ratio: Ratio = "l/i") -> Tensor:
    """c_i = min(alpha * l / i, 1), or min(alpha * i / l, 1) -> (B, L) float64; 0 on padding.

    i is the 1-based row within the token's own sequence and l that sequence's length.
    """
    row, length = rows_and_lengths(segments)
    c = (alpha * (length / row if ratio == "l/i" else row / length)).clamp(max=1.0)
    return c.masked_fill(segments == 0, 0.0)


def rows_and_lengths(segments: Tensor) -> tuple[Tensor, Tensor]:
    """i and l of every token -> two (B, L) float64. A run of equal numbers is a sequence; a run of padding counts like one."""
    token = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = F.pad(segments[:, 1:] != segments[:, :-1], (1, 0), value=True)
    first = token.masked_fill(~starts, 0).cummax(1).values
    ends = F.pad(starts[:, 1:], (0, 1), value=True)
    last = token.masked_fill(~ends, segments.shape[1]).flip(1).cummin(1).values.flip(1)
    return (token - first + 1).double(), (last - first + 1).double()


def visible(segments: Tensor) -> Tensor:
    """Which keys a row may ever see -> (B, L, L) bool: its own sequence. A padding row sees itself alone, so that no row is empty."""
    same = (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, :, None]
    return same | torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)


def mask_matrix(alpha: float, segments: Tensor, ratio: Ratio = "l/i") -> Tensor:
    """M -> (B, L, L) float64: 1 for j <= i, c_i for j > i, 0 outside the row's own sequence. Equation `soft_mask`."""
    return _over_rows(1.0, row_coefficients(alpha, segments, ratio)) * visible(segments)


def _over_rows(past: float, future: Tensor) -> Tensor:
    """(B, L, L) that holds `past` for j <= i and row i's value of `future` (B, L) for j > i."""
    after = torch.ones(future.shape[1], future.shape[1], dtype=torch.bool, device=future.device).triu(1)
    return torch.where(after, future[:, :, None], past)


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, alpha: float, segments: Tensor, reading: Reading = "weight", ratio: Ratio = "l/i", scale=None
) -> Tensor:
    """Attention under M exactly as the equation reads -> (B, H, L, D), in the dtype of q.

    `weight` (equation `soft_mask_weight`): softmax(S + log M) V, so M multiplies the unnormalised weight exp(S).
    `logit` (equation `soft_mask_logit`): softmax(S * M) V as the paper prints it; other sequences and padding stay invisible.
    S = q k^T * scale, scale = D^-0.5 unless given. Rows that are padding are finite and mean nothing.

    Args:
        q: (B, H, L, D). k, v: (B, G, L, D).
        segments: (B, L), see the module.
    """
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    mask = mask_matrix(alpha, segments, ratio)[:, None].to(q.dtype)
    scores = scores + mask.log() if reading == "weight" else scores * mask
    return scores.masked_fill(~visible(segments)[:, None], -torch.inf).softmax(-1) @ v


def kind(alpha: float, reading: Reading = "weight", ratio: Ratio = "l/i") -> Literal["causal", "bidirectional", "soft"]:
    """Where the soft mask is a stock one: `weight` at alpha = 0 is causal, l/i at alpha = 1 bidirectional in either reading."""
    if alpha <= 0 and reading == "weight":
        return "causal"
    return "bidirectional" if alpha >= 1 and ratio == "l/i" else "soft"


class SoftMask:
    """One batch's mask, made once in a forward pass and shared by all its layers.

    Attention under it is softmax(S * factor + bias) V; `terms` gives the two for an alpha, and keeps the last ones.

    Args:
        segments: (B, L), see the module.
        full: every row is one sequence without padding (then stock causal and bidirectional attention need no mask).
    """

    def __init__(self, segments: Tensor, full: bool, alpha: float = 1.0, reading: Reading = "weight", ratio: Ratio = "l/i"):
        self.segments, self.full, self.alpha, self.reading, self.ratio = segments, full, alpha, reading, ratio
        self._kept: tuple | None = None

    def terms(self, alpha: float, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """(factor, bias), each (B, 1, L, L) or None: `weight` has bias log M and no factor; `logit` factor M and bias 0 or -inf."""
        if self._kept is None or self._kept[0] != (alpha, dtype):
            self._kept = (alpha, dtype), self._terms(alpha, dtype)
        return self._kept[1]

    def _terms(self, alpha: float, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        end = kind(alpha, self.reading, self.ratio)
        if self.full and end != "soft":
            return None, None
        seen = visible(self.segments)
        if end != "soft":
            return None, (seen.tril() if end == "causal" else seen)[:, None]
        c = row_coefficients(alpha, self.segments, self.ratio)
        if self.reading == "weight":
            return None, _over_rows(0.0, c.log().to(dtype)).masked_fill(~seen, -torch.inf)[:, None]
        hidden = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -torch.inf)
        return _over_rows(1.0, c.to(dtype))[:, None], hidden[:, None]


def soft_mask_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: SoftMask, alpha: float | None = None, scale: float | None = None, dropout: float = 0.0
) -> Tensor:
    """The same attention by stock kernels -> (B, H, L, D). Arguments as in `reference_attention`; alpha overrides the mask's own.

    `weight` is torch's scaled_dot_product_attention with the additive mask log M, `logit` plain maths (no stock kernel scales logits).
    At the stock ends (`kind`) it is SDPA's own causal or bidirectional attention.
    """
    alpha = mask.alpha if alpha is None else alpha
    factor, bias = mask.terms(alpha, q.dtype)
    if factor is None:
        causal = bias is None and kind(alpha, mask.reading, mask.ratio) == "causal"
        return F.scaled_dot_product_attention(
            q, k, v, bias, dropout_p=dropout, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = (scores * factor + bias).softmax(-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
    return F.dropout(weights, dropout) @ v
