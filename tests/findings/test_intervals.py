"""Half-widths of independent intervals combine in quadrature; over seeds the interval covers the truth, whichever of both moves."""

import numpy as np
import pytest

from conan_lib.findings.intervals import combine_seeds, difference_of, mean_of


def test_half_widths_combine_in_quadrature():
    effect, (low, high) = difference_of((0.9, (0.6, 1.3)), (0.5, (0.1, 0.8)))
    assert (effect, low, high) == pytest.approx((0.4, 0.4 - (0.3**2 + 0.3**2) ** 0.5, 0.4 + (0.4**2 + 0.4**2) ** 0.5))
    value, interval = mean_of([{"value": 0.2, "low": 0.1, "high": 0.3}, {"value": 0.4, "low": 0.3, "high": 0.5}])
    assert value == pytest.approx(0.3) and interval == pytest.approx((0.3 - 0.02**0.5 / 2, 0.3 + 0.02**0.5 / 2))
    assert mean_of([{"value": 0.2, "low": None, "high": None}]) == (0.2, None)


def test_the_interval_over_seeds():
    """One seed keeps its interval. Otherwise 95 % cover the truth, whichever of items and seeds moves more."""
    assert combine_seeds([0.3], [(0.1, 0.4)]) == (0.3, (0.1, 0.4))
    with pytest.raises(ValueError, match="an interval for each value"):
        combine_seeds([0.3, 0.2], [(0.1, 0.4)])
    rng, rounds = np.random.default_rng(0), 2000
    for of_items, of_seeds in ((1.0, 0.2), (1.0, 1.0), (0.2, 1.0)):
        values = rng.normal(0, of_items, (rounds, 1)) + rng.normal(0, of_seeds, (rounds, 3))  # all seeds answer the same items
        found = [combine_seeds(row.tolist(), [(value - 1.96 * of_items, value + 1.96 * of_items) for value in row]) for row in values]
        covered = np.mean([low <= 0 <= high for _, (low, high) in found])
        assert 0.93 <= covered <= 0.995
