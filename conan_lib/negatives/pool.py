"""The pool of hard negatives that the rules act on. Sees tensors only; the loss has computed the scores anyway."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from conan_lib.errors import UserError
from conan_lib.negatives.checks import check_cosines, check_state, cosines, pool_candidates, tensor, whole, whole_number
from conan_lib.negatives.rules import replaced, suspected
from conan_lib.options import DhnmOptions


class NegativePool:
    """The hard negatives of P anchors: ranked candidates, the n in use, and what the rule needs to replace them.

    One batch is one `draw`, then one `update` with its scores, in the same order. A loop that skips a batch (its loss was NaN) ends it with
    `discard`: an update that scores nothing, so `updates` counts it too and the batches behind it keep their numbers. Data loaders build a
    batch ahead, so one draw may come before the update of the batch before it; to make no difference (not even when a killed run draws
    that batch again), a swap of batch m acts at its pool's first visit from batch m + 2 on.

    A slot starts with rank 0..n-1. Its S_0 is its score in the first loss that it takes part in; a replaced slot takes the next rank that
    the pool has not used. When no rank is left the slot keeps its negative and the pool counts as
    exhausted: the paper does not say what happens then, and dropping the negative would change the loss.

    Rules (`replaced`): `v2` looks at the pools of every update; `v1` at every `v1_interval`-th update, at all slots by their latest score;
    `static` never replaces; `random` draws n ranks anew for each batch, from the seed, the pool and the batch's number alone; `remined`
    waits for `refresh`. With `margin` set, `v2` and `v1` also replace what is `suspected` at any update.

    The state is a function of the batches' ids and scores, a discarded one having none. So processes that all see the whole batch's scores
    keep equal pools. Wherever a tensor is asked for, what `torch.as_tensor` takes (lists, numpy arrays) will do.

    Args:
        candidates: (P, K) corpus rows of each pool, best first, whole numbers; -1 fills the end of a pool that has fewer than K.
        n: negatives in use for each pool, at least 1.
        options: the rule and its thresholds.
        seed: of the rule `random`, from 0.
        positives: (P,) the corpus row of each pool's own positive, -1 where the corpus lacks it; a pool that holds its own is refused, as
            nothing else here would see it.

    Raises:
        UserError: n or seed is no such whole number, options are no DhnmOptions, or the candidates are none: see `pool_candidates`.
    """

    def __init__(self, candidates: Tensor, n: int, options: DhnmOptions | None = None, seed: int = 0, positives: Tensor | None = None):
        self.n, self.seed = whole_number("n", n, 1), whole_number("seed", seed, 0)
        if not isinstance(options, DhnmOptions | None):
            raise UserError(f"negatives: options must be DhnmOptions, not {type(options).__name__}: give DhnmOptions(rule=..., ...)")
        self.options, self._positives = options or DhnmOptions(), positives
        self.updates = self.swaps = self.scored = 0
        self.score_sum = 0.0
        self._waiting: list[Tensor] = []  # pool ids of the batches drawn and neither updated nor discarded, oldest first
        self._start(candidates)

    def _start(self, candidates: Tensor) -> None:
        """Every slot at its first rank, nothing seen yet."""
        self.candidates = pool_candidates(candidates, self.n, self._positives)
        self.available = (self.candidates >= 0).sum(1)
        pools, n = len(self.candidates), self.n
        self.rank = torch.arange(n).repeat(pools, 1)
        self.previous = self.rank.clone()
        self.swapped_at = torch.full((pools, n), -2)  # the batch whose update put the rank in
        self.unused = torch.full((pools,), n)
        self.initial = torch.full((pools, n), torch.nan)
        self.latest = torch.full((pools, n), torch.nan)
        self.exhausted = torch.zeros(pools, dtype=torch.bool)

    def draw(self, pool_ids: Tensor) -> Tensor:
        """Corpus rows (B, n) of the negatives of the next batch, for pools (B,); a pool that is named twice gives the same rows twice.

        Raises:
            UserError: no such pool.
            RuntimeError: two batches wait for their update.
        """
        if len(self._waiting) > 1:
            waiting = f"{len(self._waiting)} batches drawn and not updated"
            raise RuntimeError(f"{waiting}: draw at most one batch ahead, with no workers, and update or discard each")
        pool_ids = tensor("pool_ids", pool_ids).cpu()
        if pool_ids.ndim != 1 or not whole(pool_ids) or ((pool_ids < 0) | (pool_ids >= len(self.candidates))).any():
            raise UserError(f"negatives: pool_ids must be whole numbers (B,) from 0 to {len(self.candidates) - 1}, not {pool_ids.tolist()}")
        ranks = self._ranks(pool_ids, self.updates + len(self._waiting))
        self._waiting.append(pool_ids.clone())
        return self.candidates[pool_ids].gather(1, ranks)

    @torch.no_grad()
    def update(self, pool_ids: Tensor, scores: Tensor, positive: Tensor | None = None) -> int:
        """Takes the scores (B, n) of the negatives drawn for pools (B,) and replaces by the rule; returns the number of swaps.

        Where several anchors of a batch share a pool (translations of one query), their scores are averaged first.

        Args:
            positive: (B,) scores of the anchors' positives; needed where `margin` is set.

        Raises:
            UserError: pool_ids are not those of the batch that was drawn, the scores have another shape, or are no cosines. Nothing is
                changed then: the batch can be discarded.
            RuntimeError: no batch is drawn.
        """
        pool_ids, scores = self._drawn(pool_ids), cosines("scores", scores)
        if scores.shape != (len(pool_ids), self.n):
            raise UserError(f"negatives: scores must have shape (B, n) = {(len(pool_ids), self.n)}, not {tuple(scores.shape)}")
        check_cosines("scores", scores)
        if self.options.margin is not None:
            positive = None if positive is None else cosines("positive", positive)
            if positive is None or positive.shape != (len(pool_ids),):
                given = "None" if positive is None else f"of shape {tuple(positive.shape)}"
                raise UserError(
                    f"negatives: positive must have shape (B,) = ({len(pool_ids)},) where options.margin is set, and is {given}"
                )
            check_cosines("positive", positive)
        pools, place, count = pool_ids.unique(return_inverse=True, return_counts=True)
        self.score_sum += scores.sum().item()
        self.scored += scores.numel()
        now = torch.zeros(len(pools), self.n).index_add_(0, place, scores) / count[:, None]
        too_close = torch.zeros(len(pools), self.n, dtype=torch.bool)
        if self.options.margin is not None:
            mean_positive = torch.zeros(len(pools)).index_add_(0, place, positive) / count
            too_close = suspected(now, mean_positive, self.options.margin)
        if self.options.rule != "random":
            fresh = self._ranks(pools, self.updates) == self.rank[pools]  # else the score is of the negative that has just left
            now, too_close = torch.where(fresh, now, self.latest[pools]), too_close & fresh
            self.latest[pools] = now
            self.initial[pools] = torch.where(self.initial[pools].isnan(), now, self.initial[pools])
        return self._finish(pools, too_close)

    def discard(self, pool_ids: Tensor) -> int:
        """Ends a drawn batch that gets no update: it counts as a batch, scores nothing, and its negatives stay in use.

        Every process that shares the pool must discard it. Returns the swaps: v1's look at all pools may fall on this batch.

        Raises:
            UserError, RuntimeError: as in `update`.
        """
        self._drawn(pool_ids)
        return self._finish(torch.empty(0, dtype=torch.long), torch.zeros(0, self.n, dtype=torch.bool))

    def _drawn(self, pool_ids: Tensor) -> Tensor:
        """The pool ids, known to be those of the oldest batch that waits."""
        if not self._waiting:
            raise RuntimeError("update before draw: every update, or discard, ends one drawn batch")
        pool_ids = tensor("pool_ids", pool_ids).cpu()
        if pool_ids.tolist() != self._waiting[0].tolist():
            raise UserError(
                "negatives: pool_ids are not those of the batch drawn: update or discard with each batch's own, in the order of the draws"
            )
        return pool_ids

    def _finish(self, pools: Tensor, too_close: Tensor) -> int:
        """Replaces by the rule after a batch that scored `pools`, and ends it; returns the number of swaps."""
        swaps = self._replace(pools, too_close) if self.options.rule in ("v2", "v1") else 0
        self.swaps += swaps
        self.updates += 1
        del self._waiting[0]
        return swaps

    def refresh(self, candidates: Tensor) -> int:
        """New candidates (P, K) for every pool, ranked by the model as it is now (rule `remined`); returns how many in use are new.

        Raises:
            UserError: as at the start, and nothing is changed.
            RuntimeError: another number of pools, or a batch was drawn ahead: its scores would belong to candidates that are gone.
        """
        candidates = tensor("candidates", candidates)
        if self._waiting or len(candidates) != len(self.candidates):
            raise RuntimeError(f"refresh with {len(self._waiting)} batches drawn ahead and {len(candidates)} pools: see its docstring")
        before = self.candidates.gather(1, self.rank)
        self._start(candidates)
        swaps = int((self.candidates[:, : self.n, None] != before[:, None]).all(2).sum())
        self.swaps += swaps
        return swaps

    def swapped_in(self, pool_ids: Tensor) -> Tensor:
        """Which negatives (B, n) of the batch that waits for its update came in by a swap; bool. A swap is worth something only here: a
        short run over many pools may never visit its pool again.

        Raises:
            UserError, RuntimeError: as in `update`.
        """
        pool_ids = self._drawn(pool_ids)
        if self.options.rule == "random":
            return torch.zeros(len(pool_ids), self.n, dtype=torch.bool)
        return self._ranks(pool_ids, self.updates) >= self.n

    def log(self) -> dict[str, float]:
        """Mean score of the negatives in use since the last call, swaps so far, and the share of exhausted pools."""
        mean = self.score_sum / self.scored if self.scored else float("nan")
        self.score_sum, self.scored = 0.0, 0
        return {"mean_score": mean, "swaps": self.swaps, "exhausted": self.exhausted.float().mean().item() if len(self.exhausted) else 0.0}

    _TENSORS = ("rank", "previous", "swapped_at", "unused", "initial", "latest", "exhausted")
    _COUNTERS = ("updates", "swaps", "scored", "score_sum")

    def state_dict(self) -> dict[str, Any]:
        """All that changes in training, copied: tensors and counters. The candidates are in it only where they are mined again."""
        tensors = (*self._TENSORS, "candidates") if self.options.rule == "remined" else self._TENSORS
        return {name: getattr(self, name).clone() for name in tensors} | {name: getattr(self, name) for name in self._COUNTERS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on exactly where `state_dict` was taken. UserError if it is no such state, or one of other pools."""
        own = self.state_dict()
        own.pop("candidates", None)  # re-mined ones may be of another K
        check_state(state, own)
        candidates = self.candidates
        if "candidates" in state:
            candidates = pool_candidates(state["candidates"], self.n, self._positives)
        if len(candidates) != len(self.candidates) or (state["unused"] > (candidates >= 0).sum(1)).any():
            raise UserError("negatives: the checkpoint used more candidates than the pools have: it belongs to other candidates, delete it")
        if "candidates" in state:
            self._start(candidates)
        for name in self._TENSORS:
            setattr(self, name, state[name].clone())
        for name in self._COUNTERS:
            setattr(self, name, state[name])
        self._waiting = []  # what was drawn ahead is drawn again

    def _ranks(self, pool_ids: Tensor, batch: int) -> Tensor:
        """The ranks (B, n) that batch number `batch` uses."""
        if self.options.rule != "random":
            return torch.where(self.swapped_at[pool_ids] + 2 <= batch, self.rank[pool_ids], self.previous[pool_ids])
        draws = [
            np.random.default_rng([self.seed, batch, pool]).choice(available, self.n, replace=False)
            for pool, available in zip(pool_ids.tolist(), self.available[pool_ids].tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(draws))

    def _replace(self, scored: Tensor, too_close: Tensor) -> int:
        """Applies the rule to the pools that are due: the scored ones, and all of them where v1's iteration has come."""
        iteration, due = self.updates + 1, scored
        if self.options.rule == "v1" and iteration % self.options.v1_interval == 0:
            due = torch.arange(len(self.rank))
        wanted = replaced(self.initial[due], self.latest[due], iteration, self.options)
        wanted[torch.isin(due, scored)] |= too_close
        next_rank = self.unused[due, None] + wanted.cumsum(1) - 1  # slots that leave take the unused ranks in order
        swap = wanted & (next_rank < self.available[due, None])
        self.exhausted[due] |= (wanted & ~swap).any(1)
        self.previous[due] = torch.where(swap, self.rank[due], self.previous[due])
        self.swapped_at[due] = self.swapped_at[due].masked_fill(swap, self.updates)
        self.rank[due] = torch.where(swap, next_rank, self.rank[due])
        self.initial[due] = self.initial[due].masked_fill(swap, torch.nan)
        self.latest[due] = self.latest[due].masked_fill(swap, torch.nan)
        self.unused[due] += swap.sum(1)
        return int(swap.sum())
