"""Stage score: the last checkpoint alone on all local tasks. What a cell of a grid is measured with, at the cost of one model."""

from conan_lib.artefacts import write_json
from conan_lib.evaluation.metrics import MAIN_METRIC, is_whole
from conan_lib.evaluation.run import checkpoint_encoder
from conan_lib.evaluation.scores import provenance, score
from conan_lib.evaluation.tasks import open_tasks
from conan_lib.stages import Stage, computes

MODEL = "supervised"
BATCH_SIZE = 128
"""Texts encoded at once; changes no result."""


@computes
def score_checkpoint(stage: Stage) -> dict:
    """Score the supervised model on the tasks, through mteb: the same numbers as its rows of stage `evaluate`.

    Writes mteb/, items/ (values of single queries) and scores.json. Killed and run again, it goes on with the first task that mteb's
    files lack.

    Raises:
        UserError: the tasks or the model are missing, or a suite needs a hub that cannot be reached.
    """
    tasks = open_tasks(stage.inputs["data"].path, stage.tasks)
    rows = score(checkpoint_encoder(stage, MODEL, BATCH_SIZE), tasks, stage.path, stage.tasks, BATCH_SIZE)
    write_json(stage.path / "scores.json", rows)
    main = [row for row in rows if is_whole(row) and row["metric"] == MAIN_METRIC.get(row["type"], row["metric"])]
    scores = {row["task"]: row["value"] for row in main}
    return {"suite": stage.tasks.suite, "split": stage.tasks.split, "models": provenance(stage.path), "scores": scores}
