"""Stage evaluate: every checkpoint on the same tasks."""

from itertools import pairwise
from pathlib import Path

from conan_lib.artefacts import read_json, write_json
from conan_lib.evaluation.encoder import Encoder, own_encoder
from conan_lib.evaluation.metrics import MEAN, is_whole
from conan_lib.evaluation.scores import compare, provenance, score
from conan_lib.evaluation.tasks import open_tasks
from conan_lib.evaluation.whitening import KINDS, SUFFIX, WHITENED, shared_directions, training_texts, whitened
from conan_lib.params.evaluation import TasksParams
from conan_lib.stages import Stage, computes

MODELS = {
    "random": ("pretrain", "random"),
    "pretrained": ("pretrain", "model"),
    "sft": ("sft", "model"),
    "weak": ("weak", "model"),
    "supervised": ("supervised", "model"),
}
"""Our checkpoints in the order of training: input stage and folder in it."""


@computes
def evaluate(stage: Stage) -> dict:
    """Score our five checkpoints on the tasks, through mteb, as they are; then, on those that find a passage, whitened.

    Writes mteb/ (mteb's own result files), items/ (values of single queries), scores.json, differences.json (each checkpoint against the
    one before it, paired); the same four below whitened/. Killed and run again, it goes on with the first (model, task) that mteb's files
    lack.

    Raises:
        UserError: the tasks or a model are missing, a suite needs a hub that cannot be reached, or there are too few texts to whiten by.
    """
    data, section = stage.inputs["data"].path, stage.evaluation
    tasks = open_tasks(data, stage.tasks)
    ranked = [task for task in tasks if task.kind in KINDS] if section.whitening_texts else []
    texts = training_texts(data, section.whitening_texts, stage.tasks.seed) if ranked else {}
    rows, again, spread = [], [], {}
    for name in MODELS:
        encoder = checkpoint_encoder(stage, name, section.batch_size)
        rows += score(encoder, tasks, stage.path, stage.tasks, section.batch_size)
        if ranked:
            spread[name] = shared_directions({language: encoder.vectors(own) for language, own in texts.items()})
            white = whitened(encoder, [text for own in texts.values() for text in own])
            again += score(white, ranked, stage.path / WHITENED, stage.tasks, section.batch_size)
    _write(stage.path, rows, tasks, stage.tasks)
    results = {"suite": stage.tasks.suite, "split": stage.tasks.split, "models": provenance(stage.path), **_results(rows)}
    if ranked:
        _write(stage.path / WHITENED, again, ranked, stage.tasks, SUFFIX)
        fitted = {"texts": sum(map(len, texts.values())), "languages": sorted(texts)}
        results[WHITENED] = fitted | {"shared_directions": spread, **_results(again)}
    return results


def checkpoint_encoder(stage: Stage, name: str, batch_size: int) -> Encoder:
    """One of MODELS, from a stage that has it and the data among its inputs and a section `tasks`."""
    source, folder = MODELS[name]
    artefact = stage.inputs[source]
    sources = read_json(stage.inputs["data"].path / "sources.json")
    return own_encoder(
        name, artefact.path / folder, artefact.key, stage.tasks.max_length, batch_size, stage.runtime.device, sources,
        prompts=stage.tasks.prompts, released=artefact.artefact.manifest["finished_at"][:10],
    )  # fmt: skip


def _write(folder: Path, rows: list[dict], tasks: list, params: TasksParams, suffix: str = "") -> None:
    """scores.json, and differences.json: each checkpoint against the one before it in cross-lingual retrieval."""
    write_json(folder / "scores.json", rows)
    differences = [
        compare(folder, before + suffix, after + suffix, task.metadata.name, metric, params)
        for task in tasks
        if task.kind == "crosslingual"
        for metric in ("recall_at_10", "recall_at_1")
        for before, after in pairwise(MODELS)
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
