"""Invariants: intervals cover the truth about as often as they say and agree with scipy; clusters widen them; a paired difference is of the
same items; Spearman equals scipy's, and its interval resamples texts where pairs share them; over seeds and queries the interval covers
the truth with three seeds too, and p-values are uniform where nothing differs; Holm keeps the family-wise error."""

import numpy as np
import pytest
from scipy import stats

from conan_lib.evaluation.statistics import (
    bootstrap_interval,
    holm,
    over_seeds,
    paired_difference,
    resampled_means,
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


def two_way(seeds: int, queries: int, spread: tuple[float, float, float], rng) -> np.ndarray:
    """Paired differences (S, Q) whose true mean is 0: an effect of the seed, one of the query, and the rest."""
    seed, query, rest = spread
    return seed * rng.normal(size=(seeds, 1)) + query * rng.normal(size=(1, queries)) + rest * rng.normal(size=(seeds, queries))


def coverage(spread: tuple[float, float, float], seeds: int = 3, trials: int = 200, resample_seeds: bool = False) -> float:
    hits = 0
    for trial in range(trials):
        values = two_way(seeds, 40, spread, np.random.default_rng(trial))
        draws = np.stack([resampled_means(row, 200, trial) for row in values])
        found = over_seeds(values.mean(1), draws, trial if resample_seeds else None)
        hits += found["low"] <= 0 <= found["high"]
    return hits / trials


def test_three_seeds_cover_the_truth_as_often_as_said_and_resampling_them_does_not():
    assert coverage((1, 0.1, 0.1)) >= 0.9, "seeds differ"
    assert coverage((0.1, 1, 0.1)) >= 0.9, "queries differ"
    assert coverage((0.2, 1, 1)) >= 0.9, "all do"
    assert coverage((1, 0.1, 0.1), resample_seeds=True) < 0.8, "the reason for Student's t"


def test_seeds_alone_give_the_t_interval_and_its_p():
    points = np.array([0.02, 0.05, 0.03, 0.06])
    found = over_seeds(points, np.repeat(points[:, None], 1000, axis=1))
    assert (found["low"], found["high"]) == pytest.approx(stats.t.interval(0.95, 3, points.mean(), stats.sem(points)))
    assert found["p"] == pytest.approx(stats.ttest_1samp(points, 0).pvalue) and found["seeds"] == 4


def test_the_interval_over_seeds_is_what_many_draws_of_student_t_give_and_its_mirror_the_other_way_round():
    rng = np.random.default_rng(0)
    values = two_way(3, 50, (0.5, 1, 1), rng) + 0.3
    draws = np.stack([resampled_means(row, 500, 1) for row in values])
    found, mirror = over_seeds(values.mean(1), draws), over_seeds(-values.mean(1), -draws)
    assert (mirror["low"], mirror["high"], mirror["p"]) == pytest.approx((-found["high"], -found["low"], found["p"]), rel=1e-6)
    drawn = draws.mean(0) + rng.standard_t(2, (4000, 500)) * draws.std(0, ddof=1) / np.sqrt(3)
    assert (found["low"], found["high"]) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.01)
    assert found["p"] == pytest.approx(2 * np.mean(drawn <= 0), rel=0.02)


def test_seeds_that_agree_exactly_leave_the_items_alone_and_nan_resamples_count_for_nothing():
    row = resampled_means(np.random.default_rng(1).normal(0.2, 1, 60), 500, 0)
    found = over_seeds([0.2] * 3, np.stack([row] * 3))
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.percentile(row, [2.5, 97.5])), abs=5e-3)
    holed = np.concatenate([np.stack([row] * 3), np.full((3, 7), np.nan)], axis=1)
    assert over_seeds([0.2] * 3, holed) == found
    nothing = over_seeds([np.nan] * 3, np.full((3, 7), np.nan))
    assert np.isnan([nothing["value"], nothing["low"], nothing["high"]]).all() and nothing["p"] == 1
    same = over_seeds([0.0] * 3, np.zeros((3, 100)))
    assert (same["low"], same["high"], same["p"]) == (0, 0, 1)


def test_one_seed_gives_the_interval_over_items():
    values = np.random.default_rng(0).normal(0.3, 1, 80)
    found = over_seeds([values.mean()], resampled_means(values, 500, 1)[None])
    assert (found["low"], found["high"]) == bootstrap_interval(values, 500, 1) and found["seeds"] == 1


def test_queries_that_all_seeds_share_are_drawn_alike_for_all():
    """With queries the only source of chance more seeds narrow nothing: one draw of queries serves every seed."""
    row = np.random.default_rng(3).normal(size=60)
    one, many = ([resampled_means(row, 400, 5)] * n for n in (1, 9))
    assert over_seeds([row.mean()], np.stack(one))["high"] == pytest.approx(over_seeds([row.mean()] * 9, np.stack(many))["high"], abs=5e-3)


def test_p_is_uniform_where_nothing_differs():
    p = []
    for trial in range(200):
        values = two_way(4, 30, (1, 0.3, 0.3), np.random.default_rng(trial))
        p.append(over_seeds(values.mean(1), np.stack([resampled_means(row, 200, trial) for row in values]))["p"])
    assert stats.kstest(p, "uniform").statistic < 0.12 and np.mean(np.array(p) < 0.05) < 0.09


def test_holm_by_hand_and_never_above_bonferroni():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1, 1] and holm([]) == []
    p = np.random.default_rng(0).random(9)
    assert all(own <= min(1, 9 * raw) and own >= raw for own, raw in zip(holm(p), p, strict=True))


def test_holm_keeps_the_family_wise_error():
    rng = np.random.default_rng(0)
    false = [min(holm(rng.random(7))) < 0.05 for _ in range(4000)]
    assert np.mean(false) == pytest.approx(0.05, abs=0.012)


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


def test_over_seeds_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"points \(S,\) and draws \(S, R\)"):
        over_seeds([1, 2], np.ones((3, 10)))
