"""Arithmetic with intervals of result files: differences, means over tasks, means over seeds."""

from collections.abc import Sequence
from math import hypot, sqrt
from statistics import fmean, stdev

from scipy.stats import t as student_t

from conan_lib.evaluation.statistics import LEVEL

Interval = tuple[float, float]


def difference_of(a: tuple[float, Interval], b: tuple[float, Interval]) -> tuple[float, Interval]:
    """a - b with its interval; the half-widths of independent intervals combine in quadrature."""
    (x, (x_low, x_high)), (y, (y_low, y_high)) = a, b
    return x - y, (x - y - sqrt((x - x_low) ** 2 + (y_high - y) ** 2), x - y + sqrt((x_high - x) ** 2 + (y - y_low) ** 2))


def mean_of(rows: list[dict]) -> tuple[float, Interval | None]:
    """Mean of score rows with its interval, None where a row has none; half-widths of independent intervals combine in quadrature."""
    value = sum(row["value"] for row in rows) / len(rows)
    if any(row.get("low") is None or row.get("high") is None for row in rows):
        return value, None
    below = sqrt(sum((row["value"] - row["low"]) ** 2 for row in rows)) / len(rows)
    above = sqrt(sum((row["high"] - row["value"]) ** 2 for row in rows)) / len(rows)
    return value, (value - below, value + above)


def combine_seeds(values: Sequence[float], intervals: Sequence[Interval]) -> tuple[float, Interval]:
    """Mean over training seeds of a number that was measured with each on the same items, from the intervals over the items alone.

    What `over_seeds` does with resamples, for result files that keep intervals only: the items are the same, so their
    half-widths are averaged and do not shrink; the mean over S seeds moves by the half-width of its t-interval; both combine in quadrature.

    Args:
        values: the number with each seed, shape (S,).
        intervals: its 95 % interval over the items with each seed, (low, high).

    Returns:
        (mean, (low, high)); of one seed, what was given.

    Raises:
        ValueError: there are no values, or not as many intervals.
    """
    if not values or len(values) != len(intervals):
        raise ValueError(f"expected an interval for each value, got {len(values)} values and {len(intervals)} intervals")
    mean, count = fmean(values), len(values)
    if count == 1:
        return mean, intervals[0]
    of_seeds = float(student_t.ppf((1 + LEVEL) / 2, count - 1)) * stdev(values) / sqrt(count)
    below = fmean(value - low for value, (low, _) in zip(values, intervals, strict=True))
    above = fmean(high - value for value, (_, high) in zip(values, intervals, strict=True))
    return mean, (mean - hypot(below, of_seeds), mean + hypot(above, of_seeds))
