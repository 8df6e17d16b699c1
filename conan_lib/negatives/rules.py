"""The rules by which a hard negative is replaced, as functions of scores."""

import torch
from torch import Tensor

from conan_lib.options import DhnmOptions


def replace_v2(initial: Tensor, current: Tensor, floor: float = 0.4, ratio: float = 1.2, ceiling: float = 0.7) -> Tensor:
    """Which negatives to replace (Eq. 6): S_0 < floor, or ratio * S_i < S_0 and S_i < ceiling. Equation `dhnm_v2`.

    Args:
        initial: S_0, the score when the negative came in, any shape.
        current: S_i, its score now, same shape.
    """
    return (initial < floor) | ((ratio * current < initial) & (current < ceiling))


def replace_v1(initial: Tensor, current: Tensor, ratio: float = 1.15, ceiling: float = 0.8) -> Tensor:
    """Conan-embedding v1's rule: ratio * S < S_0 and |S| < ceiling. Equation `dhnm_v1`. Shapes as in `replace_v2`."""
    return (ratio * current < initial) & (current.abs() < ceiling)


def replaced(initial: Tensor, current: Tensor, iteration: int, options: DhnmOptions) -> Tensor:
    """The whole rule as a function of S_0, S_i and the iteration -> bool, in their shape. A NaN (never seen) compares false and stays.

    `v2` looks at every iteration, `v1` at every `v1_interval`-th; `static`, `random` and `remined` replace by no score.

    Args:
        initial: S_0, any shape.
        current: S_i, same shape.
        iteration: counted from 1.
    """
    if options.rule == "v2":
        return replace_v2(initial, current, options.floor, options.ratio, options.ceiling)
    if options.rule == "v1" and iteration % options.v1_interval == 0:
        return replace_v1(initial, current, options.v1_ratio, options.v1_ceiling)
    return torch.zeros_like(initial, dtype=torch.bool)


def suspected(scores: Tensor, positive: Tensor, margin: float) -> Tensor:
    """Which hard negatives are probably unlabelled positives: S > S_+ - margin. Equation `dhnm_margin`; not in the paper, off by default.

    Args:
        scores: S, (B, n) scores of B anchors' hard negatives.
        positive: S_+, (B,) scores of their positives.
    """
    return scores > positive[:, None] - margin
