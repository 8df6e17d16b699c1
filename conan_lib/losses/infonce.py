"""InfoNCE over the distinct texts of a batch, with hard and in-batch negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce_from_scores(scores: Tensor, positive_index: Tensor, temperature: float, excluded: Tensor | None = None) -> Tensor:
    """Mean over anchors of -log( exp(s_ip / tau) / sum_j exp(s_ij / tau) ): equation `infonce`.

    Args:
        scores: (B, C) cosines of B anchors against all C candidates of the batch: everybody's positives and hard negatives.
        positive_index: (B,) the candidate that is each anchor's positive.
        temperature: tau > 0.
        excluded: (B, C) bool, candidates that are no negatives of that anchor (see `false_negatives`). The positive itself always counts.
    """
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
    """
    candidates = positives if hard_negatives is None else torch.cat([positives, hard_negatives.flatten(0, 1)])
    scores = F.normalize(anchors, dim=-1) @ F.normalize(candidates, dim=-1).T
    return info_nce_from_scores(scores, torch.arange(len(anchors), device=anchors.device), temperature, excluded)
