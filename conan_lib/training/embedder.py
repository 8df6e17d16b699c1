"""One way to train an embedder: a model, rows by task, typed options, a folder. Both contrastive stages stand on it.

It runs on sentence-transformers' trainer (accelerate below it). What is ours is the batch (batches.py), the loss of each task
(batch_loss.py), and the pool of negatives; a checkpoint holds all of it.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import Trainer, TrainerCallback

from conan_lib.artefacts import leads
from conan_lib.attention import merge_adapters
from conan_lib.attention.softmask import kind
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.model.backbone import export, plain_text
from conan_lib.negatives import NegativePool
from conan_lib.params import Runtime
from conan_lib.params.training import ContrastiveParams, SupervisedParams, WeakParams
from conan_lib.training.arguments import EmbeddingRate, one_gpu, switch, training_arguments, training_device
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import CHUNK, GPU_CHUNK, Task, TaskBatchSampler, TaskCollator, leave_out_prompts
from conan_lib.training.finite import Finite
from conan_lib.training.lora import add_lora, load_lora
from conan_lib.training.mine import Pools, Remining
from conan_lib.training.progress import show_loss
from conan_lib.training.recorder import Recorder, checkpoint_of, finish
from conan_lib.training.snapshots import Snapshots
from conan_lib.training.softmask_callback import SoftMaskCallback
from conan_lib.training.tasks import TASKS, Row, View

WHOLE = {Snapshots: "weak.snapshots: set it to null", Remining: "supervised.dhnm.rule: remined: choose another rule"}
"""What needs the whole model along the way, and what to do without."""


@dataclass(frozen=True)
class Trained:
    """What a run leaves beside the model: a row for each step (see `fit`), its tasks, the pool of negatives, and under which attention it
    ended: causal, bidirectional or masked."""

    history: list[dict]
    tasks: list[Task]
    pool: NegativePool | None
    attention: str


def train_embedder(
    model: SentenceTransformer,
    rows: Mapping[str, Sequence[Row]],
    options: WeakParams | SupervisedParams,
    folder: str | Path,
    pools: Pools | None = None,
    runtime: Runtime | None = None,
) -> Trained:
    """Train `model` in place (under FSDP a copy) and write it to folder/model, for plain sentence-transformers, with folder/history.json.

    WeakParams is the paper's stage 3: the task `weak`, the soft mask from causal to bidirectional. SupervisedParams is stage 4:
    bidirectional, tasks in turns by `mix`, Matryoshka, dynamic negatives from `pools`. Killed at any moment and called again with the same
    arguments, it goes on from folder/checkpoints, which is yours to remove, and ends with the same weights.

    Args:
        model: any whose first module is a transformers decoder; it is given fp32 weights, and cosines where it has no Normalize. It reads
            texts as they are, without its tokenizer's chat template.
        rows: by name of a registered task; a row holds anchor and positive, and what TaskSpec says. Shares of tasks that are not given do
            not count.
        options: what trains and how.
        folder: where checkpoints and results go.
        pools: ranked hard negatives, of `mine`; needed where options.hard_negatives is above 0 and a task has pools.
        runtime: device, workers, save_steps, deadline; threads are the caller's to set.

    Raises:
        UserError: a row lacks a field, a task has too few rows for a batch, a pool too few candidates, a dim does not fit the model, or the
            folder holds checkpoints of other options or rows.
    """
    runtime, folder = runtime or Runtime(), Path(folder)
    tasks = build_tasks(rows, options, pools)
    _prepare(model.to(training_device(runtime)), options)
    model.prompts = options.saved_prompts | row_prompts(rows, options)
    pool, dims, callbacks, mask = None, None, [], None
    if isinstance(options, WeakParams):
        mask = SoftMaskCallback(options.soft_mask, options.max_steps)
        callbacks, temperatures, balance = [mask], (options.temperature,), None
    else:
        dims, temperatures, balance = options.matryoshka_dims, (options.temperature, options.cosent_temperature), options.balance
        if pools is not None and options.hard_negatives:
            pool = pools.negatives(options)
    loss = ContrastiveLoss(model, tasks, *temperatures, dims=dims, pool=pool, balance=balance, cached_minibatch=options.cached_minibatch)
    if isinstance(options, WeakParams) and options.snapshots:
        callbacks.append(Snapshots(model, loss, folder, options.snapshot_steps))
    if pool is not None and options.dhnm.rule == "remined":
        callbacks = [Remining(pools.search, model, loss)]
    chunk = options.cached_minibatch or (CHUNK if model.device.type == "cpu" else GPU_CHUNK)
    negatives = None if pool is None else lambda ids: [[pools.texts[row] for row in few] for few in pool.draw(ids).tolist()]
    collator = TaskCollator(tasks, model.tokenizer, options.max_length, negatives, chunk, options.pool_prompts is not False)
    model, history = fit(model, loss, collator, options, folder / "checkpoints", runtime, callbacks)
    attention = "bidirectional"
    if mask is not None:
        history = [{**row, "alpha": mask.alpha(row["step"] - 1)} for row in history]
        attention = kind(mask.alpha(options.max_steps), options.soft_mask.reading, options.soft_mask.ratio)
    if leads():
        # the i/l mask has no stock form at its end; stage 4 is bidirectional whatever came before
        export(model, folder / "model", causal=attention == "causal")
        write_json(folder / "history.json", history)
    return Trained(history, tasks, pool, attention)


def build_tasks(rows: Mapping[str, Sequence[Row]], options: WeakParams | SupervisedParams, pools: Pools | None = None) -> list[Task]:
    """Rows by task -> tasks that are ready to train, in the order given.

    Raises:
        UserError: as `train_embedder`.
    """
    if unknown := [name for name in rows if name not in TASKS]:
        raise UserError(f"no task {', '.join(unknown)}: choose from {', '.join(TASKS)}, or register it in conan_lib.training.tasks")
    if isinstance(options, WeakParams):
        if set(rows) != {"weak"}:
            raise UserError(f"stage 3 trains the task weak alone, not {', '.join(rows)}: give rows for it, or SupervisedParams")
        return _weak_tasks(TASKS["weak"].checked(rows["weak"]), options)
    tasks = []
    for name, own in rows.items():
        spec, share = TASKS[name], options.mix.get(name, 0)
        if share <= 0 or name not in options.task_batch_size:
            raise UserError(f"task {name}: mix and task_batch_size give it no share and no batch size")
        if spec.negatives == "pool" and options.hard_negatives and pools is None:
            raise UserError(f"task {name}: hard_negatives is {options.hard_negatives}, but there are no pools: give those of `mine`, or 0")
        own = spec.checked(own)
        ready = View(own, partial(_ready, name, pools), _chosen(name, own, options))
        group = options.clr_queries if spec.pool_by == "passage" else 1
        tasks.append(Task(name, ready, options.task_batch_size[name], share, group, spec.loss, _prompts(name, options)))
    if not tasks or (options.balance and {task.loss for task in tasks} != {"infonce", "cosent"}):
        raise UserError(f"rows: of {', '.join(rows) or 'no task'}: {'balance needs sts and another task' if tasks else 'give some'}")
    return tasks


def _ready(name: str, pools: Pools | None, _: int, row: Row) -> Row:
    """What a batch needs of a row."""
    spec, ready = TASKS[name], {name: row[name] for name in ("id", "anchor", "positive", "prompt") if row.get(name)}
    if spec.loss == "cosent":
        return ready | {"score": row["score"]}
    if spec.negatives == "given":
        return ready | {"negatives": list(row["negatives"])}
    if spec.negatives == "pool":
        ready["group"] = spec.pool_id(row)
        if pools is not None:
            if (pool := pools.number(ready["group"])) is None:
                raise UserError(f"task {name}: row {row['id']} has no pool: mine for the rows that train")
            ready["pool"] = pool
    return ready


def _chosen(name: str, rows: Sequence[Row], options: SupervisedParams) -> Sequence[int] | None:
    """The rows of at most `pools` seeded pools; None, which is all, where there is no limit, or no pool."""
    if TASKS[name].negatives != "pool" or options.pools is None:
        return None
    pool_of = TASKS[name].pool_id
    pools = sorted({pool_of(row) for row in rows})
    if len(pools) <= options.pools:
        return None
    chosen = {pools[i] for i in np.random.default_rng(options.seed).choice(len(pools), options.pools, replace=False)}
    return array("q", (place for place, row in enumerate(rows) if pool_of(row) in chosen))


def _weak_tasks(rows: Sequence[Row], options: WeakParams) -> list[Task]:
    """One task for all pairs, or one for each language with its share of the steps; a language that fills no batch is left out."""
    prompts = _prompts("weak", options)
    if options.batch_languages == "mixed":
        return [Task("weak", View(rows, _pair), options.batch_size, prompts=prompts)]
    own: dict[str, array] = {}
    for place, row in enumerate(rows):
        own.setdefault(row.get("lang", ""), array("q")).append(place)
    full = {language: own[language] for language in sorted(own) if len(own[language]) >= options.batch_size}
    if not full:
        raise UserError(f"weak.batch_size: no language has {options.batch_size} pairs: lower it, or set weak.batch_languages to mixed")
    return [
        Task(f"weak {language}".strip(), View(rows, _pair, some), options.batch_size, len(some), prompts=prompts)
        for language, some in full.items()
    ]


def _pair(_: int, row: Row) -> Row:
    """What a batch needs of a weak pair."""
    own = {name: row[name] for name in ("id", "prompt") if row.get(name)}
    return {"anchor": row["anchor"], "positive": row["positive"], "lang": row.get("lang", ""), **own}


def _prompts(name: str, options: ContrastiveParams) -> tuple[str, str]:
    prompt = (options.prompts or {}).get(name)
    return (prompt.query, prompt.document) if prompt else ("", "")


def row_prompts(rows: Mapping[str, Sequence[Row]], options: ContrastiveParams) -> dict[str, str]:
    """Prompts that the rows themselves bring, by the names that are saved with the model: a type of task has one where all of its rows
    have the same."""
    found: dict[str, set[str]] = {}
    for name, own in rows.items():
        default = _prompts(name, options)[0]
        found.setdefault(TASKS[name].evaluation, set()).update(row.get("prompt") or default for row in own)
    return {
        "query" if kind == "Retrieval" else kind: prompts.pop() for kind, prompts in found.items() if len(prompts) == 1 and any(prompts)
    }


def _prepare(model: SentenceTransformer, options: WeakParams | SupervisedParams) -> None:
    """The model as it trains: cosines, fp32, the options' length, prompts and attention.

    Raises:
        UserError: a Matryoshka dim does not fit.
    """
    if not any(isinstance(module, Normalize) for module in model):
        model.append(Normalize())
    width = model.get_embedding_dimension()
    if isinstance(options, SupervisedParams) and max(options.matryoshka_dims) != width:
        raise UserError(f"matryoshka_dims: the last must be the model's width {width}, not {max(options.matryoshka_dims)}")
    model.float().max_seq_length = options.max_length
    for module in model:
        if isinstance(module, Pooling):
            module.include_prompt = options.pool_prompts is not False
    plain_text(model[0])
    backbone = model.transformers_model
    if isinstance(options, WeakParams) and backbone.config._attn_implementation != "soft_mask":
        backbone.set_attn_implementation("soft_mask")
    if isinstance(options, SupervisedParams) and backbone.config._attn_implementation == "soft_mask":
        backbone.set_attn_implementation("sdpa")
    backbone.config.is_causal = False


def _records(sampler: TaskBatchSampler, step: int) -> list[str]:
    """The ids of the rows in the batch of a step, or their numbers in their task."""
    batch = next(islice(sampler, step * sampler.world, None))
    return [str(task.rows[number].get("id") or f"row {number} of {task.name}") for task, number in map(sampler.at, batch)]


class ContrastiveTrainer(EmbeddingRate, SentenceTransformerTrainer):
    """The trainer with our batches; the model card is the report's to write."""

    def __init__(self, *args, sampler: TaskBatchSampler, **kwargs):
        self.sampler = sampler
        super().__init__(*args, **kwargs)

    def _prepare_inputs(self, inputs: dict) -> dict:
        return super()._prepare_inputs(self.data_collator.complete(inputs))

    def get_batch_sampler(self, dataset, **_) -> TaskBatchSampler:
        return self.sampler

    def _load_from_checkpoint(self, folder: str, model=None) -> None:
        if self.is_fsdp_enabled:  # sentence-transformers would look for a whole model
            return Trainer._load_from_checkpoint(self, folder, model)
        super()._load_from_checkpoint(folder)
        load_lora(self.model, Path(folder))

    def add_model_card_callback(self, default_args_dict) -> None:
        pass


def fit(
    model: SentenceTransformer,
    loss: ContrastiveLoss,
    collator: TaskCollator,
    options: ContrastiveParams,
    folder: Path,
    runtime: Runtime,
    callbacks: Sequence[TrainerCallback] = (),
) -> tuple[SentenceTransformer, list[dict]]:
    """Train to `options.max_steps`, from the last complete checkpoint in `folder` where there is one; returns the model, which is another
    one under FSDP and whole in the first process alone, and a row for each step.

    Rows: step, learning_rate, task, loss, grad_norm (before clipping); where a pool is used, mean_score (of the hard negatives in use),
    positive_score, above_positive (their share that scores above the anchor's positive: suspected false negatives), swaps, swapped_in
    (negatives of the batch that came in by a swap), exhausted; see Snapshots for distance. Killed at any moment and called again it ends
    with the same weights: batches, negatives and schedules are functions of the seed and the step, and what is not is in the checkpoint.
    Under a launcher every process takes a share of each batch's texts, and the weights are those of one process up to rounding.

    Raises:
        UserError: lora.targets name no layer, the checkpoints are of other options, rows or kind of launch, or FSDP is asked for
            snapshots or to mine anew.
        RunError: the loss or the gradients are not finite.
    """
    from datasets import Dataset  # only sentence-transformers' trainer needs it: mining and the losses do without

    tasks = loss.tasks
    arguments = one_gpu(
        SentenceTransformerTrainingArguments(
            **training_arguments(options, runtime, folder),
            dataloader_drop_last=True,  # no batch is short; said because the trainer asks for it under a launcher
        )
    )
    collator.rank, collator.world = arguments.process_index, arguments.world_size
    loss.world = arguments.world_size
    switch(model, options)
    if options.lora is not None:
        add_lora(model, options.lora, options.seed)
    checkpoint = checkpoint_of(folder, options, (row for task in tasks for row in task.rows))
    recorder = Recorder(lambda: loss.seen, {"pool": loss.pool} if loss.pool is not None else {}, runtime)
    companion = [task.loss for task in tasks].index("cosent") if loss.balance else None
    sizes = [len(task.rows) for task in tasks]
    numbers = {"task": np.repeat(np.arange(len(tasks)), sizes), "row": np.concatenate([np.arange(size) for size in sizes])}
    sampler = TaskBatchSampler(tasks, options.max_steps, options.seed, companion, arguments.world_size, options.share_temperature or 1.0)
    finite = Finite(lambda: loss.seen, partial(_records, sampler), folder)
    trainer = ContrastiveTrainer(
        sampler=sampler,
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(numbers),
        loss=loss,
        data_collator=collator,
        callbacks=[*callbacks, finite, recorder],  # the recorder last: it notes what the others have done
    )
    if trainer.is_fsdp_enabled:  # accelerate looks for a last norm with weights below this name, and must not find Normalize
        model.base_model_prefix = "none"
        for callback in callbacks:
            if (field := WHOLE.get(type(callback))) is not None:
                raise UserError(f"{field}, or launch without FSDP, which has the weights in shares along the way")
    trainer.embedding_rate = options.embedding_rate
    show_loss(trainer)
    hooks = [module.register_forward_pre_hook(leave_out_prompts) for module in model if isinstance(module, Pooling)]
    model = finish(trainer, recorder, checkpoint)
    for hook in hooks:
        hook.remove()
    if options.lora is not None:
        merge_adapters(model)
    return model, recorder.rows
