"""Hard negatives: every anchor's ranked candidates, found once by the weak-stage model; NegativePool then chooses among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from conan_lib.artefacts import ROWS
from conan_lib.data.mapped import mapped
from conan_lib.data.places import Places, digests
from conan_lib.errors import UserError
from conan_lib.files import replacing
from conan_lib.model.backbone import with_weights
from conan_lib.negatives import NegativePool
from conan_lib.params.training import MineParams, SupervisedParams
from conan_lib.stages import Stage, computes
from conan_lib.training.arguments import training_device
from conan_lib.training.search import Search, with_pools
from conan_lib.training.tasks import TASKS, Row


@computes
def mine_negatives(stage: Stage) -> dict:
    """Stage `mine`: writes pools.npz with ids (P,), candidates (P, K) rows of the searched passages, -1 at the end where there are fewer,
    and their scores (P, K). Sets without an anchor, as of labels alone, have no pools.

    Raises:
        UserError: the weak model's weights are missing.
    """
    search = _search_of(stage, stage.path / ROWS)
    model = SentenceTransformer(with_weights(stage.inputs["weak"].path / "model"), device=training_device(stage.runtime))
    pools = rank(search, model)
    pools.save(stage.path / "pools.npz")
    means = {"mean_score": pools.scores, "mean_best": pools.scores[:, :1]}
    means = {name: float(np.nanmean(scores)) for name, scores in means.items() if np.isfinite(scores).any()}
    return {"pools": len(pools.ids), "passages": len(search.texts), **means}


def load_pools(stage: Stage, folder: Path | None = None) -> "Pools":
    """Those of a stage with input `mine`; `folder` is that of `mapped`.

    Raises:
        UserError: the pools were not carried here with the artefact.
    """
    mined = stage.inputs["mine"]
    file = mined.path / "pools.npz"
    if not file.is_file():
        raise UserError(f"{file}: not here, parcels leave it out: delete {file.parent} to mine again")
    return Pools.load(file, _search_of(mined, folder))


def mine(model: SentenceTransformer, rows: Mapping[str, Sequence[Row]], options: MineParams, corpus: Sequence[str | Row] = ()) -> "Pools":
    """Ranked candidates for the rows of the tasks that have pools.

    Args:
        rows: by task; see TaskSpec for what a row holds.
        corpus: passages to search beside the rows' own: texts, or rows with text and maybe lang. An anchor searches the passages of its
            positive's language.

    Raises:
        UserError: a row lacks a field.
    """
    passages = [{"text": passage} if isinstance(passage, str) else passage for passage in corpus]
    known = {passage["text"] for passage in passages}
    own = dict.fromkeys(row["positive"] for name in with_pools(rows) for row in TASKS[name].checked(rows[name]))
    passages += [{"text": text} for text in own if text not in known]
    return rank(Search(rows, passages, options), model)


def rank(search: Search, model: SentenceTransformer, progress: bool = True) -> "Pools":
    """Every pool's candidates, as pools."""
    return Pools(*search.rank(model, progress), search)


def _search_of(stage: Stage, folder: Path | None) -> Search:
    """Of stage `mine`: the anchors of all tasks with pools, and the corpus."""
    sets = stage.inputs["sets"].path
    rows = {name: TASKS[name].rows(mapped(sets / f"{TASKS[name].table}.parquet", folder)) for name in with_pools(TASKS)}
    return Search(rows, mapped(sets / "passages.parquet", folder), stage.mine)


@dataclass(frozen=True)
class Pools:
    """Pool ids (P), candidates (P, K) as rows of the search's passages, -1 where there are fewer, and their cosines (P, K)."""

    ids: Sequence[str]
    candidates: np.ndarray
    scores: np.ndarray
    search: Search

    @cached_property
    def _places(self) -> Places:
        return Places(digests(map(str, self.ids)))

    def number(self, pool: str) -> int | None:
        """The number of a pool id; None where there is none."""
        return int(self._places.last(digests([pool]))[0]) if pool in self._places else None

    @property
    def texts(self) -> Sequence[str]:
        """What candidates are numbers of."""
        return self.search.texts

    def negatives(self, options: SupervisedParams) -> NegativePool:
        """The pool that trains, from its first ranks.

        Raises:
            UserError: a pool has fewer candidates than `hard_negatives`.
        """
        available, wanted = (self.candidates >= 0).sum(1), options.hard_negatives
        if len(available) and available.min() < wanted:
            worst = int(available.argmin())
            raise UserError(
                f"supervised.hard_negatives: {wanted} are more than the {available[worst]} candidates of pool {self.ids[worst]}: mine more "
                "(mine.candidates, mine.max_corpus) or use fewer negatives"
            )
        return NegativePool(torch.from_numpy(self.candidates), wanted, options.dhnm, options.seed)

    def save(self, file: str | Path) -> None:
        """Write ids, candidates and scores (npz); the passages are the search's."""
        with replacing(Path(file)) as new, open(new, "wb") as opened:
            np.savez(opened, ids=np.array(self.ids), candidates=self.candidates, scores=self.scores)

    @classmethod
    def load(cls, file: str | Path, search: Search) -> "Pools":
        """What `save` wrote, for the search that it was found by."""
        with np.load(file) as saved:
            return cls(saved["ids"], saved["candidates"], saved["scores"], search)


class Remining(TrainerCallback):
    """Every `remine_interval` steps the model as it is ranks the corpus anew, and the pool starts again (ANCE): the costly baseline.

    The first process searches and the others take its result, so that all pools agree. What the loss has `seen` counts the negatives in
    use that changed as swaps.
    """

    def __init__(self, search: Search, model: SentenceTransformer, loss):
        """search: how the pool's candidates were found; loss: holds the pool."""
        self.search, self.model, self.loss = search, model, loss

    def on_step_end(self, args, state, control, **_):
        pool = self.loss.pool
        if state.global_step % pool.options.remine_interval or state.global_step == state.max_steps:
            return
        found = [None]
        if state.is_world_process_zero:
            found = [rank(self.search, self.model, progress=False).candidates]
        if self.loss.world > 1:
            torch.distributed.broadcast_object_list(found)
        self.loss.seen["swaps"] = self.loss.seen.get("swaps", 0) + pool.refresh(torch.from_numpy(found[0]))
