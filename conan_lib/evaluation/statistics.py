"""Bootstrap intervals: how sure a number is. numpy only, seeded.

Percentile intervals at 95 %. Values that belong together (the translations of one verse, the pairs that share a document) are resampled
together, as a cluster: otherwise the interval would be too narrow.
"""

from collections.abc import Callable, Sequence

import numpy as np

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
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values: expected a row of numbers, got shape {values.shape}")
    sums, sizes = _by_cluster(values, clusters)
    return _bounds(np.concatenate([draw @ sums / (draw @ sizes) for draw in _draws(len(sums), resamples, seed)]))


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
    sums, sizes = _by_cluster(b - a, clusters)
    means = np.concatenate([draw @ sums / (draw @ sizes) for draw in _draws(len(sums), resamples, seed)])
    low, high = _bounds(means)
    return {"difference": float(np.mean(b - a)), "low": low, "high": high, "share_below_zero": float(np.mean(means <= 0))}


def statistic_interval(statistic: Callable[[np.ndarray], float], n: int, resamples: int, seed: int) -> tuple[float, float]:
    """95 % percentile interval of any statistic of n items.

    Args:
        statistic: takes the indices of the drawn items, shape (n,), some of them repeated, and returns a number (nan where undefined).
    """
    rng = np.random.default_rng(seed)
    return _bounds(np.array([statistic(rng.integers(0, n, n)) for _ in range(resamples)]))


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation with tied ranks averaged; nan where one side is constant."""
    x, y = _ranks(np.asarray(x)), _ranks(np.asarray(y))
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
    gold, predicted = np.asarray(gold), np.asarray(predicted)
    texts, ids = np.unique(np.concatenate([np.asarray(left), np.asarray(right)]), return_inverse=True)
    left_ids, right_ids = ids[: len(gold)], ids[len(gold) :]
    if len(texts) >= len(gold):
        return statistic_interval(lambda drawn: spearman(gold[drawn], predicted[drawn]), len(gold), resamples, seed)

    def statistic(drawn: np.ndarray) -> float:
        count = np.bincount(drawn, minlength=len(texts))
        pairs = np.repeat(np.arange(len(gold)), count[left_ids] * count[right_ids])
        return spearman(gold[pairs], predicted[pairs]) if len(pairs) > 2 else float("nan")

    return statistic_interval(statistic, len(texts), resamples, seed)


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


def _bounds(statistics: np.ndarray) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(statistics, [tail, 100 - tail])
    return float(low), float(high)


def _ranks(x: np.ndarray) -> np.ndarray:
    _, index, count = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[index]
