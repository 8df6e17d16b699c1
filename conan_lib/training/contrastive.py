"""Stages 3 and 4: weakly supervised contrastive training under the soft mask, then supervised training with dynamic negatives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from tqdm import tqdm

from conan_lib.artefacts import ROWS
from conan_lib.data.mapped import mapped
from conan_lib.data.records import Rows
from conan_lib.data.teacher import kept
from conan_lib.files import write_json
from conan_lib.model.backbone import export, to_sentence_transformer, with_weights
from conan_lib.stages import Stage, computes
from conan_lib.training.arguments import arithmetic, training_device
from conan_lib.training.batches import Task
from conan_lib.training.embedder import build_tasks, train_embedder
from conan_lib.training.mine import Pools, load_pools
from conan_lib.training.tasks import TASKS, Row, View


@computes(together=True)
def train_weak(stage: Stage) -> dict | None:
    """Stage `weak`: InfoNCE on filtered title-content pairs while the soft mask opens; writes model/ and history.json. Without pairs the
    language model becomes a bidirectional encoder as it is.

    Raises:
        UserError: too few pairs for one batch, no such device.
    """
    section = stage.weak
    pairs = mapped(stage.inputs["sets"].path / "weak.parquet", stage.path / ROWS)
    start, device = stage.inputs["sft"].path / "model", training_device(stage.runtime)
    if not len(pairs):
        if stage.leads:
            export(to_sentence_transformer(start, section.pooling, section.max_length, device=device), stage.path / "model")
            write_json(stage.path / "history.json", [])
        return {"passed_through": True, "saved_as": "bidirectional", "pairs": 0, "pairs_kept": 0, "loss": {}}
    rows = weak_rows(stage, pairs)
    left_out = _left_out(rows, build_tasks({"weak": rows}, section))
    if left_out and stage.leads:
        few = ", ".join(f"{language} ({count})" for language, count in left_out.items())
        tqdm.write(f"weak: left out for having fewer pairs than weak.batch_size {section.batch_size}: {few}")
    model = to_sentence_transformer(start, section.pooling, section.max_length, attention="soft_mask", device=device)
    run = train_embedder(model, {"weak": rows}, section, stage.path, runtime=stage.runtime)
    trained = sum(len(task.rows) for task in run.tasks)
    return {
        "precision": arithmetic(section.precision, device),
        "trained_until": run.attention,
        "saved_as": "causal" if run.attention == "causal" else "bidirectional",
        "pairs": len(pairs),
        "pairs_kept": len(rows),
        "pairs_trained": trained,
        "left_out": left_out,
        "epochs": section.max_steps * section.batch_size / trained,
        "loss": _first_and_last(run.history),
    }


def _left_out(rows: Sequence[Row], tasks: list[Task]) -> dict[str, int]:
    """Pairs by language that no task trains."""
    counts = Counter(row["lang"] for row in rows)
    counts.subtract(row["lang"] for task in tasks for row in task.rows)
    return {language: count for language, count in sorted(counts.items()) if count}


@computes(together=True)
def train_supervised(stage: Stage) -> dict | None:
    """Stage `supervised`: tasks by their shares, bidirectional, Matryoshka, dynamic hard negatives; writes model/, history.json and
    negatives.json.

    Raises:
        UserError: a task has too few rows for a batch, a pool too few candidates, no such device, pools or weights not carried here.
    """
    section, rows = stage.supervised, supervised_rows(stage, stage.path / ROWS)
    pools = pools_for(stage, rows)
    device = training_device(stage.runtime)
    model = SentenceTransformer(with_weights(stage.inputs["weak"].path / "model"), device=device)
    run = train_embedder(model, rows, section, stage.path, pools, stage.runtime)
    if not stage.leads:
        return None
    write_json(stage.path / "negatives.json", [row for row in run.history if "mean_score" in row])
    pool = run.pool
    by_task = {task.name: [row for row in run.history if row["task"] == task.name] for task in run.tasks}
    return {
        "precision": arithmetic(section.precision, device),
        "rows": {task.name: len(task.rows) for task in run.tasks},
        "steps": {name: len(own) for name, own in by_task.items()},
        "loss": {name: _first_and_last(own) for name, own in by_task.items() if own},
        "swaps": pool.swaps if pool else 0,
        "swapped_in": sum(row.get("swapped_in", 0) for row in run.history),
        "exhausted": pool.log()["exhausted"] if pool else 0.0,
    }


def weak_rows(stage: Stage, pairs: Sequence[Row]) -> Sequence[Row]:
    """The weak pairs that the teacher's filter leaves, of all."""
    keep = kept(Rows(stage.inputs["teacher"].path / "scores.parquet"), stage.weak.drop_percentile)  # in the order of the pairs
    return TASKS["weak"].rows(View(pairs, places=np.flatnonzero(keep)))


def supervised_rows(stage: Stage, folder: Path | None = None) -> dict[str, Sequence[Row]]:
    """The rows of each task with a share, in the order of the mix; `folder` is that of `mapped`."""
    names = [name for name, share in stage.supervised.mix.items() if share > 0]
    sets = stage.inputs["sets"].path
    return {name: TASKS[name].rows(mapped(sets / f"{TASKS[name].table}.parquet", folder)) for name in names}


def pools_for(stage: Stage, rows: Mapping[str, Sequence[Row]]) -> Pools | None:
    """The mined pools, where these tasks and `hard_negatives` ask for them."""
    wanted = stage.supervised.hard_negatives and any(TASKS[name].negatives == "pool" for name in rows)
    return load_pools(stage, stage.path / ROWS) if wanted else None


def _first_and_last(rows: Sequence[dict]) -> dict[str, float]:
    """The mean loss of the first and of the last twentieth of the steps."""
    few = len(rows) // 20 + 1
    return {"first": float(np.mean([row["loss"] for row in rows[:few]])), "last": float(np.mean([row["loss"] for row in rows[-few:]]))}
