"""Matryoshka: the same loss on prefixes of the vector, so that a cut vector is a good vector."""

from collections.abc import Callable, Sequence
from numbers import Integral

import torch.nn.functional as F
from torch import Tensor


def prefix(embeddings: Tensor, dim: int) -> Tensor:
    """The first `dim` coordinates of (..., D), brought back to length 1: what a user of the cut vector sees.

    Raises:
        ValueError: dim is no whole number from 1 to D.
    """
    if not isinstance(dim, Integral) or not 1 <= dim <= embeddings.shape[-1]:
        raise ValueError(f"prefix: dim {dim} must be a whole number from 1 to the vector's {embeddings.shape[-1]}")
    return F.normalize(embeddings[..., :dim], dim=-1)


def matryoshka(loss: Callable[[Tensor], Tensor], embeddings: Tensor, dims: Sequence[int], weights: Sequence[float] | None = None) -> Tensor:
    """sum_d w_d * loss(prefixes of length d): equation `matryoshka`.

    The weights are 1 unless given, and the result is a sum, as in sentence_transformers' MatryoshkaLoss; 1/len(dims) each gives a mean.

    Args:
        loss: takes the embeddings cut to (..., d), each of unit length.
        embeddings: (..., D): one stack of every vector that the loss needs.
        dims: the prefixes, each at most D.
        weights: one for each of dims.

    Raises:
        ValueError: no dims, one that is no whole number from 1 to D, or not as many weights.
    """
    width = embeddings.shape[-1]
    if not isinstance(dims, Sequence) or not dims or not all(isinstance(dim, Integral) and 1 <= dim <= width for dim in dims):
        raise ValueError(f"matryoshka dims {dims} must be a list of whole numbers from 1 to the vector's {width}")
    weights = [1.0] * len(dims) if weights is None else weights
    if len(weights) != len(dims):
        raise ValueError(f"matryoshka weights: {len(weights)} for {len(dims)} dims: give one for each")
    return sum(weight * loss(prefix(embeddings, dim)) for dim, weight in zip(dims, weights, strict=True))
