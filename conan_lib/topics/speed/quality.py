"""Smaller vectors: how much recall they keep.

A vector is made smaller in two ways: fewer channels (Matryoshka), and fewer bits a channel. Passages are what an index stores, so they are
quantised, by sentence-transformers; a query stays as it is, except under `binary`, where both sides are bits:

    float32           q . c                                       4 bytes a channel
    int8              q . c'   c' decoded from 256 steps a channel, between the corpus' minimum and maximum; 1 byte a channel
    binary            the fewest different signs (Hamming)        1 bit a channel
    binary, rescored  q . sign(c)                                 1 bit a channel

`rescored` scores every passage so, where an index would do it for those nearest by Hamming: what rescoring reaches at best.
"""

from dataclasses import dataclass

import numpy as np
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.types import PromptType
from sentence_transformers.util.quantization import quantize_embeddings

from conan_lib.evaluation.encoder import Encoder
from conan_lib.evaluation.statistics import interval_of, resampled_means
from conan_lib.params.evaluation import TasksParams

PRECISIONS = ("float32", "int8", "binary", "binary, rescored")
METRIC = "recall_at_10"
DOCUMENTS = 1_000_000
"""Passages of the index whose size is stated."""


def truncate(vectors: np.ndarray, dim: int | None) -> np.ndarray:
    """The first `dim` channels, or all, scaled to length 1 again (Matryoshka). Shape (N, dim)."""
    vectors = vectors[:, :dim]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def as_scored(queries: np.ndarray, corpus: np.ndarray, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Queries (Q, D) and passages (C, D) such that their dot product ranks as `precision` does; see the module."""
    if precision == "int8":
        ranges = np.stack([corpus.min(axis=0), corpus.max(axis=0)])
        steps = quantize_embeddings(corpus, "int8", ranges).astype(np.float32) + 128
        return queries, ranges[0] + (steps + 0.5) * (ranges[1] - ranges[0]) / 255  # the middle of each step
    if precision == "binary":
        return _signs(queries), _signs(corpus)  # of D channels H differ: the dot product is D - 2 H
    return queries, _signs(corpus) if precision == "binary, rescored" else corpus


def _signs(vectors: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(quantize_embeddings(vectors, "ubinary"), axis=1, count=vectors.shape[1])
    return 2 * bits.astype(np.float32) - 1


def bytes_of(dim: int, precision: str) -> int:
    """What a passage takes in a flat index; the two float32 a channel of int8's ranges are stored once and not counted."""
    return {"float32": 4 * dim, "int8": dim}.get(precision, -(-dim // 8))


def recall_at_k(queries: np.ndarray, corpus: np.ndarray, relevant: list[set[int]], k: int = 10) -> np.ndarray:
    """Share of the relevant passages among the k with the largest dot product, as trec_eval's recall_k.

    Bits tie often. A tie is broken at random, and this is the expected value: a passage below a others and level with t (itself included)
    is found with probability (k - a) / t, between 0 and 1.

    Args:
        queries: shape (Q, D).
        corpus: shape (C, D).
        relevant: rows of `corpus` that each query should find.

    Returns:
        Shape (Q,).
    """
    scores = queries @ corpus.T
    counts = np.array([len(rows) for rows in relevant])
    query = np.repeat(np.arange(len(queries)), counts)
    passage = np.array([row for rows in relevant for row in sorted(rows)])
    own = scores[query, passage][:, None]
    above, level = (scores[query] > own).sum(axis=1), (scores[query] == own).sum(axis=1)
    return np.bincount(query, np.clip((k - above) / level, 0, 1), len(queries)) / counts


def curve(encoder: Encoder, task, dims: tuple[int, ...], params: TasksParams) -> list[dict]:
    """Recall at 10 of one model on one retrieval task, by channels and precision, beside that of the whole vector in float32.

    Args:
        task: a local task; the value is the mean over its subsets (languages), as mteb's is.
        dims: channels kept; the whole width is always added.

    Returns:
        Rows {task, type, metric, dim, precision, bytes, index_mb, n, value, low, high, difference, difference_low, difference_high, kept,
        kept_low, kept_high}. `difference` is value - value of the whole vector, `kept` is their quotient (null where that is 0).
        Intervals resample passages with all their queries, paired between cells.
    """
    task.load_data()
    splits = [_Split.of(encoder, task.metadata, subset[task.split]) for subset in task.dataset.values()]
    width = splits[0].corpus.shape[1]
    clusters = [cluster for split in splits for cluster in split.clusters]

    def cell(dim: int, precision: str) -> tuple[float, np.ndarray]:
        values = [split.recall(dim, precision) for split in splits]
        mean = float(np.mean([one.mean() for one in values]))
        return mean, resampled_means(np.concatenate(values), params.bootstrap, params.seed, clusters)

    whole, whole_means = cell(width, "float32")
    rows = []
    for dim in sorted({*dims, width}):
        for precision in PRECISIONS:
            value, means = cell(dim, precision)
            shares = np.divide(means, whole_means, out=np.full(len(means), np.nan), where=whole_means > 0)
            size = bytes_of(dim, precision)
            rows.append(
                {"task": task.metadata.name, "type": task.kind, "metric": METRIC, "dim": dim, "precision": precision, "bytes": size,
                 "index_mb": size * DOCUMENTS / 1e6, "n": len(clusters), **_with_interval("value", value, means),
                 **_with_interval("difference", value - whole, means - whole_means),
                 **_with_interval("kept", value / whole if whole > 0 else None, shares)}
            )  # fmt: skip
    return rows


@dataclass(frozen=True)
class _Split:
    """The vectors of one subset of a retrieval task, computed once for all cells."""

    queries: np.ndarray
    corpus: np.ndarray
    relevant: list[set[int]]
    clusters: list[str]

    @classmethod
    def of(cls, encoder: Encoder, metadata: TaskMetadata, data: dict) -> "_Split":
        asked, corpus = data["queries"][:], data["corpus"][:]
        place = {passage: row for row, passage in enumerate(corpus["id"])}
        found = [[p for p, grade in data["relevant_docs"][q].items() if grade > 0] for q in asked["id"]]
        relevant, clusters = [{place[p] for p in passages} for passages in found], [min(passages) for passages in found]
        queries = encoder.of_task(asked["text"], metadata, PromptType.query)
        return cls(queries, encoder.of_task(corpus["text"], metadata, PromptType.document), relevant, clusters)

    def recall(self, dim: int, precision: str) -> np.ndarray:
        queries, corpus = as_scored(truncate(self.queries, dim), truncate(self.corpus, dim), precision)
        return recall_at_k(queries, corpus, self.relevant)


def _with_interval(name: str, value: float | None, resampled: np.ndarray) -> dict[str, float | None]:
    low, high = (None, None) if value is None else interval_of(resampled)
    prefix = "" if name == "value" else f"{name}_"
    return {name: value, f"{prefix}low": low, f"{prefix}high": high}
