"""What a number comes to over training seeds, from its resamples with each; p-values of a family of comparisons; and power."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student_t

from conan_lib.evaluation.statistics import LEVEL, interval_of

POWER = 0.8
"""Share of repeats in which a difference is found, where nothing else is said: the usual one."""


def over_seeds(points: Sequence[float], draws: np.ndarray) -> dict[str, float]:
    """Mean over training seeds of a number (a score, or a paired difference of scores), its 95 % interval and its p-value against 0.

    Both sources of chance are in it. The items: `draws` has each seed's number in each resample of the items, and all seeds see the same
    resample, because they answer the same queries. The seeds: with a handful of them, resampling seeds gives intervals that are far too
    narrow (three values, of which one resample in nine holds one alone three times over, cover about 75 % where 95 % is said; the test
    of this function measures it). So in each resample the mean over seeds is spread by its standard error as Student's t with S - 1
    degrees of freedom, and the interval and p are those of the mixture of these t distributions: were the items certain, the t-interval.
    The mixture is computed, not drawn: of a - b they are the mirror of those of b - a.

    Args:
        points: the number with each seed, shape (S,).
        draws: the same in each of R resamples, shape (S, R); a resample with a nan is left out.

    Returns:
        {value, low, high, p, seeds}; p is two-sided and at least 2 / (R + 1). One seed: the interval and p cover the items alone. Where no
        resample has a number (a model with one vector for every text) the bounds are nan and p is 1.
    """
    points, draws = np.asarray(points, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    if points.ndim != 1 or draws.ndim != 2 or len(points) != len(draws) or not len(points):
        raise ValueError(f"expected points (S,) and draws (S, R), got {points.shape} and {draws.shape}")
    draws = draws[:, ~np.isnan(draws).any(0)]
    seeds, resamples = draws.shape
    if not resamples:
        return {"value": float(points.mean()), "low": float("nan"), "high": float("nan"), "p": 1.0, "seeds": seeds}
    if seeds == 1:
        (means,) = draws
        low, high = interval_of(means)
        p = 2 * (min(np.sum(means <= 0), np.sum(means >= 0)) + 1) / (resamples + 1)
    else:
        mixture = _StudentMixture(draws.mean(0), draws.std(0, ddof=1) / np.sqrt(seeds), seeds - 1)
        low, high = mixture.quantile((1 - LEVEL) / 2), mixture.quantile((1 + LEVEL) / 2)
        p = max(2 * min(mixture.below(0), 1 - mixture.below(0)), 2 / (resamples + 1))
    return {"value": float(points.mean()), "low": low, "high": high, "p": float(min(1, p)), "seeds": seeds}


@dataclass(frozen=True)
class _StudentMixture:
    """Equal parts of Student's t distributions: centres and scales of shape (R,), one number of degrees of freedom."""

    centres: np.ndarray
    scales: np.ndarray
    freedom: int

    def below(self, x: float) -> float:
        """Probability of at most x; half of a part that is certain (scale 0) and equal to x."""
        apart, scales = x - self.centres, np.where(self.scales > 0, self.scales, 1)
        return float(np.where(self.scales > 0, student_t.cdf(apart / scales, self.freedom), (np.sign(apart) + 1) / 2).mean())

    def quantile(self, share: float) -> float:
        ends = self.centres + self.scales * student_t.ppf(share, self.freedom)  # the quantile lies between those of the parts
        low, high = float(ends.min()), float(ends.max())
        return low if low == high else float(brentq(lambda x: self.below(x) - share, low - 1e-12, high + 1e-12))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values of a family of tests -> corrected ones, in the same order (family-wise error at most alpha).

    The k-th smallest of m is multiplied by m - k + 1; a corrected value is at least that of every smaller one, and at most 1.
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected.tolist()


def detectable(low: float, high: float, seeds: int, comparisons: int = 1, power: float = POWER) -> float:
    """The true difference that as many seeds would find, significant and with the right sign, in `power` of all repeats.

    The interval is read as Student's t with S - 1 degrees of freedom, or as normal with one seed, whose own chance it then leaves out.

    Args:
        low, high: the 95 % interval of the difference that was measured.
        seeds: S, that it rests on.
        comparisons: in the family; each then has 5 % divided by their number.
    """
    tail, level, freedom = (1 + LEVEL) / 2, 1 - (1 - LEVEL) / 2 / comparisons, seeds - 1
    error = (high - low) / 2 / (student_t.ppf(tail, freedom) if freedom else norm.ppf(tail))
    if not freedom:
        return float(error * (norm.ppf(level) + norm.ppf(power)))
    bound = student_t.ppf(level, freedom)
    return float(error * brentq(lambda shift: nct.sf(bound, freedom, shift) - power, 0, 10 * bound))
