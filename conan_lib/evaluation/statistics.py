"""Bootstrap intervals: how sure a number is. Seeded.

Percentile intervals at 95 %. Values that belong together (the translations of one verse, the pairs that share a document) are resampled
together, as a cluster: otherwise the interval would be too narrow.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

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
