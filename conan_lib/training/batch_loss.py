"""The loss of whichever task a batch brings, from the embeddings of its distinct texts, gathered over processes or cached where asked."""

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util import all_gather_with_grad
from torch import Tensor, nn

from conan_lib.losses import cosent, false_negatives, info_nce_from_scores, matryoshka
from conan_lib.negatives import NegativePool, suspected
from conan_lib.training.batches import Task


class ContrastiveLoss(CachedLossMixin, nn.Module):
    """The loss of whichever task a batch brings, over the Matryoshka prefixes of its embeddings.

    Pair tasks: InfoNCE of each anchor against every distinct candidate text of the batch (all positives and all hard negatives), save its
    own text, the other positives of an equal anchor, and hard negatives beyond the pool's margin. STS: CoSENT. Both added where a batch of
    STS comes along: equation `balance`. Scores of hard negatives at the full width feed the pool.

    Several processes: each encodes its share of the texts; the embeddings are gathered, with gradients, and each computes the loss of the
    whole batch. A gathered embedding's gradient is the sum over processes, and the wrapper averages the weights' gradients over them, so
    these are the gradients of one process. All see the same scores, so their pools stay equal without another word.

    Args:
        model: encodes; kept under this name so that the trainer can put its distributed wrapper here.
        dims: prefixes, the full width last; None trains the full width alone.
        balance: weight of CoSENT where a batch of STS comes along.
        cached_minibatch: encodes this many texts at a time, once without and once with gradients (GradCache). None: all at once.
        world: processes that share a batch.
    """

    def __init__(
        self,
        model,
        tasks: list[Task],
        temperature: float,
        cosent_temperature: float = 0.05,
        dims=None,
        pool: NegativePool | None = None,
        balance: float | None = None,
        cached_minibatch: int | None = None,
        world: int = 1,
    ):
        super().__init__()
        self.model, self.tasks, self.pool = model, tasks, pool
        self.temperature, self.cosent_temperature, self.dims, self.balance = temperature, cosent_temperature, dims, balance
        self.mini_batch_size, self.uses_gradient_cache, self.world = cached_minibatch, cached_minibatch is not None, world
        self.seen: dict = {}

    def forward(self, features: list[dict[str, Tensor]], label: dict[str, Tensor]) -> Tensor:
        """features: padded chunks of the T distinct texts; label: see TaskCollator. Returns the mean loss, a scalar."""
        if self.uses_gradient_cache:
            return self.forward_cached(features, label)
        return self.calculate_loss([[self.model(chunk)["sentence_embedding"]] for chunk in features], label)

    def calculate_loss(self, reps: list[list[Tensor]], labels: dict[str, Tensor], *, with_backward: bool = False) -> Tensor:
        """The loss of a batch from the embeddings of its chunks, which CachedLossMixin may hand over as leaves of their own."""
        label, embeddings = labels, torch.cat([part for chunk in reps for part in chunk])
        if self.world > 1:
            embeddings = all_gather_with_grad(embeddings)
        embeddings = embeddings[label["restore"]]
        scored = self._score(embeddings.detach().float(), label) if "pool" in label and self.pool is not None else None
        dims = self.dims or (embeddings.shape[1],)
        loss = matryoshka(lambda prefix: self._task_loss(prefix, label, scored), embeddings, dims)
        self.seen = {"task": self.tasks[int(label["task"])].name, "loss": loss.item()}
        if scored is not None:
            self._update_pool(label["pool"], *scored)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss

    def _score(self, embeddings: Tensor, label: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Scores (B, N) of the hard negatives and (B,) of the positives, at the full width."""
        anchors = embeddings[label["anchor"]]
        scores = torch.einsum("bd,bnd->bn", anchors, embeddings[label["negatives"]])
        return scores, (anchors * embeddings[label["positive"]]).sum(-1)

    def _update_pool(self, pool_ids: Tensor, scores: Tensor, positive: Tensor) -> None:
        swapped_in = int(self.pool.swapped_in(pool_ids).sum())
        swaps = self.pool.update(pool_ids, scores, positive)
        log = self.pool.log()
        above = suspected(scores, positive, 0.0).float().mean().item()
        self.seen |= {"mean_score": log["mean_score"], "positive_score": positive.mean().item(), "above_positive": above}
        self.seen |= {"swaps": swaps, "swapped_in": swapped_in, "exhausted": log["exhausted"]}

    def _task_loss(self, embeddings: Tensor, label: dict[str, Tensor], scored: tuple[Tensor, Tensor] | None) -> Tensor:
        """InfoNCE, CoSENT, or `balance`: InfoNCE + beta CoSENT (Conan-embedding v1: beta = 0.8)."""
        if "score" in label:
            return self._sts(embeddings, label["anchor"], label["positive"], label["score"])
        loss = self._pairs(embeddings, label, scored)
        if "sts_score" in label:
            loss = loss + self.balance * self._sts(embeddings, label["sts_anchor"], label["sts_positive"], label["sts_score"])
        return loss

    def _sts(self, embeddings: Tensor, first: Tensor, second: Tensor, gold: Tensor) -> Tensor:
        return cosent((embeddings[first] * embeddings[second]).sum(-1), gold, self.cosent_temperature)

    def _pairs(self, embeddings: Tensor, label: dict[str, Tensor], scored: tuple[Tensor, Tensor] | None) -> Tensor:
        anchor, positive = label["anchor"], label["positive"]
        roles = [positive, label["negatives"].flatten()] if "negatives" in label else [positive]
        candidates, place = torch.unique(torch.cat(roles), return_inverse=True)
        own = place[: len(positive)]
        scores = embeddings[anchor] @ embeddings[candidates].T
        plain = label.get("plain")  # equal texts are equal whatever prompt they bear
        excluded = false_negatives(anchor, candidates, own) if plain is None else false_negatives(plain[anchor], plain[candidates], own)
        if scored is not None and self.pool.options.margin is not None:
            row, slot = suspected(*scored, self.pool.options.margin).nonzero(as_tuple=True)
            excluded[row, place[len(positive) :].view(len(positive), -1)[row, slot]] = True
        return info_nce_from_scores(scores, own, self.temperature, excluded=excluded)
