"""InfoNCE over the distinct texts of a batch, with hard and in-batch negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from conan_lib.losses.checks import above_zero


def info_nce_from_scores(scores: Tensor, positive_index: Tensor, temperature: float, excluded: Tensor | None = None) -> Tensor:
    """Mean over anchors of -log( exp(s_ip / tau) / sum_j exp(s_ij / tau) ): equation `infonce`.

    Args:
        scores: (B, C) cosines of B anchors against all C candidates of the batch: everybody's positives and hard negatives.
        positive_index: (B,) the candidate that is each anchor's positive.
        temperature: tau > 0.
        excluded: (B, C) bool, candidates that are no negatives of that anchor (see `false_negatives`). The positive itself always counts.

    Raises:
        ValueError: no anchor, other shapes, `excluded` is not bool, or a temperature of 0 or below.
    """
    above_zero("info_nce", temperature)
    if scores.ndim != 2 or not len(scores) or positive_index.shape != scores.shape[:1]:
        given = f"{tuple(scores.shape)} and {tuple(positive_index.shape)}"
        raise ValueError(f"info_nce: scores and positive_index must have shapes (B, C) and (B,) with B above 0, not {given}")
    if excluded is not None and (excluded.dtype != torch.bool or excluded.shape != scores.shape):
        given = f"{excluded.dtype} of shape {tuple(excluded.shape)}"
        raise ValueError(f"info_nce: excluded must be bool of shape (B, C) = {tuple(scores.shape)}, not {given}")
    positive_index = positive_index.unsqueeze(1)
    logits = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    logits = logits / temperature
    if excluded is not None:
        logits = logits.masked_fill(excluded.scatter(1, positive_index, False), -torch.inf)
    return F.cross_entropy(logits, positive_index.squeeze(1))


def false_negatives(anchors: Tensor, candidates: Tensor, positive_index: Tensor) -> Tensor:
    """Which candidates must not count as negatives -> (B, C) bool, for `info_nce_from_scores(excluded=...)`.

    A candidate is no negative of an anchor when it has the anchor's own text, or the text of a positive of any anchor of the batch that
    equals this one (its own positive included).

    Args:
        anchors: (B,) integer ids of the anchors' texts.
        candidates: (C,) ids of the candidates' texts in the same numbering: equal ids exactly where texts are equal.
        positive_index: (B,) the candidate that is each anchor's positive.
    """
    same_anchor = anchors[:, None] == anchors[None, :]
    positive_of = candidates[positive_index][:, None] == candidates[None, :]
    shared = same_anchor.float() @ positive_of.float() > 0  # float: integer matrix products have no CUDA kernel
    return shared | (anchors[:, None] == candidates[None, :])


def info_nce(
    anchors: Tensor, positives: Tensor, hard_negatives: Tensor | None = None, *, temperature: float, excluded: Tensor | None = None
) -> Tensor:
    """InfoNCE (`infonce`) of embeddings: candidates are all positives, then all hard negatives, of the batch.

    Args:
        anchors: (B, D), any length: cosines are taken here.
        positives: (B, D).
        hard_negatives: (B, N, D) or None.
        temperature: tau > 0.
        excluded: (B, B + B*N) bool or None, over candidates in the order above.

    Raises:
        ValueError: other shapes, and as in `info_nce_from_scores`.
    """
    if anchors.ndim != 2 or positives.shape != anchors.shape:
        given = f"{tuple(anchors.shape)} and {tuple(positives.shape)}"
        raise ValueError(f"info_nce: anchors and positives must both have shape (B, D), not {given}")
    if hard_negatives is not None and (hard_negatives.ndim != 3 or hard_negatives.shape[::2] != anchors.shape):
        raise ValueError(f"info_nce: hard_negatives must have shape (B, N, D) of {tuple(anchors.shape)}, not {tuple(hard_negatives.shape)}")
    candidates = positives if hard_negatives is None else torch.cat([positives, hard_negatives.flatten(0, 1)])
    scores = F.normalize(anchors, dim=-1) @ F.normalize(candidates, dim=-1).T
    return info_nce_from_scores(scores, torch.arange(len(anchors), device=anchors.device), temperature, excluded)
