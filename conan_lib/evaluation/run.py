"""Stage evaluate: every checkpoint on the same tasks."""

import json
from itertools import pairwise

import torch

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


def evaluate(stage: Stage) -> Stage:
    """Score our five checkpoints on the tasks, through mteb.

    Writes mteb/ (mteb's own result files), items/ (values of single queries), scores.json, differences.json (each checkpoint against the
    one before it, paired). Killed and run again, it goes on with the first (model, task) not in mteb's files.

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
        tasks = open_tasks(data, stage.tasks)
        encoders = {name: checkpoint_encoder(stage, name, stage.evaluation.batch_size) for name in MODELS}
        rows = [row for encoder in encoders.values() for row in score(encoder, tasks, stage.path, stage.tasks, stage.evaluation.batch_size)]
        write_json(stage.path / "scores.json", rows)
        crosslingual = [task for task in tasks if task.kind == "crosslingual"]
        write_json(stage.path / "differences.json", _differences(stage, crosslingual))
        work.commit(_results(stage, rows))
    return stage


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
