"""Over seeds and queries the interval covers the truth with three seeds too, and p-values are uniform where nothing differs; Holm keeps the
family-wise error; a difference of the size that `detectable` names is found as often as it says."""

import numpy as np
import pytest
from scipy import stats

from conan_lib.evaluation.statistics import bootstrap_interval, resampled_means
from conan_lib.findings.over_seeds import POWER, detectable, holm, over_seeds


def two_way(seeds: int, queries: int, spread: tuple[float, float, float], rng) -> np.ndarray:
    """Paired differences (S, Q) whose true mean is 0: an effect of the seed, one of the query, and the rest."""
    seed, query, rest = spread
    return seed * rng.normal(size=(seeds, 1)) + query * rng.normal(size=(1, queries)) + rest * rng.normal(size=(seeds, queries))


def interval(points: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    found = over_seeds(points, draws)
    return found["low"], found["high"]


def bootstrap(points: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """The plain two-way bootstrap: seeds are drawn as queries are."""
    seeds, resamples = draws.shape
    drawn = np.random.default_rng(0).integers(0, seeds, (resamples, seeds))
    return tuple(np.quantile(draws[drawn, np.arange(resamples)[:, None]].mean(1), [0.025, 0.975]))


def coverage(spread: tuple[float, float, float], interval_of=interval) -> float:
    hits = 0
    for trial in range(200):
        values = two_way(3, 40, spread, np.random.default_rng(trial))
        low, high = interval_of(values.mean(1), np.stack([resampled_means(row, 200, trial) for row in values]))
        hits += low <= 0 <= high
    return hits / 200


def test_three_seeds_cover_the_truth_as_often_as_said_and_resampling_them_does_not():
    assert coverage((1, 0.1, 0.1)) >= 0.9, "seeds differ"
    assert coverage((0.1, 1, 0.1)) >= 0.9, "queries differ"
    assert coverage((0.2, 1, 1)) >= 0.9, "all do"
    assert coverage((1, 0.1, 0.1), bootstrap) < 0.8, "the reason for Student's t"


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


def test_over_seeds_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"points \(S,\) and draws \(S, R\)"):
        over_seeds([1, 2], np.ones((3, 10)))


@pytest.mark.parametrize(("seeds", "comparisons"), [(3, 1), (8, 1), (4, 3)])
def test_the_detectable_difference_is_found_in_as_many_repeats_as_said(seeds, comparisons):
    half = stats.t.ppf(0.975, seeds - 1) / np.sqrt(seeds)  # of seeds that differ by 1
    true = detectable(0.3 - half, 0.3 + half, seeds, comparisons)
    repeats = np.random.default_rng(0).normal(true, 1, (20000, seeds))
    t = repeats.mean(1) / stats.sem(repeats, axis=1)
    assert (t > stats.t.ppf(1 - 0.025 / comparisons, seeds - 1)).mean() == pytest.approx(POWER, abs=0.01)


def test_the_detectable_difference_with_one_seed_is_that_of_a_normal_mean():
    repeats = np.random.default_rng(0).normal(detectable(-1.96, 1.96, 1), 1, 20000)
    assert (repeats > 1.96).mean() == pytest.approx(POWER, abs=0.01)
