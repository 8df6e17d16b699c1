"""What a pool refuses, each in one line that names the argument, the pool and the mend."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from conan_lib.errors import UserError

LARGEST = 1.05
"""The largest cosine that passes: of unit vectors rounded to bf16, and multiplied in it, cosines of 1.02 come out."""
AT_ONCE = 1 << 16
"""Pools whose candidates are sorted at once: a copy of all of them would be large."""


def whole_number(name: str, value: Any, least: int) -> int:
    """The value as an int. UserError where it is none from `least` on."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise UserError(f"negatives: {name} {value} must be at least {least}, a whole number")
    return int(value)


def tensor(name: str, values: Any) -> Tensor:
    """Anything that torch takes for a tensor. UserError for anything else."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"negatives: {name} must be a tensor, or a list or array of numbers, not {type(values).__name__}") from None


def whole(values: Tensor) -> bool:
    """Whether a tensor holds whole numbers."""
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)


def cosines(name: str, values: Any) -> Tensor:
    """Scores as float32 on the CPU, without a gradient."""
    return tensor(name, values).detach().float().cpu()


def check_cosines(name: str, values: Tensor) -> None:
    """UserError where one is NaN or clearly beyond 1."""
    within = values.abs() <= LARGEST  # a NaN is not
    if not within.all():
        raise UserError(
            f"negatives: {name} hold {values[~within][0].item():.4g}: give cosines, not logits, and discard a batch whose loss is NaN"
        )


def pool_candidates(values: Any, n: int, positives: Any = None) -> Tensor:
    """Candidates (P, K) as int64 on the CPU.

    Raises:
        UserError: there are none, they are no whole numbers (P, K), or a pool names a row twice, has fewer than n, has -1 before its end or
            another number below 0, or holds its own of the `positives`.
    """
    candidates = tensor("candidates", values)
    if not candidates.numel() and not whole(candidates):  # an empty list, which torch takes for floats
        raise UserError("negatives: candidates are empty: give the ranked corpus rows (P, K) of at least one pool")
    if candidates.ndim != 2 or not whole(candidates):
        raise UserError(f"negatives: candidates must be whole numbers (P, K), not {candidates.dtype} of shape {tuple(candidates.shape)}")
    candidates = candidates.long().cpu()
    if (found := _first(candidates < -1)) is not None:
        raise UserError(f"negatives: pool {found[0]}: {candidates[found]} is no row of a corpus: give rows from 0, and -1 for none")
    if (found := _first((candidates[:, :-1] < 0) & (candidates[:, 1:] >= 0))) is not None:
        raise UserError(f"negatives: pool {found[0]}: -1 padding must be at the end")
    available = (candidates >= 0).sum(1)
    if len(available) and int(available.min()) < n:
        worst = int(available.argmin())
        raise UserError(
            f"negatives: pool {worst} has {int(available[worst])} candidates, fewer than n {n}: give it more candidates, or a smaller n"
        )
    for start in range(0, len(candidates), AT_ONCE):
        ordered = candidates[start : start + AT_ONCE].sort(1).values
        if (found := _first((ordered.diff(dim=1) == 0) & (ordered[:, 1:] >= 0))) is not None:
            raise UserError(f"negatives: pool {start + found[0]} names row {ordered[found]} twice: give each candidate once")
    if positives is not None:
        _check_positives(candidates, positives)
    return candidates


def _check_positives(candidates: Tensor, values: Any) -> None:
    positives = tensor("positives", values).cpu()
    if positives.shape != candidates.shape[:1] or not whole(positives):
        given = f"{positives.dtype} of shape {tuple(positives.shape)}"
        raise UserError(f"negatives: positives must be whole numbers (P,) = ({len(candidates)},), one row for each pool, not {given}")
    if (found := _first((candidates == positives[:, None]) & (candidates >= 0))) is not None:
        raise UserError(
            f"negatives: pool {found[0]} holds its own positive, row {candidates[found]}: leave it out of the candidates (its score -inf, "
            "and K at most the passages - 1)"
        )


def _first(wrong: Tensor) -> tuple[int, int] | None:
    """Where a (P, K) tensor is first true."""
    return tuple(wrong.nonzero()[0].tolist()) if wrong.any() else None


def check_state(state: Any, wanted: Mapping[str, Any]) -> None:
    """Whether a state holds what `wanted`, a state of this pool, holds: tensors of its shapes and types, and numbers.

    Raises:
        UserError: it is none, something is missing or of another kind, or it is one of other pools.
    """
    if missing := [name for name in wanted if not isinstance(state, Mapping) or name not in state]:
        raise UserError(f"negatives: the state has no {', '.join(missing)}: give what state_dict returned")
    for name, own in wanted.items():
        given, kind = state[name], Tensor if isinstance(own, Tensor) else (int, float)
        if not isinstance(given, kind) or (kind is Tensor and given.is_floating_point() != own.is_floating_point()):
            told = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise UserError(f"negatives: the state's {name} is {told}: give what state_dict returned")
        if kind is Tensor and given.shape != own.shape:
            raise UserError(
                f"negatives: the checkpoint holds pools whose {name} is of shape {tuple(given.shape)}, this run {tuple(own.shape)}: "
                "delete the checkpoint, it belongs to other parameters"
            )
