"""Bootstrap intervals: how sure a number is. Seeded.

Percentile intervals at 95 %. Values that belong together (the translations of one verse, the pairs that share a document) are resampled
together, as a cluster: otherwise the interval would be too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.optimize import brentq
from scipy.stats import rankdata
from scipy.stats import t as student_t

LEVEL = 0.95


def bootstrap_interval(values: Sequence[float], resamples: int, seed: int, clusters: Sequence | None = None) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values`.

    Args:
        values: one number for each item, shape (N,).
        resamples: bootstrap resamples.
        seed: of the resampling.
        clusters: a label for each item, shape (N,); items with the same label are drawn together. None: each item by itself.

    Returns:
        (low, high).

    Raises:
        ValueError: there are no values, or not as many labels as values.
    """
    return interval_of(resampled_means(values, resamples, seed, clusters))


def resampled_means(values: Sequence[float], resamples: int, seed: int, clusters: Sequence | None = None) -> np.ndarray:
    """The mean of `values` in each bootstrap resample, shape (resamples,); arguments as of `bootstrap_interval`.

    Two systems' values of the same items under the same seed are resampled alike, so that differences of the results are paired.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values: expected a row of numbers, got shape {values.shape}")
    sums, sizes = _by_cluster(values, clusters)
    return np.concatenate([draw @ sums / (draw @ sizes) for draw in _draws(len(sums), resamples, seed)])


def interval_of(means: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of what `resampled_means` gave, or of a difference or quotient of such rows; nan is left out."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(means, [tail, 100 - tail])
    return float(low), float(high)


def paired_difference(
    a: Sequence[float], b: Sequence[float], resamples: int, seed: int, clusters: Sequence | None = None
) -> dict[str, float]:
    """Mean of b - a over the same items, with its interval.

    Returns:
        difference, low, high, and share_below_zero: the share of resamples in which b is not above a.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired values must be of the same items: shapes {a.shape} and {b.shape}")
    means = resampled_means(b - a, resamples, seed, clusters)
    low, high = interval_of(means)
    return {"difference": float(np.mean(b - a)), "low": low, "high": high, "share_below_zero": float(np.mean(means <= 0))}


class ClusterDraws:
    """Bootstrap resamples of a few clusters, drawn once for many numbers: all of them see the same resamples, and each costs little.

    Every method returns a number as an array (1 + R,): of all clusters first, then of each resample; `interval` sums that up. So a number
    that is made of several (a ratio of means, say) has its interval from the same arrays.

    Args:
        clusters: their names.
        resamples: R.
        seed: of the resampling.
    """

    def __init__(self, clusters: Sequence[str], resamples: int, seed: int):
        self._place = {name: place for place, name in enumerate(sorted(set(clusters)))}
        n = len(self._place)
        self._counts = np.concatenate([np.ones((1, n)), *_draws(n, resamples, seed)])

    def mean(self, values: Sequence[float], clusters: Sequence[str]) -> np.ndarray:
        """Mean of `values`, shape (N,); nan in resamples that drew none of their clusters."""
        index = self._index(clusters)
        sums, sizes = (self._counts @ np.bincount(index, weights, len(self._place)) for weights in (np.asarray(values, float), None))
        return _ratio(sums, sizes)

    def auc(self, higher: Sequence[float], lower: Sequence[float], clusters: tuple[Sequence, Sequence], strata: tuple[Sequence, Sequence]):
        """Area under the ROC curve: the share of pairs (one of `higher`, one of `lower`) in which the first is larger, a tie counts half.

        Args:
            higher, lower: values, shapes (P,) and (N,).
            clusters: of `higher` and of `lower`.
            strata: of `higher` and of `lower`; only values of the same stratum are compared.
        """
        a, b = np.asarray(higher, float)[:, None], np.asarray(lower, float)[None]
        compared = np.asarray(strata[0])[:, None] == np.asarray(strata[1])[None]
        n = len(self._place)
        cells = (n * self._index(clusters[0])[:, None] + self._index(clusters[1])[None]).ravel()
        tables = (np.bincount(cells, weights.ravel(), n * n).reshape(n, n) for weights in (compared * ((a > b) + (a == b) / 2), compared))
        return _ratio(*(((self._counts @ table) * self._counts).sum(1) for table in tables))

    def spearman(self, x: Sequence[float], y: Sequence[float], clusters: Sequence[str]) -> np.ndarray:
        """Spearman's correlation over all items; nan where one side is constant."""
        return weighted_spearman(np.asarray(x), np.asarray(y), self._counts[:, self._index(clusters)])

    @staticmethod
    def interval(numbers: np.ndarray) -> dict[str, float | None]:
        """value, low, high; all None where the value is nan."""
        if np.isnan(numbers[0]):
            return dict.fromkeys(("value", "low", "high"))
        low, high = interval_of(numbers[1:])
        return {"value": float(numbers[0]), "low": low, "high": high}

    def _index(self, clusters: Sequence[str]) -> np.ndarray:
        return np.array([self._place[name] for name in clusters], dtype=int)


def jackknife_interval(value: float, without: np.ndarray) -> tuple[float, float]:
    """95 % interval of a statistic from its values without one group after the other (the jackknife's standard error, normal quantiles).

    For statistics of neighbours and pairs: a bootstrap draws a text twice, and is then its own nearest neighbour; resampling the values
    of single texts with their neighbours fixed gives intervals that are too narrow.

    Args:
        value: the statistic of all groups.
        without: the statistic without each of G groups, shape (G,).
    """
    count = len(without)
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * np.sqrt((count - 1) / count * np.square(without - without.mean()).sum())
    return float(value - half), float(value + half)


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation with tied ranks averaged; nan where one side is constant."""
    x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else float("nan")


def spearman_interval(gold, predicted, left: Sequence, right: Sequence, resamples: int, seed: int) -> tuple[float, float]:
    """95 % interval of Spearman's correlation over pairs of texts.

    Where pairs share texts (Lee50: all pairs of 50 documents) the TEXTS are resampled and each pair counts as often as both of its texts
    were drawn; otherwise the pairs are.

    Args:
        gold, predicted: a number for each pair, shape (N,).
        left, right: the two texts (or their ids) of each pair.
    """
    return interval_of(resampled_spearman(gold, predicted, left, right, resamples, seed))


def resampled_spearman(gold, predicted, left: Sequence, right: Sequence, resamples: int, seed: int) -> np.ndarray:
    """Spearman's correlation in each bootstrap resample, shape (resamples,); arguments as of `spearman_interval`, which is made from it.

    nan where a resample leaves one side constant.
    """
    gold, predicted = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    texts, ids = np.unique(np.concatenate([np.asarray(left), np.asarray(right)]), return_inverse=True)
    left_ids, right_ids = ids[: len(gold)], ids[len(gold) :]
    shared = len(texts) < len(gold)
    draws = _draws(len(texts) if shared else len(gold), resamples, seed)
    return np.concatenate(
        [weighted_spearman(gold, predicted, draw[:, left_ids] * draw[:, right_ids] if shared else draw) for draw in draws]
    )


def weighted_spearman(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Spearman's correlation of pairs that are each repeated `counts` times, for many rows of counts at once.

    Args:
        x, y: shape (N,).
        counts: whole numbers from 0, shape (R, N).

    Returns:
        Shape (R,); nan where one side is constant.
    """
    counts = np.asarray(counts, dtype=np.float64)
    ranks = [_counted_ranks(np.asarray(side), counts) for side in (x, y)]
    total = np.maximum(counts.sum(1, keepdims=True), 1)
    a, b = (rank - (counts * rank).sum(1, keepdims=True) / total for rank in ranks)
    scale = np.sqrt((counts * a * a).sum(1) * (counts * b * b).sum(1))
    return np.divide((counts * a * b).sum(1), scale, out=np.full(len(counts), np.nan), where=scale > 0)


def over_seeds(points: Sequence[float], draws: np.ndarray, resample_seeds: int | None = None) -> dict[str, float]:
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
        resample_seeds: a random seed: take the plain two-way bootstrap instead.

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
    if seeds == 1 or resample_seeds is not None:
        drawn = (
            np.zeros((resamples, 1), int) if seeds == 1 else np.random.default_rng(resample_seeds).integers(0, seeds, (resamples, seeds))
        )
        means = draws[drawn, np.arange(resamples)[:, None]].mean(1)
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


def _counted_ranks(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rank of each x among all repetitions, ties averaged; shape (R, N)."""
    values, index = np.unique(x, return_inverse=True)
    of_value = np.zeros((len(counts), len(values)))
    np.add.at(of_value.T, index, counts.T)
    return (np.cumsum(of_value, axis=1) - (of_value - 1) / 2)[:, index]


def _by_cluster(values: np.ndarray, clusters: Sequence | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each cluster."""
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise ValueError(f"clusters: {len(clusters)} labels for {len(values)} values")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index).astype(float)


def _draws(n: int, resamples: int, seed: int):
    """How often each of n clusters is drawn, in blocks of shape (up to 64, n): the memory stays small for large n."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, 64):
        drawn = rng.integers(0, n, (min(64, resamples - start), n))
        yield np.stack([np.bincount(row, minlength=n) for row in drawn])


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom > 0)
