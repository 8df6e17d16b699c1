"""Matryoshka: the same loss on prefixes of the vector, so that a cut vector is a good vector."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor


def prefix(embeddings: Tensor, dim: int) -> Tensor:
    """The first `dim` coordinates of (..., D), brought back to length 1: what a user of the cut vector sees."""
    return F.normalize(embeddings[..., :dim], dim=-1)


def matryoshka(loss: Callable[[Tensor], Tensor], embeddings: Tensor, dims: Sequence[int], weights: Sequence[float] | None = None) -> Tensor:
    """sum_d w_d * loss(prefixes of length d): equation `matryoshka`.

    The weights are 1 unless given, and the result is a sum, as in sentence_transformers' MatryoshkaLoss; 1/len(dims) each gives a mean.

    Args:
        loss: takes the embeddings cut to (..., d), each of unit length.
        embeddings: (..., D): one stack of every vector that the loss needs.
        dims: the prefixes, each at most D.
        weights: one for each of dims.
    """
    if not dims or min(dims) < 1 or max(dims) > embeddings.shape[-1]:
        raise ValueError(f"matryoshka dims {tuple(dims)} must lie between 1 and the vector's {embeddings.shape[-1]}")
    weights = [1.0] * len(dims) if weights is None else weights
    return sum(weight * loss(prefix(embeddings, dim)) for dim, weight in zip(dims, weights, strict=True))
