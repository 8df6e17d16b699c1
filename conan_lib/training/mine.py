"""Hard negatives: every anchor's ranked candidates, found once by the weak-stage model; NegativePool then chooses among them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import TrainerCallback

from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.files import replacing
from conan_lib.model.backbone import with_weights
from conan_lib.params.training import MineParams
from conan_lib.stages import Stage, computes
from conan_lib.training.arguments import training_device
from conan_lib.training.tasks import TASKS, Row

SEARCHED_AT_ONCE = 1024


@computes
def mine_negatives(stage: Stage) -> dict:
    """Stage `mine`: writes pools.npz with ids (P,), candidates (P, K) rows of the searched passages, -1 at the end where there are fewer,
    and their scores (P, K). Sets without an anchor, as of labels alone, have no pools.

    Raises:
        UserError: the weak model's weights are missing.
    """
    search = _search_of(stage)
    model = SentenceTransformer(with_weights(stage.inputs["weak"].path / "model"), device=training_device(stage.runtime))
    pools = search.rank(model)
    pools.save(stage.path / "pools.npz")
    means = {"mean_score": pools.scores, "mean_best": pools.scores[:, :1]}
    means = {name: float(np.nanmean(scores)) for name, scores in means.items() if np.isfinite(scores).any()}
    return {"pools": len(pools.ids), "passages": len(search.passages), **means}


def load_pools(stage: Stage) -> "Pools":
    """Those of a stage with input `mine`.

    Raises:
        UserError: the pools were not carried here with the artefact.
    """
    mined = stage.inputs["mine"]
    file = mined.path / "pools.npz"
    if not file.is_file():
        raise UserError(f"{file}: not here, parcels leave it out: delete {file.parent} to mine again")
    return Pools.load(file, _search_of(mined))


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
    own = dict.fromkeys(row["positive"] for name in _with_pools(rows) for row in TASKS[name].checked(rows[name]))
    passages += [{"text": text} for text in own if text not in known]
    return Search(rows, passages, options).rank(model)


def _with_pools(names: Mapping[str, object]) -> list[str]:
    return [name for name in names if TASKS[name].negatives == "pool"]


def _search_of(stage: Stage) -> "Search":
    """Of stage `mine`: the anchors of all tasks with pools, and the corpus."""
    sets = stage.inputs["sets"].path
    rows = {name: TASKS[name].rows(read(sets / f"{TASKS[name].table}.parquet")) for name in _with_pools(TASKS)}
    return Search(rows, read(sets / "passages.parquet"), stage.mine)


class Search:
    """What is searched, and with what: all that mining needs beside a model.

    A pool is searched with its anchor or its passage (see TaskSpec) among passages of the passage's language. The positive, its equals in
    text, and every positive of an anchor with the same text are left out; then the best `skip_ranks` are passed over. The negatives that a
    row brings join the passages, and stand before what is found in its own pool.

    Args:
        rows: by task; tasks without pools are passed over.
        corpus: passages, rows with text, and as they have them id and lang.
    """

    def __init__(self, rows: Mapping[str, Sequence[Row]], corpus: Sequence[Row], options: MineParams):
        self.options = options
        self.queries = _queries({name: TASKS[name].checked(rows[name]) for name in _with_pools(rows)}, corpus)
        self.passages = [{"text": passage["text"], "lang": passage.get("lang", "")} for passage in corpus]
        self._mined = len(self.passages)
        known = {passage["text"] for passage in self.passages}
        given = {text: query["lang"] for query in self.queries for text in query["given"] if text not in known}
        self.passages += [{"text": text, "lang": language} for text, language in given.items()]

    @cached_property
    def texts(self) -> list[str]:
        """The passages' texts, which candidates are rows of."""
        return [passage["text"] for passage in self.passages]

    def rank(self, model: SentenceTransformer, progress: bool = True) -> "Pools":
        """Every pool's candidates, best first behind those that were given, language by language."""
        ids, candidates, scores = [], [], []
        for language in sorted({query["lang"] for query in self.queries}):
            own = [query for query in self.queries if query["lang"] == language]
            few = [row for row, passage in enumerate(self.passages[: self._mined]) if passage["lang"] == language]
            few = few[: self.options.max_corpus]
            # given negatives are searched whatever the limit, also those that the corpus holds beyond it or in another language
            found, given = {self.texts[row] for row in few}, {text for query in own for text in query["given"]}
            brought = {text: row for row, text in enumerate(self.texts) if text in given and text not in found}
            rows = np.array([*few, *brought.values()], dtype=np.int64)
            found, similarity = _search(
                model, own, [self.texts[row] for row in rows], self.options.candidates, self.options.skip_ranks, progress
            )
            ids += [query["pool"] for query in own]
            candidates.append(np.append(rows, -1)[found])  # place -1 is none
            scores.append(similarity)
        width = max((found.shape[1] for found in candidates), default=self.options.candidates)
        return Pools(ids, _stacked(candidates, width, -1), _stacked(scores, width, np.nan), self)


@dataclass(frozen=True)
class Pools:
    """Pool ids (P), candidates (P, K) as rows of the search's passages, -1 where there are fewer, and their cosines (P, K)."""

    ids: Sequence[str]
    candidates: np.ndarray
    scores: np.ndarray
    search: Search

    @cached_property
    def place(self) -> dict[str, int]:
        """The number of each pool id."""
        return {str(pool): number for number, pool in enumerate(self.ids)}

    @property
    def texts(self) -> list[str]:
        return self.search.texts

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
            found = [self.search.rank(self.model, progress=False).candidates]
        if self.loss.world > 1:
            torch.distributed.broadcast_object_list(found)
        self.loss.seen["swaps"] = self.loss.seen.get("swaps", 0) + pool.refresh(torch.from_numpy(found[0]))


def _queries(rows: Mapping[str, Sequence[Row]], corpus: Sequence[Row]) -> list[dict]:
    """One query for each pool: its id, text, language, the texts that are no negatives of it, and those that its rows bring."""
    by_id = {passage["id"]: passage.get("lang", "") for passage in corpus if "id" in passage}
    by_text = {passage["text"]: passage.get("lang", "") for passage in corpus}
    positives = defaultdict(set)
    for name, own in rows.items():
        for row in own if TASKS[name].pool_by == "anchor" else ():
            positives[row["anchor"]] |= {row["anchor"], row["positive"]}
    queries: dict[str, dict] = {}
    for name, own in rows.items():
        for row in own:
            pool, text = TASKS[name].pool_id(row), TASKS[name].query(row)
            language = by_id[row["positive_id"]] if row["positive_id"] in by_id else by_text.get(row["positive"], "")
            excluded = {text} if TASKS[name].pool_by == "passage" else positives[text]
            query = queries.setdefault(pool, {"pool": pool, "text": text, "lang": language, "excluded": excluded, "given": {}})
            if TASKS[name].pool_by == "anchor":
                query["prompt"] = row.get("prompt")
            query["given"] |= dict.fromkeys(negative for negative in row.get("negatives") or () if negative not in excluded)
    return list(queries.values())


def _stacked(parts: list[np.ndarray], width: int, fill: float) -> np.ndarray:
    """Arrays (P_i, K_i) one below the other, filled up to K at their ends; (0, K) of none."""
    filled = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=fill) for part in parts]
    return np.concatenate(filled) if filled else np.full((0, width), fill)


def _search(
    model, queries: list[dict], passages: list[str], wanted: int, skipped: int, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """What each query was given, then its `wanted` best passages after the `skipped` best, without the excluded ones -> places (Q, K), -1
    for none, and their cosines (Q, K), NaN for none. What is given must be among the passages."""
    index, asked = _vectors(model, passages, [(query.get("prompt"), query["text"]) for query in queries], progress)
    columns = defaultdict(list)
    for column, text in enumerate(passages):
        columns[text].append(column)
    given = [[columns[text][0] for text in query.get("given", ())] for query in queries]
    width, depth = wanted + max(map(len, given)), min(wanted + skipped, len(passages))
    found = np.full((len(queries), width), -1)
    cosine = np.full((len(queries), width), np.nan, dtype=np.float32)
    for start in range(0, len(queries), SEARCHED_AT_ONCE):
        block = queries[start : start + SEARCHED_AT_ONCE]
        scores = asked[start : start + SEARCHED_AT_ONCE] @ index.T
        brought = [scores[row, own].cpu().numpy() for row, own in enumerate(given[start : start + SEARCHED_AT_ONCE])]
        left_out = [(*query["excluded"], *query.get("given", ())) for query in block]
        pairs = [(row, column) for row, texts in enumerate(left_out) for text in texts for column in columns.get(text, ())]
        scores[tuple(torch.tensor(pairs, dtype=torch.long).view(-1, 2).T)] = -torch.inf
        best = scores.topk(depth, dim=1)
        values, places = best.values[:, skipped:].cpu().numpy(), best.indices[:, skipped:].cpu().numpy()
        valid = np.isfinite(values)
        for row, own in enumerate(given[start : start + SEARCHED_AT_ONCE]):
            kept, end = valid[row], len(own) + int(valid[row].sum())
            found[start + row, :end] = [*own, *places[row][kept]]
            cosine[start + row, :end] = [*brought[row], *values[row][kept]]
    return found, cosine


def _vectors(model, passages: list[str], queries: list[tuple[str | None, str]], progress: bool) -> tuple[Tensor, Tensor]:
    """Unit vectors of passages (N, D) and queries (Q, D), each distinct text encoded once, under a query's own prompt or that of its side
    which the model brings."""
    options = {"batch_size": 128 if model.device.type == "cpu" else 512, "convert_to_tensor": True, "normalize_embeddings": True}
    document, query = (model.prompts.get(side) or "" for side in ("document", "query"))
    sides = [(document, text) for text in passages] + [(prompt or query, text) for prompt, text in queries]
    place, found = {}, []
    for prompt in dict.fromkeys(prompt for prompt, _ in sides):
        texts = list(dict.fromkeys(text for own, text in sides if own == prompt))
        place |= {(prompt, text): len(place) + number for number, text in enumerate(texts)}
        found.append(model.encode(texts, show_progress_bar=progress, prompt=prompt or None, **options))
    vectors = torch.cat(found)[[place[side] for side in sides]]
    return vectors[: len(passages)], vectors[len(passages) :]
