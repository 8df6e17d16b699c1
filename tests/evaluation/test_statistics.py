"""Invariants: intervals cover the truth about as often as they say and agree with scipy; clusters widen them; a paired difference is of the
same items; Spearman equals scipy's, and its interval resamples texts where pairs share them."""

import numpy as np
import pytest
from scipy import stats

from conan_lib.evaluation.statistics import (
    bootstrap_interval,
    paired_difference,
    resampled_spearman,
    spearman,
    spearman_interval,
    weighted_spearman,
)


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(300):
        low, high = bootstrap_interval(rng.random(60) < 0.3, 200, seed)
        hits += low <= 0.3 <= high
    assert 0.88 <= hits / 300 <= 0.98


def test_interval_agrees_with_scipy():
    values = np.random.default_rng(1).normal(2, 3, 200)
    low, high = bootstrap_interval(values, 4000, 0)
    oracle = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert low == pytest.approx(oracle.low, abs=0.05) and high == pytest.approx(oracle.high, abs=0.05)


def test_same_seed_same_interval():
    values = np.arange(30.0)
    assert bootstrap_interval(values, 100, 3) == bootstrap_interval(values, 100, 3) != bootstrap_interval(values, 100, 4)


def test_clusters_are_drawn_together():
    values = np.repeat(np.random.default_rng(2).random(40), 8)  # eight copies of each value bring no information
    labels = np.repeat(np.arange(40), 8)
    alone, together = bootstrap_interval(values, 500, 0), bootstrap_interval(values, 500, 0, clusters=labels)
    assert together == pytest.approx(bootstrap_interval(values[::8], 500, 0))
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])


def test_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(3)
    a = rng.normal(0, 5, 200)
    b = a + 0.5 + rng.normal(0, 0.1, 200)
    result = paired_difference(a, b, 500, 0)
    assert result["low"] < 0.5 < result["high"] and result["high"] - result["low"] < 0.1
    assert result["difference"] == pytest.approx(np.mean(b - a)) and result["share_below_zero"] == 0
    assert paired_difference(a, a, 100, 0)["share_below_zero"] == 1


def test_spearman_equals_scipy_with_ties():
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 9, 300), rng.integers(0, 5, 300)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert np.isnan(spearman(np.ones(5), np.arange(5)))


def test_spearman_interval_resamples_texts_where_pairs_share_them():
    rng = np.random.default_rng(5)
    quality = rng.normal(size=20)  # a document that is read badly spoils all of its pairs
    left, right = np.triu_indices(20, 1)
    gold = rng.normal(size=len(left))
    predicted = gold + 3 * (quality[left] + quality[right])
    shared = spearman_interval(gold, predicted, left, right, 300, 0)
    apart = spearman_interval(gold, predicted, np.arange(len(gold)), -1 - np.arange(len(gold)), 300, 0)
    assert shared[0] < spearman(gold, predicted) < shared[1]
    assert shared[1] - shared[0] > 1.3 * (apart[1] - apart[0])


@pytest.mark.parametrize("bad", [lambda: bootstrap_interval([], 10, 0), lambda: bootstrap_interval([1, 2], 10, 0, clusters=[1]),
                                 lambda: paired_difference([1], [1, 2], 10, 0)])  # fmt: skip
def test_wrong_shapes_are_refused(bad):
    with pytest.raises(ValueError):
        bad()


def test_counted_spearman_is_scipys_of_the_repeated_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 60), rng.integers(0, 9, 60)
    counts = rng.integers(0, 4, (20, 60))
    expected = [stats.spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic for row in counts]
    assert weighted_spearman(x, y, counts) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(weighted_spearman(np.ones(3), np.arange(3), np.ones((1, 3)))).all()


@pytest.mark.parametrize("shared", [True, False])
def test_spearmans_interval_is_that_of_scipys_over_repeated_pairs(shared):
    """A plain loop: draw texts (or pairs), repeat each pair as often as both of its texts were drawn."""
    rng = np.random.default_rng(1)
    pairs = [(a, b) for a in range(12) for b in range(a)] if shared else [(f"l{i}", f"r{i}") for i in range(66)]
    left, right = zip(*pairs, strict=True)
    gold = rng.integers(0, 5, 66)
    cosine = gold + rng.random(66)
    draw, loop, n = np.random.default_rng(3), [], 12 if shared else 66
    for _ in range(300):
        count = np.bincount(draw.integers(0, n, n), minlength=n)
        rows = np.repeat(np.arange(66), count[list(left)] * count[list(right)] if shared else count)
        loop.append(stats.spearmanr(gold[rows], cosine[rows]).statistic)
    assert resampled_spearman(gold, cosine, left, right, 300, 3) == pytest.approx(loop, abs=1e-12)
    assert spearman_interval(gold, cosine, left, right, 300, 3) == pytest.approx(np.percentile(loop, [2.5, 97.5]), abs=1e-12)
