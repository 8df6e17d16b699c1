"""The soft mask: schedule, row coefficients, the mask itself, attention by the equation, and what the layers share.

Shapes: B batch, H query heads, G key/value heads (G divides H), L length, D head dim.

`segments` (B, L) says which token belongs to which sequence: 0 is padding, on either side; a padding mask is the case of one sequence a
row, and 1, 2, ... number several sequences packed into a row. Row numbers i and lengths l are those of a token's own sequence, so a text
gets the same mask alone, padded, or packed.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from conan_lib.errors import UserError

Reading = Literal["weight", "logit"]
Ratio = Literal["l/i", "i/l", "uniform"]
Schedule = Literal["linear", "quadratic", "inverse_quadratic"]
Backend = Literal["auto", "dense", "halves", "reference"]


def checked_alpha(alpha: Any, name: str) -> float:
    """alpha, of any type of number (numpy's scalars and tensors without dimensions too), as a float. UserError outside 0..1."""
    if not _is_number(alpha) or not 0 <= alpha <= 1:
        raise UserError(f"{name}: {alpha!r} is outside 0..1: give one number from there")
    return float(alpha)


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not getattr(value, "ndim", 0)


def _check(alpha: Any, segments: Any, ratio: Any, reading: Any = "weight") -> None:
    """What the functions of the equation take. Layers do not pass here: what they are given is checked with the model's config."""
    checked_alpha(alpha, "soft_mask: alpha")
    for name, value, kinds in (("ratio", ratio, Ratio), ("reading", reading, Reading)):
        if value not in get_args(kinds):
            raise UserError(f"soft_mask: {name} {value!r} is not one of {', '.join(get_args(kinds))}")
    if not isinstance(segments, Tensor) or segments.ndim != 2 or (segments < 0).any():
        given = type(segments).__name__
        if isinstance(segments, Tensor):
            given = f"of shape {tuple(segments.shape)}" if segments.ndim != 2 else f"of {segments.min().item()}"
        raise UserError(f"soft_mask: segments must be a tensor (B, L) of numbers from 0, 0 for padding, not {given}")


def alpha_at(step: float, total: float, schedule: Schedule = "linear") -> float:
    """alpha(t): t/tau, (t/tau)^2 or 1 - (1 - t/tau)^2, from 0 at step 0 to 1 at step `total` and after. Equation `soft_mask_schedules`.

    Raises:
        UserError: `step` is no number, `total` is none above 0, or there is no such schedule.
    """
    if not _is_number(step) or not _is_number(total) or math.isnan(step) or not 0 < total < math.inf:
        raise UserError(f"soft_mask: alpha at step {step!r} of {total!r}: give the step, and the steps of the whole schedule, above 0")
    progress = min(max(step / total, 0.0), 1.0)
    match schedule:
        case "linear":
            return progress
        case "quadratic":
            return progress**2
        case "inverse_quadratic":
            return 1 - (1 - progress) ** 2
    raise UserError(f"soft_mask: schedule {schedule!r} is not one of {', '.join(get_args(Schedule))}")


def row_coefficients(alpha: float, segments: Tensor, ratio: Ratio = "l/i") -> Tensor:
    """c_i = min(alpha * l / i, 1), min(alpha * i / l, 1), or alpha alone (uniform) -> (B, L) float64; 0 on padding.

    With `weight`, uniform adds one log bias, log alpha, to all future positions: the schedule of GG-SM (arXiv 2602.10622).

    i is the 1-based row within the token's own sequence and l that sequence's length.

    Raises:
        UserError: alpha is outside 0..1, there is no such ratio, or segments are no tensor (B, L).
    """
    _check(alpha, segments, ratio)
    return _row_coefficients(alpha, segments, ratio)


def _row_coefficients(alpha: float, segments: Tensor, ratio: Ratio) -> Tensor:
    return _coefficients(alpha, *rows_and_lengths(segments), ratio).masked_fill(segments == 0, 0.0)


def _coefficients(alpha: float, row: Tensor, length: Tensor, ratio: Ratio) -> Tensor:
    factor = {"l/i": length / row, "i/l": row / length, "uniform": torch.ones_like(row)}[ratio]
    return (alpha * factor).clamp(max=1.0)


def rows_and_lengths(segments: Tensor) -> tuple[Tensor, Tensor]:
    """i and l of every token -> two (B, L) float64; 1 on padding. Padding inside a sequence is skipped; numbering continues after it."""
    own = Sequences(segments)
    row, length = (torch.ones(segments.numel(), dtype=torch.float64, device=segments.device) for _ in range(2))
    row[own.tokens], length[own.tokens] = own.row, own.length
    return row.view(segments.shape), length.view(segments.shape)


class Sequences:
    """The N sequences of a batch end to end, without padding: T tokens.

    Attributes:
        tokens: (T,) where each token stands in the flattened batch (b * L + t).
        bounds: (N + 1,) int32: sequence n is the tokens bounds[n] .. bounds[n + 1] - 1.
        row, length: (T,) float64: a token's 1-based place i in its sequence, and that sequence's length l.
        longest: the largest l.
    """

    def __init__(self, segments: Tensor):
        flat = segments.flatten()
        self.tokens = flat.nonzero()[:, 0]
        own, batch = flat[self.tokens], self.tokens // segments.shape[1]
        starts = F.pad((own.diff() != 0) | (batch.diff() != 0), (1, 0), value=True)[: len(own)].nonzero()[:, 0]
        bounds = F.pad(starts, (0, 1), value=len(own))
        lengths = bounds.diff()
        self.bounds, self.longest = bounds.int(), int(lengths.max()) if len(lengths) else 0
        self.row = (torch.arange(len(own), device=own.device) - starts.repeat_interleave(lengths) + 1).double()
        self.length = lengths.repeat_interleave(lengths).double()


def visible(segments: Tensor) -> Tensor:
    """Which keys a row may ever see -> (B, L, L) bool: its own sequence. A padding row sees itself alone, so that no row is empty."""
    same = (segments[:, :, None] == segments[:, None, :]) & (segments > 0)[:, :, None]
    return same | torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)


def mask_matrix(alpha: float, segments: Tensor, ratio: Ratio = "l/i") -> Tensor:
    """M -> (B, L, L) float64: 1 for j <= i, c_i for j > i, 0 outside the row's own sequence. Equation `soft_mask`.

    Raises:
        UserError: as in `row_coefficients`.
    """
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

    Raises:
        UserError: as in `row_coefficients`, there is no such reading, or q, k and v are of other shapes.
    """
    _check(alpha, segments, ratio, reading)
    shapes = [tuple(x.shape) for x in (q, k, v)]
    fit = all(len(shape) == 4 for shape in shapes) and shapes[1][:3] == shapes[2][:3] and q.shape[1] % max(k.shape[1], 1) == 0
    if not fit or q.shape[::2] != segments.shape or k.shape[::2] != segments.shape or q.shape[-1] != k.shape[-1]:
        told = f"q, k, v have shapes {', '.join(map(str, shapes))} and segments {tuple(segments.shape)}"
        raise UserError(f"soft_mask: {told}: give (B, H, L, D), (B, G, L, D) twice, where G divides H, and (B, L)")
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
    return "bidirectional" if alpha >= 1 and ratio != "i/l" else "soft"


class _NotATensor(UserError, AttributeError):
    """An AttributeError too, so that hasattr, copy and pickle work."""


class SoftMask:
    """One batch's mask, made once in a forward pass and shared by its layers: what a backend derives from it is kept for the next.

    Args:
        segments: (B, L), see the module.
        full: every row is one sequence without padding (then stock causal and bidirectional attention need no mask).
        backend: which one `soft_mask_attention` takes where the call names none.
    """

    def __init__(
        self,
        segments: Tensor,
        full: bool,
        alpha: float = 1.0,
        reading: Reading = "weight",
        ratio: Ratio = "l/i",
        backend: Backend = "auto",
    ):
        self.segments, self.full, self.alpha, self.reading, self.ratio, self.backend = segments, full, alpha, reading, ratio, backend
        self._kept: dict[str, tuple] = {}

    def __getattr__(self, name: str) -> Any:
        raise _NotATensor(
            f"soft_mask: this model computes with its attention mask itself (it wants its {name}), instead of handing it to transformers' "
            "attention interface: take a backbone that does"
        )

    def __radd__(self, other: Any) -> Any:
        return self.__getattr__("sum")

    def __getitem__(self, index: Any) -> Any:
        return self.__getattr__("elements")

    @cached_property
    def sequences(self) -> Sequences:
        """The batch without padding: everything linear in L that the halves need and that does not depend on alpha."""
        return Sequences(self.segments)

    def kind(self, alpha: float) -> Literal["causal", "bidirectional", "soft"]:
        """Where the mask at this alpha is a stock one."""
        return kind(alpha, self.reading, self.ratio)

    def coefficients(self, alpha: float) -> Tensor:
        """c of every real token -> (T,) float64."""
        return _coefficients(alpha, self.sequences.row, self.sequences.length, self.ratio)

    def terms(self, alpha: float, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """The L x L form: attention is softmax(S * factor + bias) V -> (factor, bias), each (B or 1, 1, L, L) or None.

        `weight` has bias log M and no factor; `logit` factor M and, where rows are not full, a bias that hides what is not `visible`. A
        bool bias says what is visible. All are of the dtype given.
        """
        return self.keep("terms", (alpha, dtype), lambda: self._terms(alpha, dtype))

    def keep(self, name: str, key: tuple, make: Callable[[], Any]) -> Any:
        """What `make` returned when `key` was last new under this name."""
        if name not in self._kept or self._kept[name][0] != key:
            self._kept[name] = key, make()
        return self._kept[name][1]

    def _terms(self, alpha: float, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        end = self.kind(alpha)
        if self.full and end != "soft":
            return None, None
        segments = self.segments[:1] if self.full else self.segments  # rows without padding share one mask
        seen = visible(segments)
        if end != "soft":
            return None, (seen.tril() if end == "causal" else seen)[:, None]
        c = _row_coefficients(alpha, segments, self.ratio)
        if self.reading == "weight":
            return None, _over_rows(0.0, c.log().to(dtype)).masked_fill(~seen, -torch.inf)[:, None]
        hidden = None if self.full else torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -torch.inf)[:, None]
        return _over_rows(1.0, c.to(dtype))[:, None], hidden
