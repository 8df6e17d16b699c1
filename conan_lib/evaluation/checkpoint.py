"""Stage score: the last checkpoint alone on all local tasks. What a cell of a grid is measured with, at the cost of one model."""

import json

import torch

from conan_lib.artefacts import write_json
from conan_lib.evaluation.encoder import own_encoder
from conan_lib.evaluation.scores import MEAN, score
from conan_lib.evaluation.tasks import METRICS, load_suite, load_tasks
from conan_lib.stages import Stage

MODEL = "supervised"
BATCH_SIZE = 128
"""Texts encoded at once; changes no result."""


def score_checkpoint(stage: Stage) -> Stage:
    """Score the supervised model on the tasks, through mteb: the same numbers as its rows of stage `evaluate`.

    Writes mteb/, items/ (values of single queries) and scores.json. Killed and run again, it goes on with the first task that mteb's
    files lack.

    Raises:
        UserError: the tasks or the model are missing, or a suite needs a hub that cannot be reached.
    """
    if stage.finished:
        return stage
    with stage.work() as work:
        if stage.finished:
            return stage
        torch.set_num_threads(stage.runtime.threads)
        data, checkpoint = stage.inputs["data"].path, stage.inputs[MODEL]
        tasks = load_tasks(data, stage.tasks) if stage.tasks.suite == "embedded" else load_suite(stage.tasks.suite)
        sources = json.loads((data / "sources.json").read_text(encoding="utf-8"))
        encoder = own_encoder(
            MODEL, checkpoint.path / "model", checkpoint.key, stage.tasks.max_length, BATCH_SIZE, stage.runtime.device, sources
        )
        rows = score(encoder, tasks, stage.path, stage.tasks, BATCH_SIZE)
        write_json(stage.path / "scores.json", rows)
        main = [
            row for row in rows if row["subset"] in ("default", MEAN) and row["metric"] == METRICS.get(row["type"], (row["metric"],))[0]
        ]
        work.commit({"suite": stage.tasks.suite, "split": stage.tasks.split, "scores": {row["task"]: row["value"] for row in main}})
    return stage
