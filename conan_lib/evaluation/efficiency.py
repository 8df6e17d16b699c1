"""Stage efficiency: what a smaller vector costs in quality, and how fast each system encodes, side by side (the paper's Table 5).

A vector is made smaller in two ways: fewer channels (Matryoshka), and fewer bits a channel. Passages are what an index stores, so they are
quantised, by sentence-transformers; a query stays as it is, except under `binary`, where both sides are bits:

    float32           q . c                                       4 bytes a channel
    int8              q . c'   c' decoded from 256 steps a channel, between the corpus' minimum and maximum; 1 byte a channel
    binary            the fewest different signs (Hamming)        1 bit a channel
    binary, rescored  q . sign(c)                                 1 bit a channel

`rescored` scores every passage so, where an index would do it for those nearest by Hamming: what rescoring reaches at best.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.types import PromptType
from sentence_transformers.util import get_device_name
from sentence_transformers.util.quantization import quantize_embeddings

from conan_lib.artefacts import write_json
from conan_lib.data.records import read
from conan_lib.evaluation.encoder import Encoder, load_sentence_transformer
from conan_lib.evaluation.peers import PEER_ENCODERS
from conan_lib.evaluation.run import checkpoint_encoder
from conan_lib.evaluation.statistics import interval_of, resampled_means
from conan_lib.evaluation.tasks import load_tasks
from conan_lib.evaluation.timing import fitting, rates, take_turns
from conan_lib.model.backbone import count_parameters, random_encoder
from conan_lib.params.evaluation import SizeParams, TasksParams
from conan_lib.stages import Stage, computes

MODELS = ("weak", "supervised")
"""Ours whose vectors are cut and quantised: trained without prefixes of the vector, and with them."""
OURS = "supervised"
PRECISIONS = ("float32", "int8", "binary", "binary, rescored")
METRIC = "recall_at_10"
MRL_PEERS = frozenset(("wordllama",))
"""Peers whose authors trained prefixes of the vector to serve alone."""
DOCUMENTS = 1_000_000
"""Passages of the index whose size is stated."""


@computes
def measure_efficiency(stage: Stage) -> dict:
    """Write quality.json (recall by channels and precision) and speed.json (texts per second of ours, of other sizes of ours, of peers).

    quality.json is empty where the tasks are a suite of the hub. Killed and run again, the stage starts anew: it takes seconds.

    Raises:
        UserError: a model or the tasks are missing, or a peer's package is.
    """
    encoders = {name: checkpoint_encoder(stage, name, stage.efficiency.batch_size) for name in MODELS}
    quality, speed = _quality(stage, encoders), _speed(stage, encoders[OURS])
    write_json(stage.path / "quality.json", quality)
    write_json(stage.path / "speed.json", speed)
    return {"documents": DOCUMENTS, "texts_per_second": {row["model"]: round(row["rate"], 1) for row in speed}}


def truncate(vectors: np.ndarray, dim: int) -> np.ndarray:
    """The first `dim` channels, scaled to length 1 again (Matryoshka). Shape (N, dim)."""
    vectors = vectors[:, :dim]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def as_scored(queries: np.ndarray, corpus: np.ndarray, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """Queries (Q, D) and passages (C, D) such that their dot product ranks as `precision` does; see the module."""
    if precision == "int8":
        ranges = np.stack([corpus.min(axis=0), corpus.max(axis=0)])
        steps = quantize_embeddings(corpus, "int8", ranges).astype(np.float32) + 128
        return queries, ranges[0] + (steps + 0.5) * (ranges[1] - ranges[0]) / 255  # the middle of each step
    if precision == "binary":
        return _signs(queries), _signs(corpus)  # of D channels H differ: the dot product is D - 2 H
    return queries, _signs(corpus) if precision == "binary, rescored" else corpus


def _signs(vectors: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(quantize_embeddings(vectors, "ubinary"), axis=1, count=vectors.shape[1])
    return 2 * bits.astype(np.float32) - 1


def bytes_of(dim: int, precision: str) -> int:
    """What a passage takes in a flat index; the two float32 a channel of int8's ranges are stored once and not counted."""
    return {"float32": 4 * dim, "int8": dim}.get(precision, -(-dim // 8))


def recall_at_k(queries: np.ndarray, corpus: np.ndarray, relevant: list[set[int]], k: int = 10) -> np.ndarray:
    """Share of the relevant passages among the k with the largest dot product, as trec_eval's recall_k.

    Bits tie often. A tie is broken at random, and this is the expected value: a passage below a others and level with t (itself included)
    is found with probability (k - a) / t, between 0 and 1.

    Args:
        queries: shape (Q, D).
        corpus: shape (C, D).
        relevant: rows of `corpus` that each query should find.

    Returns:
        Shape (Q,).
    """
    scores = queries @ corpus.T
    counts = np.array([len(rows) for rows in relevant])
    query = np.repeat(np.arange(len(queries)), counts)
    passage = np.array([row for rows in relevant for row in sorted(rows)])
    own = scores[query, passage][:, None]
    above, level = (scores[query] > own).sum(axis=1), (scores[query] == own).sum(axis=1)
    return np.bincount(query, np.clip((k - above) / level, 0, 1), len(queries)) / counts


def curve(encoder: Encoder, task, dims: tuple[int, ...], params: TasksParams) -> list[dict]:
    """Recall at 10 of one model on one retrieval task, by channels and precision, beside that of the whole vector in float32.

    Args:
        task: a local task; the value is the mean over its subsets (languages), as mteb's is.
        dims: channels kept; the whole width is always added.

    Returns:
        Rows {task, type, metric, dim, precision, bytes, index_mb, n, value, low, high, difference, difference_low, difference_high, kept,
        kept_low, kept_high}. `difference` is value - value of the whole vector, `kept` is their quotient (null where that is 0).
        Intervals resample passages with all their queries, paired between cells.
    """
    task.load_data()
    splits = [_Split.of(encoder, task.metadata, subset[task.split]) for subset in task.dataset.values()]
    width = splits[0].corpus.shape[1]
    clusters = [cluster for split in splits for cluster in split.clusters]

    def cell(dim: int, precision: str) -> tuple[float, np.ndarray]:
        values = [split.recall(dim, precision) for split in splits]
        mean = float(np.mean([one.mean() for one in values]))
        return mean, resampled_means(np.concatenate(values), params.bootstrap, params.seed, clusters)

    whole, whole_means = cell(width, "float32")
    rows = []
    for dim in sorted({*dims, width}):
        for precision in PRECISIONS:
            value, means = cell(dim, precision)
            shares = np.divide(means, whole_means, out=np.full(len(means), np.nan), where=whole_means > 0)
            size = bytes_of(dim, precision)
            rows.append(
                {"task": task.metadata.name, "type": task.kind, "metric": METRIC, "dim": dim, "precision": precision, "bytes": size,
                 "index_mb": size * DOCUMENTS / 1e6, "n": len(clusters), **_with_interval("value", value, means),
                 **_with_interval("difference", value - whole, means - whole_means),
                 **_with_interval("kept", value / whole if whole > 0 else None, shares)}
            )  # fmt: skip
    return rows


@dataclass(frozen=True)
class _Split:
    """The vectors of one subset of a retrieval task, computed once for all cells."""

    queries: np.ndarray
    corpus: np.ndarray
    relevant: list[set[int]]
    clusters: list[str]

    @classmethod
    def of(cls, encoder: Encoder, metadata: TaskMetadata, data: dict) -> "_Split":
        asked, corpus = data["queries"][:], data["corpus"][:]
        place = {passage: row for row, passage in enumerate(corpus["id"])}
        found = [[p for p, grade in data["relevant_docs"][q].items() if grade > 0] for q in asked["id"]]
        relevant, clusters = [{place[p] for p in passages} for passages in found], [min(passages) for passages in found]
        queries = encoder.of_task(asked["text"], metadata, PromptType.query)
        return cls(queries, encoder.of_task(corpus["text"], metadata, PromptType.document), relevant, clusters)

    def recall(self, dim: int, precision: str) -> np.ndarray:
        queries, corpus = as_scored(truncate(self.queries, dim), truncate(self.corpus, dim), precision)
        return recall_at_k(queries, corpus, self.relevant)


def _with_interval(name: str, value: float | None, resampled: np.ndarray) -> dict[str, float | None]:
    low, high = (None, None) if value is None else interval_of(resampled)
    prefix = "" if name == "value" else f"{name}_"
    return {name: value, f"{prefix}low": low, f"{prefix}high": high}


def _quality(stage: Stage, encoders: dict[str, Encoder]) -> list[dict]:
    """The cross-lingual task and the first monolingual retrieval task, for each model."""
    if stage.tasks.suite != "embedded":
        return []
    tasks = load_tasks(stage.inputs["data"].path, stage.tasks)
    chosen = filter(None, (next((task for task in tasks if task.kind == kind), None) for kind in ("crosslingual", "retrieval")))
    return [
        {"model": name, **row}
        for task in chosen
        for name, encoder in encoders.items()
        for row in curve(encoder, task, stage.efficiency.dims, stage.tasks)
    ]


def _speed(stage: Stage, ours: Encoder) -> list[dict]:
    """Rows {model, kind, parameters, embedding_parameters, dim, max_tokens, mrl, threads, device, texts, rate, low, high, ratio,
    ratio_low, ratio_high, repeats}: `rate` is in texts a second, `ratio` is to ours in the same round; `texts` is how many a call had;
    `device` is where ours ran."""
    params = stage.efficiency
    rows = [row["text"] for row in read(stage.inputs["data"].path / "mixing.parquet")]
    texts = random.Random(0).sample(rows, min(params.texts, len(rows)))  # so that any first n of them are in all languages
    prefixes = len(stage.inputs[OURS].supervised.matryoshka_dims) > 1
    systems: dict[str, tuple[Callable, dict]] = {OURS: (ours.raw, facts_of(ours, "ours", prefixes))}
    systems |= {name: _random(stage, size) for name, size in params.sizes.items()}
    for name in PEER_ENCODERS if params.peers is None else params.peers:
        peer = PEER_ENCODERS[name](stage.runtime.threads)
        systems[name] = peer.raw, facts_of(peer, "peer", name in MRL_PEERS)
    n = {name: fitting(lambda n, e=encode: e(texts[:n]), len(texts), params.call_seconds, "cpu") for name, (encode, _) in systems.items()}
    calls = {name: lambda e=encode, own=texts[: n[name]]: e(own) for name, (encode, _) in systems.items()}
    found = rates(take_turns(calls, params.repeats, "cpu", seed=0), n, OURS)  # every encoder returns numpy: nothing is left to wait for
    device = get_device_name() if stage.runtime.device == "auto" else stage.runtime.device
    ran = {"threads": stage.runtime.threads, "device": device}
    return [{"model": name, **facts, **ran, "texts": n[name], **found[name]} for name, (_, facts) in systems.items()]


def facts_of(encoder: Encoder, kind: str, mrl: bool) -> dict:
    """What the practical table says of a system besides its speed."""
    meta = encoder.mteb_model_meta
    read = (meta.experiment_kwargs or {}).get("max_length", meta.max_tokens)  # some peers are cut shorter than they could read
    return {"kind": kind, "parameters": meta.n_parameters, "embedding_parameters": meta.n_embedding_parameters, "dim": meta.embed_dim,
            "max_tokens": None if read is None else int(read), "mrl": mrl}  # fmt: skip


def _random(stage: Stage, size: SizeParams) -> tuple[Callable, dict]:
    """Our supervised model with another backbone in its place: the same tokenizer, pooling and code."""
    model = load_sentence_transformer(stage.inputs[OURS].path / "model", stage.tasks.max_length, stage.runtime.device)
    model[0].model = random_encoder(size, size.vocab_size, device=model.device.type)
    facts = {"kind": "random weights", "parameters": count_parameters(size, size.vocab_size),
             "embedding_parameters": size.vocab_size * size.hidden_size, "dim": size.hidden_size, "max_tokens": stage.tasks.max_length,
             "mrl": None}  # fmt: skip
    return lambda texts: model.encode(texts, batch_size=stage.efficiency.batch_size, show_progress_bar=False), facts
