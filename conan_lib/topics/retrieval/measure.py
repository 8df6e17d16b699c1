"""The stages that score models on the held-out tasks through mteb: `evaluate` (our five checkpoints), `peers` (other systems), and those
of SCORED (one checkpoint alone: what a cell of a grid is measured with, at the cost of one model)."""

from itertools import pairwise
from pathlib import Path

from conan_lib.evaluation.checkpoints import checkpoint_encoder, checkpoints
from conan_lib.evaluation.metrics import MAIN_METRIC, MEAN, METRICS, is_whole
from conan_lib.evaluation.peers import score_peers
from conan_lib.evaluation.scores import compare, provenance, score
from conan_lib.evaluation.tasks import open_tasks
from conan_lib.files import write_json
from conan_lib.stages import Stage, computes
from conan_lib.table import SCORED
from conan_lib.topics.retrieval.whiten import KINDS, SUFFIX, WHITENED, shared_directions, training_texts, whitened

BATCH_SIZE = 128
"""Texts that a stage of one checkpoint encodes at once; changes no result."""


@computes
def evaluate(stage: Stage) -> dict:
    """Score our five checkpoints on the tasks, through mteb, as they are; then, on those that find a passage, whitened.

    Writes mteb/ (mteb's own result files), items/ (values of single queries), scores.json, differences.json (each checkpoint against the
    one before it, paired); the same four below whitened/. Killed and run again, it goes on with the first (model, task) that mteb's files
    lack.

    Raises:
        UserError: the tasks or a model are missing, a suite needs a hub that cannot be reached, or there are too few texts to whiten by.
    """
    section = stage.evaluation
    tasks = open_tasks(stage.inputs["heldout"].path, stage.tasks)
    ranked = [task for task in tasks if task.kind in KINDS] if section.whitening_texts else []
    texts = training_texts(stage.inputs["corpus"].path, section.whitening_texts, stage.tasks.seed) if ranked else {}
    rows, again, spread = [], [], {}
    for name in checkpoints(stage):
        encoder = checkpoint_encoder(stage, name, section.batch_size).kept_in(stage.path)
        rows += score(encoder, tasks, stage.path, stage.tasks, section.batch_size)
        if ranked:
            spread[name] = shared_directions({language: encoder.vectors(own) for language, own in texts.items()})
            white = whitened(encoder, [text for own in texts.values() for text in own]).kept_in(stage.path)
            again += score(white, ranked, stage.path / WHITENED, stage.tasks, section.batch_size)
    _write(stage, stage.path, rows, tasks)
    results = {"suite": stage.tasks.suite, "split": stage.tasks.split, "models": provenance(stage.path), **_results(rows)}
    if ranked:
        _write(stage, stage.path / WHITENED, again, ranked, SUFFIX)
        fitted = {"texts": sum(map(len, texts.values())), "languages": sorted(texts)}
        results[WHITENED] = fitted | {"shared_directions": spread, **_results(again)}
    return results


@computes
def evaluate_peers(stage: Stage) -> dict:
    """Score the peers on the same tasks as our checkpoints, through mteb; see `score_peers`.

    Raises:
        UserError: a peer's package is missing, or a suite needs a hub that cannot be reached.
    """
    rows = score_peers(stage, stage.peers, lambda queries: open_tasks(stage.inputs["heldout"].path, stage.tasks, queries))
    write_json(stage.path / "scores.json", rows)
    means = {row["model"]: row["value"] for row in rows if row["subset"] == MEAN and row["metric"] == "recall_at_10"}
    reasons = {f"{row['model']} {row['task']}": row["note"] for row in rows if row["value"] is None}
    return {"crosslingual": means, "skipped": reasons, "models": provenance(stage.path)}


@computes
def score_checkpoint(stage: Stage) -> dict:
    """Score the stage's one checkpoint on the tasks, through mteb: the same numbers as its rows of stage `evaluate`.

    Writes mteb/, items/ (values of single queries) and scores.json. Killed and run again, it goes on with the first task that mteb's
    files lack.

    Raises:
        UserError: the tasks or the model are missing, or a suite needs a hub that cannot be reached.
    """
    tasks = open_tasks(stage.inputs["heldout"].path, stage.tasks)
    encoder = checkpoint_encoder(stage, SCORED[stage.name], BATCH_SIZE).kept_in(stage.path)
    rows = score(encoder, tasks, stage.path, stage.tasks, BATCH_SIZE)
    write_json(stage.path / "scores.json", rows)
    main = [row for row in rows if is_whole(row) and row["metric"] == MAIN_METRIC.get(row["type"], row["metric"])]
    scores = {row["task"]: row["value"] for row in main}
    return {"suite": stage.tasks.suite, "split": stage.tasks.split, "models": provenance(stage.path), "scores": scores}


def _write(stage: Stage, folder: Path, rows: list[dict], tasks: list, suffix: str = "") -> None:
    """scores.json, and differences.json: each checkpoint against the one before it in cross-lingual retrieval, or where no task is
    cross-lingual, in retrieval."""
    write_json(folder / "scores.json", rows)
    kind = next((kind for kind in KINDS if any(task.kind == kind for task in tasks)), None)
    differences = [
        compare(folder, before + suffix, after + suffix, task.metadata.name, metric, stage.tasks)
        for task in tasks
        if task.kind and task.kind == kind
        for metric in (("recall_at_10", "recall_at_1") if kind == "crosslingual" else METRICS[kind])
        for before, after in pairwise(checkpoints(stage))
    ]
    write_json(folder / "differences.json", differences)


def _results(rows: list[dict]) -> dict:
    """The numbers of the manifest: each model's main scores, and the cross-lingual mean with its interval."""
    main: dict[str, dict] = {}
    for row in rows:
        if is_whole(row):
            main.setdefault(row["model"], {})[f"{row['task']} {row['metric']}"] = row["value"]
    return {
        "scores": main,
        "crosslingual": {
            row["model"]: {key: row[key] for key in ("value", "low", "high", "n")}
            for row in rows
            if row["subset"] == MEAN and row["metric"] == "recall_at_10"
        },
    }
