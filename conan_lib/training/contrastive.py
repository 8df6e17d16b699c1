"""Stages 3 and 4: weakly supervised contrastive training under the soft mask, then supervised training with dynamic negatives.

Both run on sentence-transformers' trainer (accelerate below it). What is ours is the batch (batches.py), the loss of each task, and the
pool of negatives; a checkpoint holds all of it.
"""

import shutil
from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor, nn
from transformers import TrainerCallback

from conan_lib.artefacts import write_json
from conan_lib.attention.softmask import kind
from conan_lib.backbone import export, to_sentence_transformer
from conan_lib.data.records import read
from conan_lib.data.teacher import keep_mask
from conan_lib.errors import UserError
from conan_lib.losses import cosent, false_negatives, info_nce_from_scores, matryoshka
from conan_lib.mining import NegativePool
from conan_lib.params.base import Optimisation
from conan_lib.params.training import WeakParams
from conan_lib.stages import Stage
from conan_lib.training.arguments import EmbeddingRate, training_arguments
from conan_lib.training.batches import Task, TaskBatchSampler, TaskCollator
from conan_lib.training.lm import prepare
from conan_lib.training.mine import PAIR_TASKS, load_pools, pool_of
from conan_lib.training.recorder import Recorder, last_checkpoint
from conan_lib.training.softmask_callback import SoftMaskCallback


def train_weak(stage: Stage) -> Stage:
    """Stage `weak`: InfoNCE on filtered title-content pairs while the soft mask opens; writes model/ and history.json.

    Raises:
        UserError: too few pairs for one batch, no such device.
    """
    if stage.finished:
        return stage
    with stage.work() as work:
        if stage.finished:
            return stage
        section = stage.weak
        prepare(stage.runtime)
        pairs = read(stage.inputs["data"].path / "weak.parquet")
        kept = keep_mask(read(stage.inputs["teacher"].path / "scores.parquet"), section.drop_percentile)
        rows = [
            {"anchor": pair["title"], "positive": pair["content"], "lang": pair["lang"]}
            for pair, keep in zip(pairs, kept, strict=True)
            if keep
        ]
        tasks = _weak_tasks(rows, section)
        start = stage.inputs["sft"].path / "model"
        model = to_sentence_transformer(start, section.pooling, section.max_length, attention="soft_mask")
        mask = SoftMaskCallback(section.soft_mask, section.max_steps)
        loss = ContrastiveLoss(model, tasks, section.temperature)
        collator = TaskCollator(tasks, model.tokenizer, section.max_length)
        rows_seen = fit(model, loss, collator, section, stage, [mask])
        history = [{**row, "alpha": mask.alpha(row["step"] - 1)} for row in rows_seen]
        attention = kind(mask.alpha(section.max_steps), section.soft_mask.reading, section.soft_mask.ratio)
        # the i/l mask has no stock form at its end; stage 4 is bidirectional whatever came before
        export(model, stage.path / "model", causal=attention == "causal")
        write_json(stage.path / "history.json", history)
        work.commit(
            {
                "trained_until": attention,
                "saved_as": "causal" if attention == "causal" else "bidirectional",
                "pairs": len(pairs),
                "pairs_kept": len(rows),
                "pairs_trained": sum(len(task.rows) for task in tasks),
                "epochs": section.max_steps * section.batch_size / len(rows),
                "loss": {"first": _mean_loss(history[: len(history) // 20 + 1]), "last": _mean_loss(history[-(len(history) // 20) - 1 :])},
            }
        )
    shutil.rmtree(stage.path / "checkpoints", ignore_errors=True)
    return stage


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


def train_supervised(stage: Stage) -> Stage:
    """Stage `supervised`: five tasks by their shares, bidirectional, Matryoshka, dynamic hard negatives; writes model/, history.json and
    negatives.json.

    Raises:
        UserError: a task has too few rows for a batch, a pool too few candidates, no such device.
    """
    if stage.finished:
        return stage
    with stage.work() as work:
        if stage.finished:
            return stage
        section = stage.supervised
        prepare(stage.runtime)
        pool, negatives, place = None, None, {}
        if section.hard_negatives and any(section.mix.get(task, 0) > 0 for task in PAIR_TASKS):
            place, candidates, texts = load_pools(stage)
            pool = NegativePool(torch.from_numpy(candidates), section.hard_negatives, section.dhnm, section.seed)

            def negatives(pool_ids: Tensor) -> list[list[str]]:
                return [[texts[row] for row in rows] for rows in pool.draw(pool_ids).tolist()]

        tasks = _supervised_tasks(stage, place)
        model = SentenceTransformer(str(stage.inputs["weak"].path / "model"))
        model.max_seq_length = section.max_length
        model[0].model.config.is_causal = False
        loss = ContrastiveLoss(model, tasks, section.temperature, section.cosent_temperature, section.matryoshka_dims, pool)
        collator = TaskCollator(tasks, model.tokenizer, section.max_length, negatives)
        history = fit(model, loss, collator, section, stage)
        export(model, stage.path / "model")
        write_json(stage.path / "history.json", history)
        write_json(stage.path / "negatives.json", [row for row in history if "mean_score" in row])
        work.commit(
            {
                "rows": {task.name: len(task.rows) for task in tasks},
                "steps": {task.name: sum(row["task"] == task.name for row in history) for task in tasks},
                "loss": {
                    task.name: {"first": _mean_loss(own[: len(own) // 20 + 1]), "last": _mean_loss(own[-(len(own) // 20) - 1 :])}
                    for task in tasks
                    if (own := [row for row in history if row["task"] == task.name])
                },
                "swaps": pool.swaps if pool else 0,
                "exhausted": pool.log()["exhausted"] if pool else 0.0,
            }
        )
    shutil.rmtree(stage.path / "checkpoints", ignore_errors=True)
    return stage


def _supervised_tasks(stage: Stage, place: dict[str, int]) -> list[Task]:
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
                for row in read(data / f"{name}.parquet")
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


def _mean_loss(rows: Sequence[dict]) -> float:
    return float(np.mean([row["loss"] for row in rows]))


class ContrastiveLoss(nn.Module):
    """The loss of whichever task a batch brings, over the Matryoshka prefixes of its embeddings.

    Pair tasks: InfoNCE of each anchor against every distinct candidate text of the batch (all positives and all hard negatives), save its
    own text and the other positives of an equal anchor. STS: CoSENT. Scores of hard negatives at the full width feed the pool.

    Args:
        model: encodes; kept under this name so that the trainer can put its distributed wrapper here.
        dims: prefixes, the full width last; None trains the full width alone.
    """

    def __init__(self, model, tasks: list[Task], temperature: float, cosent_temperature=0.05, dims=None, pool: NegativePool | None = None):
        super().__init__()
        self.model, self.tasks, self.pool = model, tasks, pool
        self.temperature, self.cosent_temperature, self.dims = temperature, cosent_temperature, dims
        self.seen: dict = {}

    def forward(self, features: list[dict[str, Tensor]], label: dict[str, Tensor]) -> Tensor:
        """features: padded chunks of the T distinct texts; label: see TaskCollator. Returns the mean loss, a scalar."""
        embeddings = torch.cat([self.model(chunk)["sentence_embedding"] for chunk in features])[label["restore"]]
        compute = self._sts if "score" in label else self._pairs
        dims = self.dims or (embeddings.shape[1],)
        loss = matryoshka(lambda prefix: compute(prefix, label), embeddings, dims)
        self.seen = {"task": self.tasks[int(label["task"])].name, "loss": loss.item()}
        if "pool" in label and self.pool is not None:
            self._update_pool(embeddings.detach().float(), label)
        return loss

    def _update_pool(self, embeddings: Tensor, label: dict[str, Tensor]) -> None:
        anchors = embeddings[label["anchor"]]
        scores = torch.einsum("bd,bnd->bn", anchors, embeddings[label["negatives"]])
        swaps = self.pool.update(label["pool"], scores)
        positive_score = (anchors * embeddings[label["positive"]]).sum(-1).mean().item()
        log = self.pool.log()
        self.seen |= {"mean_score": log["mean_score"], "positive_score": positive_score, "swaps": swaps, "exhausted": log["exhausted"]}

    def _sts(self, embeddings: Tensor, label: dict[str, Tensor]) -> Tensor:
        cosine = (embeddings[label["anchor"]] * embeddings[label["positive"]]).sum(-1)
        return cosent(cosine, label["score"], self.cosent_temperature)

    def _pairs(self, embeddings: Tensor, label: dict[str, Tensor]) -> Tensor:
        anchor, positive = label["anchor"], label["positive"]
        roles = [positive, label["negatives"].flatten()] if "negatives" in label else [positive]
        candidates, place = torch.unique(torch.cat(roles), return_inverse=True)
        own = place[: len(positive)]
        scores = embeddings[anchor] @ embeddings[candidates].T
        return info_nce_from_scores(scores, own, self.temperature, excluded=false_negatives(anchor, candidates, own))


class ContrastiveTrainer(EmbeddingRate, SentenceTransformerTrainer):
    """The trainer with our batches; the model card is the report's to write."""

    def __init__(self, *args, sampler: TaskBatchSampler, **kwargs):
        self.sampler = sampler
        super().__init__(*args, **kwargs)

    def get_batch_sampler(self, dataset, **_) -> TaskBatchSampler:
        return self.sampler

    def add_model_card_callback(self, default_args_dict) -> None:
        pass


def fit(
    model: SentenceTransformer,
    loss: ContrastiveLoss,
    collator: TaskCollator,
    section: Optimisation,
    stage: Stage,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[dict]:
    """Train to `section.max_steps`, from the last complete checkpoint where there is one; returns a row for each step.

    Rows: step, learning_rate, task, loss; mean_score (of the hard negatives in use), positive_score, swaps, exhausted where a pool is used.
    Killed at any moment and called again it ends with the same weights: batches, negatives and schedules are functions of the seed and the
    step, and what is not is in the checkpoint.
    """
    from datasets import Dataset  # only sentence-transformers' trainer needs it: mining and the losses do without

    folder, tasks = stage.path / "checkpoints", loss.tasks
    recorder = Recorder(lambda: loss.seen, {"pool": loss.pool} if loss.pool is not None else {})
    arguments = SentenceTransformerTrainingArguments(**training_arguments(section, stage.runtime, folder))
    if arguments.world_size > 1:
        raise UserError(
            "contrastive training runs in one process for now (its negatives are not gathered): start it without accelerate launch"
        )
    numbers = [(number, row) for number, task in enumerate(tasks) for row in range(len(task.rows))]
    trainer = ContrastiveTrainer(
        sampler=TaskBatchSampler(tasks, section.max_steps, section.seed),
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"task": [number for number, _ in numbers], "row": [row for _, row in numbers]}),
        loss=loss,
        data_collator=collator,
        callbacks=[recorder, *callbacks],
    )
    trainer.embedding_rate = section.embedding_rate
    checkpoint = last_checkpoint(folder)
    if checkpoint is not None:
        recorder.resume(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return recorder.rows
