"""Hard negatives: every anchor's ranked candidates, found once by the weak-stage model; NegativePool then chooses among them."""

from collections import defaultdict

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from conan_lib.artefacts import replacing
from conan_lib.data.records import read
from conan_lib.errors import UserError
from conan_lib.model.backbone import with_weights
from conan_lib.params.training import MineParams
from conan_lib.stages import Stage, computes

PAIR_TASKS = ("retrieval", "clr")
"""Tasks whose anchors have hard negatives."""
SEARCHED_AT_ONCE = 1024


def pool_of(task: str, row: dict) -> str:
    """The pool id of a training row: its own for retrieval; that of the passage for CLR, because a translated query inherits the hard
    negatives of the query that it was translated from."""
    return row["positive_id"] if task == "clr" else row["id"]


@computes
def mine_negatives(stage: Stage) -> dict:
    """Stage `mine`: writes pools.npz with ids (P,), candidates (P, K) rows of corpus.parquet, -1 at the end where there are fewer, and
    their scores (P, K).

    A retrieval pool is searched with its anchor, a CLR pool with its passage, both among passages of the passage's language. The positive,
    its equals in text, and every positive of an anchor with the same text are left out; then the best `skip_ranks` are passed over.

    Raises:
        UserError: there are no anchors, or the weak model's weights are missing.
    """
    corpus, queries = _corpus_and_queries(stage)
    if not queries:
        raise UserError("retrieval.parquet, clr.parquet: no anchors to mine negatives for: check the data stage")
    model = SentenceTransformer(with_weights(stage.inputs["weak"].path / "model"), device=stage.device)
    ids, candidates, scores = rank_candidates(model, corpus, queries, stage.mine)
    with replacing(stage.path / "pools.npz") as new, open(new, "wb") as file:
        np.savez(file, ids=np.array(ids), candidates=candidates, scores=scores)
    first = scores[:, 0]
    return {"pools": len(ids), "passages": len(corpus), "mean_score": float(np.nanmean(scores)), "mean_best": float(np.nanmean(first))}


def load_pools(stage: Stage) -> tuple[dict[str, int], np.ndarray, list[str]]:
    """Of a stage with inputs `mine` and `data`: number of each pool id, candidates (P, K), and the corpus' texts that they are rows of.

    Raises:
        UserError: the pools were not carried here with the artefact.
    """
    file = stage.inputs["mine"].path / "pools.npz"
    if not file.is_file():
        raise UserError(f"{file}: not here, parcels leave it out: delete {file.parent} to mine again")
    with np.load(file) as pools:
        ids, candidates = pools["ids"], pools["candidates"]
    texts = [passage["text"] for passage in read(stage.inputs["data"].path / "corpus.parquet")]
    return {str(pool): number for number, pool in enumerate(ids)}, candidates, texts


class Remining(TrainerCallback):
    """Every `remine_interval` steps the model as it is ranks the corpus anew, and the pool starts again (ANCE): the costly baseline.

    The first process searches and the others take its result, so that all pools agree. What the loss has `seen` counts the negatives in
    use that changed as swaps.
    """

    def __init__(self, stage: Stage, model: SentenceTransformer, loss):
        """stage: `supervised`, whose input `mine` says how to search; loss: holds the pool."""
        self.model, self.loss, self.section = model, loss, stage.inputs["mine"].mine
        self.corpus, self.queries = _corpus_and_queries(stage)

    def on_step_end(self, args, state, control, **_):
        pool = self.loss.pool
        if state.global_step % pool.options.remine_interval or state.global_step == state.max_steps:
            return
        found = [None]
        if state.is_world_process_zero:
            found = [rank_candidates(self.model, self.corpus, self.queries, self.section, progress=False)[1]]
        if self.loss.world > 1:
            torch.distributed.broadcast_object_list(found)
        self.loss.seen["swaps"] = self.loss.seen.get("swaps", 0) + pool.refresh(torch.from_numpy(found[0]))


def rank_candidates(
    model: SentenceTransformer, corpus: list[dict], queries: list[dict], section: MineParams, progress: bool = True
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Pool ids (P), candidates (P, K) as rows of the corpus, -1 where there are fewer, and their cosines (P, K), language by language."""
    ids, candidates, scores = [], [], []
    for language in sorted({query["lang"] for query in queries}):
        own = [query for query in queries if query["lang"] == language]
        rows = np.array([row for row, passage in enumerate(corpus) if passage["lang"] == language][: section.max_corpus])
        found, similarity = _search(model, own, [corpus[row]["text"] for row in rows], section.candidates, section.skip_ranks, progress)
        ids += [query["pool"] for query in own]
        candidates.append(np.where(found >= 0, rows[found], -1))
        scores.append(similarity)
    return ids, np.concatenate(candidates), np.concatenate(scores)


def _corpus_and_queries(stage: Stage) -> tuple[list[dict], list[dict]]:
    data = stage.inputs["data"].path
    corpus = read(data / "corpus.parquet")
    return corpus, _queries({task: read(data / f"{task}.parquet") for task in PAIR_TASKS}, {p["id"]: p for p in corpus})


def _queries(tables: dict[str, list[dict]], passages: dict[str, dict]) -> list[dict]:
    """One query for each pool: its id, text, language, and the texts that are no negatives of it."""
    positives = defaultdict(set)
    for row in tables["retrieval"]:
        positives[row["anchor"]] |= {row["anchor"], row["positive"]}
    queries = {}
    for task, rows in tables.items():
        for row in rows:
            language = passages[row["positive_id"]]["lang"]
            text = row["positive"] if task == "clr" else row["anchor"]
            excluded = {text} if task == "clr" else positives[text]
            queries[pool_of(task, row)] = {"pool": pool_of(task, row), "text": text, "lang": language, "excluded": excluded}
    return list(queries.values())


def _search(
    model, queries: list[dict], passages: list[str], wanted: int, skipped: int, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The `wanted` best passages of each query after the `skipped` best, without the excluded ones -> places (Q, K), -1 for none, and
    their cosines (Q, K), NaN for none."""
    texts = list(dict.fromkeys([*passages, *(query["text"] for query in queries)]))
    place = {text: number for number, text in enumerate(texts)}
    size = 128 if model.device.type == "cpu" else 512
    vectors = model.encode(texts, batch_size=size, convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=progress)
    index = vectors[[place[text] for text in passages]]
    columns = defaultdict(list)
    for column, text in enumerate(passages):
        columns[text].append(column)
    depth = min(wanted + skipped, len(passages))
    found = np.full((len(queries), wanted), -1)
    cosine = np.full((len(queries), wanted), np.nan, dtype=np.float32)
    for start in range(0, len(queries), SEARCHED_AT_ONCE):
        block = queries[start : start + SEARCHED_AT_ONCE]
        scores = vectors[[place[query["text"]] for query in block]] @ index.T
        pairs = [(row, column) for row, query in enumerate(block) for text in query["excluded"] for column in columns.get(text, ())]
        scores[tuple(torch.tensor(pairs, dtype=torch.long).view(-1, 2).T)] = -torch.inf
        best = scores.topk(depth, dim=1)
        values, places = best.values[:, skipped:].cpu().numpy(), best.indices[:, skipped:].cpu().numpy()
        valid, rows = np.isfinite(values), slice(start, start + len(block))
        found[rows, : values.shape[1]] = np.where(valid, places, -1)
        cosine[rows, : values.shape[1]] = np.where(valid, values, np.nan)
    return found, cosine
