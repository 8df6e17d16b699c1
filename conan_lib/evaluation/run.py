"""Stage evaluate: every checkpoint on the same tasks, the Matryoshka curve, and encoding speed."""

import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.types import PromptType

from conan_lib.artefacts import write_json
from conan_lib.evaluation.encoder import Encoder, own_encoder
from conan_lib.evaluation.scores import MEAN, compare, provenance, score
from conan_lib.evaluation.tasks import open_tasks
from conan_lib.stages import Stage

MODELS = {
    "random": ("pretrain", "random"),
    "pretrained": ("pretrain", "model"),
    "sft": ("sft", "model"),
    "weak": ("weak", "model"),
    "supervised": ("supervised", "model"),
}
"""Our checkpoints in the order of training: input stage and folder in it."""
DIMS_MODELS = ("weak", "supervised")
SPEED_REPEATS = 3


def evaluate(stage: Stage) -> Stage:
    """Score our five checkpoints on the tasks, through mteb.

    Writes mteb/ (mteb's own result files), items/ (values of single queries), scores.json, differences.json (each checkpoint against the
    one before it, paired), dims.json and speed.json. Killed and run again, it goes on with the first (model, task) not in mteb's files.

    Raises:
        UserError: the tasks or a model are missing, or a suite needs a hub that cannot be reached.
    """
    if stage.finished:
        return stage
    with stage.work() as work:
        if stage.finished:
            return stage
        torch.set_num_threads(stage.runtime.threads)
        data = stage.inputs["data"].path
        embedded = stage.tasks.suite == "embedded"
        tasks = open_tasks(data, stage.tasks)
        encoders = {name: checkpoint_encoder(stage, name, stage.evaluation.batch_size) for name in MODELS}
        rows = [row for encoder in encoders.values() for row in score(encoder, tasks, stage.path, stage.tasks, stage.evaluation.batch_size)]
        write_json(stage.path / "scores.json", rows)
        crosslingual = [task for task in tasks if task.kind == "crosslingual"]
        write_json(stage.path / "differences.json", _differences(stage, crosslingual))
        write_json(stage.path / "dims.json", _dims(stage, {name: encoders[name] for name in DIMS_MODELS}, tasks) if embedded else [])
        write_json(stage.path / "speed.json", _speed(stage, encoders, data))
        work.commit(_results(stage, rows))
    return stage


def recall_at_k(queries: np.ndarray, corpus: np.ndarray, relevant: list[set[int]], k: int = 10) -> np.ndarray:
    """Share of the relevant passages among the k nearest by cosine, as trec_eval's recall_k.

    Args:
        queries: unit vectors, shape (Q, D).
        corpus: unit vectors, shape (C, D).
        relevant: rows of `corpus` that each query should find.

    Returns:
        Shape (Q,).
    """
    scores = queries @ corpus.T
    k = min(k, len(corpus))
    top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return np.array([len(rows.intersection(found)) / len(rows) for rows, found in zip(relevant, top.tolist(), strict=True)])


def truncate(vectors: np.ndarray, dim: int) -> np.ndarray:
    """The first `dim` channels, scaled to length 1 again (Matryoshka). Shape (N, dim)."""
    vectors = vectors[:, :dim]
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def checkpoint_encoder(stage: Stage, name: str, batch_size: int) -> Encoder:
    """One of MODELS, from a stage that has it and the data among its inputs and a section `tasks`."""
    source, folder = MODELS[name]
    artefact = stage.inputs[source]
    sources = json.loads((stage.inputs["data"].path / "sources.json").read_text(encoding="utf-8"))
    return own_encoder(
        name, artefact.path / folder, artefact.key, stage.tasks.max_length, batch_size, stage.runtime.device, sources,
        prompts=stage.tasks.prompts, released=artefact.artefact.manifest["finished_at"][:10],
    )  # fmt: skip


def _differences(stage: Stage, tasks: list) -> list[dict]:
    return [
        compare(stage.path, before, after, task.metadata.name, metric, stage.tasks)
        for task in tasks
        for metric in ("recall_at_10", "recall_at_1")
        for before, after in pairwise(MODELS)
    ]


def _dims(stage: Stage, encoders: dict[str, Encoder], tasks: list) -> list[dict]:
    """Recall at 10 by truncation, in cross-lingual retrieval (mean of the languages) and the first monolingual retrieval task.

    Computed from the vectors themselves; at the full dimension it equals mteb's score."""
    dims = stage.evaluation.dims
    chosen = [next(iter(t for t in tasks if t.kind == kind), None) for kind in ("crosslingual", "retrieval")]
    rows = []
    for task in filter(None, chosen):
        task.load_data()
        for name, encoder in encoders.items():
            values = np.mean([_task_recall(encoder, task.metadata, subset[task.split], dims) for subset in task.dataset.values()], axis=0)
            rows += [{"model": name, "task": task.metadata.name, "metric": "recall_at_10", "dim": dim, "value": float(value)}
                     for dim, value in zip(dims, values, strict=True)]  # fmt: skip
    return rows


def _task_recall(encoder: Encoder, metadata: TaskMetadata, data: dict, dims: tuple[int, ...]) -> list[float]:
    """Mean recall at each truncation."""
    place = {passage: row for row, passage in enumerate(data["corpus"]["id"][:])}
    relevant = [{place[p] for p, grade in data["relevant_docs"][q].items() if grade > 0} for q in data["queries"]["id"][:]]
    queries = encoder.of_task(data["queries"]["text"][:], metadata, PromptType.query)
    corpus = encoder.of_task(data["corpus"]["text"][:], metadata, PromptType.document)
    return [float(np.mean(recall_at_k(truncate(queries, dim), truncate(corpus, dim), relevant))) for dim in dims]


def _speed(stage: Stage, encoders: dict[str, Encoder], data: Path) -> list[dict]:
    """Texts per second of each model on the same texts, the best of a few runs one after the other, fast peers beside our own."""
    from conan_lib.data.records import read
    from conan_lib.evaluation.peers import PEER_ENCODERS, SLOW

    texts = [row["text"] for row in read(data / "mixing.parquet")][: stage.evaluation.speed_texts]
    systems = {**encoders, **{name: make(stage.runtime.threads) for name, make in PEER_ENCODERS.items()}}
    rows = []
    for name, system in systems.items():
        sample = texts if name not in SLOW else texts[:: max(1, len(texts) // 24)]  # some 20 texts a second: a share is enough
        system.raw(sample[:8])  # warm-up
        seconds = []
        for _ in range(SPEED_REPEATS if name not in SLOW else 1):
            start = time.perf_counter()
            system.raw(sample)
            seconds.append(time.perf_counter() - start)
        meta = system.mteb_model_meta
        rows.append({"model": name, "texts_per_second": len(sample) / min(seconds), "texts": len(sample), "parameters": meta.n_parameters,
                     "dim": meta.embed_dim, "threads": stage.runtime.threads})  # fmt: skip
    return rows


def _results(stage: Stage, rows: list[dict]) -> dict:
    """The numbers of the manifest: each model's main scores, and the cross-lingual mean with its interval."""
    main: dict[str, dict] = {}
    for row in rows:
        if row["subset"] in ("default", MEAN):
            main.setdefault(row["model"], {})[f"{row['task']} {row['metric']}"] = row["value"]
    return {
        "suite": stage.tasks.suite,
        "split": stage.tasks.split,
        "models": provenance(stage.path),
        "scores": main,
        "crosslingual": {
            row["model"]: {key: row[key] for key in ("value", "low", "high", "n")}
            for row in rows
            if row["subset"] == MEAN and row["metric"] == "recall_at_10"
        },
    }
