"""What one would do without this project: the same start, rows and steps, trained by sentence-transformers alone.

Its trainer and MultipleNegativesRankingLoss (CoSENT for pairs with a score); the decoder stays causal, or reads both ways from the first
step; hard negatives stay as they were mined, and no prefix of the vector is trained.

Unless told otherwise, a batch holds no text twice. Translated queries of one passage, and rows with one label, come to different batches,
which are smaller; the steps then end before all rows have been seen, and the results say how many were.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import BatchSamplers, MultiDatasetBatchSamplers
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss

from conan_lib.artefacts import ROWS
from conan_lib.data.mapped import mapped
from conan_lib.errors import RunError, UserError
from conan_lib.model.backbone import export, to_sentence_transformer
from conan_lib.params import Runtime
from conan_lib.params.training import PlainParams, SupervisedParams, WeakParams
from conan_lib.stages import Stage, computes
from conan_lib.training.arguments import EmbeddingRate, arithmetic, one_gpu, training_arguments, training_device
from conan_lib.training.batches import Task, TaskBatchSampler, prompt_lengths
from conan_lib.training.contrastive import pools_for, supervised_rows, weak_rows
from conan_lib.training.embedder import build_tasks, row_prompts
from conan_lib.training.mine import Pools
from conan_lib.training.progress import show_loss
from conan_lib.training.recorder import Recorder, finish, last_checkpoint


@computes
def train_plain(stage: Stage) -> dict:
    """Stage `plain`: the steps of `weak`, then those of `supervised`, each on the rows that its own stage draws; writes model/.

    Raises:
        UserError: as stages `weak` and `supervised`; LoRA, prompts outside the pooling or a launch of several processes is asked for.
        RunError: training diverged.
    """
    _check(stage)
    weak, supervised, causal = stage.weak, stage.supervised, stage.plain.attention == "causal"
    device, said = training_device(stage.runtime), {}
    model = to_sentence_transformer(stage.inputs["sft"].path / "model", weak.pooling, weak.max_length, causal=causal, device=device)
    pairs = mapped(stage.inputs["sets"].path / "weak.parquet", stage.path / ROWS)
    if len(pairs):
        tasks = build_tasks({"weak": weak_rows(stage, pairs)}, weak)
        said["weak"] = fit(model, tasks, weak, stage.path / "checkpoints" / "weak", stage.plain, stage.runtime)
    rows = supervised_rows(stage, stage.path / ROWS)
    pools = pools_for(stage, rows)
    model.max_seq_length = supervised.max_length
    tasks = build_tasks(rows, supervised, pools)
    said["supervised"] = fit(model, tasks, supervised, stage.path / "checkpoints" / "supervised", stage.plain, stage.runtime, pools)
    model.prompts = supervised.saved_prompts | row_prompts(rows, supervised)
    export(model, stage.path / "model", causal)
    return {"saved_as": stage.plain.attention, "precision": arithmetic(supervised.precision, device), **said}


def _check(stage: Stage) -> None:
    """Refuse what this training would leave out in silence, and a launch, in which each process would wait for the other."""
    for name, section in {"weak": stage.weak, "supervised": stage.supervised}.items():
        if section.lora is not None:
            raise UserError(f"stage plain: {name}.lora: it trains all weights: leave it out")
        if section.pool_prompts is False:
            raise UserError(f"stage plain: {name}.pool_prompts: it pools prompts: leave it out")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("stage plain trains in one process: run it without a launch")


def fit(
    model: SentenceTransformer,
    tasks: Sequence[Task],
    section: WeakParams | SupervisedParams,
    folder: Path,
    plain: PlainParams,
    runtime: Runtime | None = None,
    pools: Pools | None = None,
) -> dict:
    """Train `model` in place for `section.max_steps`, each task's rows a data set of its own. Killed and called again, it goes on.

    Args:
        tasks: of `build_tasks`. The rows given are those that our own trainer draws, as often as it draws them.

    Returns:
        by task the rows given, those that the steps saw, and the steps; and the batch size: one for all tasks, since sentence-transformers
        has no other, so that the steps are as many.

    Raises:
        UserError: a prompt leaves a text no room.
    """
    from datasets import Dataset  # only sentence-transformers' trainer needs it

    prompt_lengths(tasks, model.tokenizer, section.max_length)  # refuses those that leave no room
    runtime, width = runtime or Runtime(), section.hard_negatives if isinstance(section, SupervisedParams) else 0
    companion = [task.loss for task in tasks].index("cosent") if getattr(section, "balance", None) else None
    sampler = TaskBatchSampler(list(tasks), section.max_steps, section.seed, companion, temperature=section.share_temperature or 1.0)
    sets: dict[str, list[dict]] = {}
    for batch in sampler:
        for task, number in map(sampler.at, batch):
            sets.setdefault(task.name, []).append(_columns(task.rows[number], task, pools, width))
    batch_size = round(sum(map(len, sets.values())) / section.max_steps)
    section = section.model_copy(update={"learning_rate": plain.rate * section.learning_rate})
    arguments = one_gpu(
        SentenceTransformerTrainingArguments(
            **training_arguments(section, runtime, folder),
            per_device_train_batch_size=batch_size,
            batch_sampler=BatchSamplers.BATCH_SAMPLER if plain.duplicates else BatchSamplers.NO_DUPLICATES,
            multi_dataset_batch_sampler=MultiDatasetBatchSamplers.PROPORTIONAL,
        )
    )
    recorder = Recorder(lambda: trainer.seen, runtime=runtime)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset={name: Dataset.from_list(rows) for name, rows in sets.items()},
        loss={task.name: _loss(model, task, section) for task in tasks if task.name in sets},
        callbacks=[recorder],
    )
    trainer.embedding_rate = section.embedding_rate
    show_loss(trainer)
    finish(trainer, recorder, last_checkpoint(folder))
    if not all(weights.isfinite().all() for weights in model.parameters()):
        raise RunError(f"stage plain: weights are not finite after {folder.name}: lower plain.rate")
    seen, steps = Counter(), Counter()
    for row in recorder.rows:
        seen[row["task"]] += row["rows"]
        steps[row["task"]] += 1
    return {"rows": {name: len(rows) for name, rows in sets.items()}, "seen": dict(seen), "steps": dict(steps), "batch_size": batch_size}


class _Trainer(EmbeddingRate, SentenceTransformerTrainer):
    """The trainer, with its last batch noted."""

    seen: dict

    def compute_loss(self, model, inputs: dict, *args, **kwargs):
        self.seen = {"task": inputs["dataset_name"], "rows": len(inputs["anchor_input_ids"])}
        return super().compute_loss(model, inputs, *args, **kwargs)

    def add_model_card_callback(self, default_args_dict) -> None:
        pass  # the card is the report's to write


def _loss(model: SentenceTransformer, task: Task, section: WeakParams | SupervisedParams) -> torch.nn.Module:
    if task.loss == "cosent":
        return CoSENTLoss(model, scale=1 / section.cosent_temperature)
    return MultipleNegativesRankingLoss(model, scale=1 / section.temperature)


def _columns(row: dict, task: Task, pools: Pools | None, width: int) -> dict:
    """A row as sentence-transformers reads it: two texts and a score, or anchor, positive and negatives, `width` where they are mined."""
    query, document = task.prompts
    texts = {"anchor": (row.get("prompt") or query) + row["anchor"], "positive": document + row["positive"]}
    if task.loss == "cosent":
        return texts | {"score": float(row["score"])}
    negatives = row.get("negatives", [])
    if "pool" in row and width:
        negatives = [pools.texts[place] for place in pools.candidates[row["pool"]][:width] if place >= 0]
        if len(negatives) < width:
            raise UserError(f"task {task.name}: the pool of {row['id']} has {len(negatives)} candidates, not {width}: mine more")
    return texts | {f"negative_{k}": document + text for k, text in enumerate(negatives)}
