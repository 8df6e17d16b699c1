"""Stages 1 and 2: next-token pretraining on packed documents, then supervised fine-tuning with the loss on the output alone.

Both run on transformers' Trainer (accelerate below it), with its checkpoints and its progress bar.
"""

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from conan_lib.artefacts import ROWS
from conan_lib.data.mapped import mapped
from conan_lib.data.packing import IGNORE, Blocks, balanced_order
from conan_lib.data.records import Rows
from conan_lib.data.tokens import measured, tokenised
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.model.backbone import build, link, load, save
from conan_lib.model.tokenizer import load_tokenizer, token_bytes
from conan_lib.params.training import HELD_OUT_MAX, HELD_OUT_SHARE, LanguageModelling, PretrainParams
from conan_lib.stages import Stage, computes
from conan_lib.table import START
from conan_lib.training.arguments import EmbeddingRate, arithmetic, one_gpu, switch, training_arguments, training_device
from conan_lib.training.finite import Finite, Numbered
from conan_lib.training.instructions import encode_records, generate, pad
from conan_lib.training.processes import mean_of
from conan_lib.training.progress import show_loss
from conan_lib.training.recorder import Recorder, finish, last_checkpoint

EVALUATION_BATCH = 16
READ_AT_ONCE = 1000
LONG_TOKEN = 8
"""Characters: as many documents are tokenised as hold enough tokens of this length, and twice as many where they do not."""
TOKENS = "tokens"
"""The folder of the training documents' tokens; it goes when the stage has finished."""
GENERATIONS = 6
MEASURE = PretrainParams(max_length=128)
"""How a model is measured where it is not trained."""


@computes(together=True)
def pretrain(stage: Stage) -> dict | None:
    """Stage `pretrain`: from random weights, or on from the start; writes model/, random/ (weights drawn at random) and history.json.

    Without a section in the parameters the start passes through: model/ is the start's, and only its bits per byte are measured, where
    there is text enough.

    Raises:
        UserError: no training or no held-out documents, too little text for one batch, no such device.
    """
    section: PretrainParams | None = stage.pretrain
    tokenizer = load_tokenizer(stage.inputs["tokenizer"].path / "tokenizer")
    documents = stage.inputs["corpus"].path / "documents.parquet"
    held_out = list(Rows(documents, ("text", "lang", "kind"), {"split": ("dev",)}))
    validation = validation_batches(held_out, tokenizer, section or MEASURE, section is not None)
    start = stage.inputs[START].path / "model" if START in stage.inputs else None
    measure = partial(bits_per_byte, batches=validation, bytes_of=token_bytes(tokenizer))
    if section is None:
        return pass_through(stage, start, measure)
    blocks = pack_documents(documents, tokenizer, section, stage.path / TOKENS, stage.runtime.threads)
    model = load(start) if start else build(stage.backbone, len(tokenizer), section.seed)
    if stage.leads:
        if not start:
            save(model, tokenizer, stage.path / "random")
        before = measure(model.to(training_device(stage.runtime)))
    model, history = fit(
        model, blocks, stack, section, stage, lambda block: [f"row {row} of documents.parquet" for row in blocks.records(block)]
    )
    if not stage.leads:
        return None
    shutil.rmtree(stage.path / TOKENS, ignore_errors=True)
    after = measure(model)
    save(model, tokenizer, stage.path / "model")
    write_json(stage.path / "history.json", history)
    return {
        **summary(model, history, before, after),
        "precision": arithmetic(section.precision, training_device(stage.runtime)),
        "block_tokens": len(blocks) * section.max_length,
        "epochs": section.max_steps * section.batch_size / len(blocks),
    }


@computes(together=True)
def finetune(stage: Stage) -> dict | None:
    """Stage `sft`: writes model/, history.json and generations.json (greedy outputs of held-out records, before and after).

    Without a section in the parameters the model before it passes through: bits per byte and outputs are measured, where there are
    records.

    Raises:
        UserError: too few records to hold some out, or for one batch; no such device.
    """
    section = stage.sft
    length, seed, template = (section.max_length, section.seed, section.template) if section else (MEASURE.max_length, MEASURE.seed, None)
    folder = stage.inputs["pretrain"].path / "model"
    tokenizer = load_tokenizer(folder)
    collate = partial(pad, padding=tokenizer.pad_token_id)
    encode = partial(encode_records, tokenizer=tokenizer, max_length=length, template=template)
    records = mapped(stage.inputs["sets"].path / "sft.parquet", stage.path / ROWS)
    held_out = min(HELD_OUT_MAX, int(HELD_OUT_SHARE * len(records)))
    if section and not held_out:
        raise UserError(f"sft.parquet: {len(records)} records are too few to train on and to hold some out: raise sets.sft_records")
    order = np.random.default_rng(seed).permutation(len(records))
    test, train = [records[place] for place in order[:held_out]], order[held_out:]
    validation = {
        language: _batches(encode([r for r in test if r["lang"] == language]), collate) for language in sorted({r["lang"] for r in test})
    }
    shown = list({r["lang"]: r for r in reversed(test)}.values())[-GENERATIONS:]
    measure = partial(bits_per_byte, batches=validation, bytes_of=token_bytes(tokenizer))
    say = partial(generate, tokenizer=tokenizer, records=shown, max_length=length, template=template)

    def note(before: list[str], after: list[str]) -> None:
        rows = [r | {"before": b, "after": a} for r, b, a in zip(shown, before, after, strict=True)]
        write_json(stage.path / "generations.json", rows)

    if section is None:
        return pass_through(stage, folder, measure, lambda model: note(said := say(model), said))
    model = load(folder)
    if stage.leads:
        model.to(training_device(stage.runtime))  # the trainer would move it only later
        before, said_before = measure(model), say(model)
    rows = lambda row: [f"row {order[held_out + row]} of sft.parquet"]  # noqa: E731
    model, history = fit(model, Encoded(records, train, encode), collate, section, stage, rows)
    if not stage.leads:
        return None
    after = measure(model)
    note(said_before, say(model))
    save(model, tokenizer, stage.path / "model")
    write_json(stage.path / "history.json", history)
    results = {"records": len(train), "held_out": held_out, "epochs": section.max_steps * section.batch_size / len(train)}
    return summary(model, history, before, after) | {"precision": arithmetic(section.precision, training_device(stage.runtime))} | results


class Encoded(Dataset):
    """Records as they train, encoded when they are asked for."""

    def __init__(self, records: Sequence[dict], places: np.ndarray, encode: Callable[[Sequence[dict]], list[dict[str, list[int]]]]):
        """places: of the records that train, in the order of their numbers here."""
        self.records, self.places, self.encode = records, places, encode

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> dict[str, list[int]]:
        return self.encode([self.records[self.places[number]]])[0]


def pass_through(stage: Stage, folder: Path, measure: Callable, show: Callable = lambda model: None) -> dict | None:
    """What a stage does that the parameters leave out: the model before it is its model, measured and not trained."""
    if not stage.leads:
        return None
    model = load(folder).to(training_device(stage.runtime))
    bits = measure(model)
    show(model)
    link(folder, stage.path / "model")
    write_json(stage.path / "history.json", [])
    return {"passed_through": True} | summary(model, [], bits, bits)


def pack_documents(documents: Path, tokenizer: PreTrainedTokenizerBase, section: PretrainParams, folder: Path, workers: int) -> Blocks:
    """Training documents in balanced random order, read until the run's tokens are there, or all of them where the corpus is smaller;
    without news or parallel passages where the parameters leave them out (C13).

    The tokens are in the folder, mapped into memory. In memory there are a few numbers for each document.

    Raises:
        UserError: no document, or less than one batch of blocks.
    """
    without = [kind for kind, kept in (("news", section.news), ("parallel", section.parallel)) if not kept]
    rows, languages, sizes = measured(documents, "train", without)
    if not len(rows):
        raise UserError("documents.parquet: no document of split train is left in the pretraining mix: check stage corpus")
    order = balanced_order(languages, sizes, section.language_balance, section.seed)
    needed = section.max_steps * section.batch_size * section.max_length
    characters, enough = np.cumsum(sizes[order]), LONG_TOKEN * needed
    while True:
        some = rows[order[: _until(characters, enough)]]
        tokens = tokenised(documents, some, tokenizer, folder, workers)
        place = np.searchsorted(np.sort(some), some)
        total = np.cumsum(tokens.lengths[place], dtype=np.int64)
        if len(some) == len(rows) or total[-1] >= needed:
            break
        enough *= 2
    blocks = Blocks(tokens, section.max_length, section.document_mask, place[: _until(total, needed)], np.sort(some))
    if len(blocks) < section.batch_size:
        shutil.rmtree(folder, ignore_errors=True)  # another process of the launch may have
        raise UserError(f"pretrain.batch_size: {section.batch_size} is more than the {len(blocks)} blocks that the corpus fills: lower it")
    return blocks


def _until(total: np.ndarray, enough: int) -> int:
    """How many documents are read until a running total is enough, READ_AT_ONCE by READ_AT_ONCE; all of them where it never is."""
    return min(len(total), -(-(int(np.searchsorted(total, enough)) + 1) // READ_AT_ONCE) * READ_AT_ONCE)


def validation_batches(
    documents: list[dict], tokenizer: PreTrainedTokenizerBase, section: PretrainParams, needed: bool = True
) -> dict[str, list[dict]]:
    """Language -> batches of `validation_blocks` packed blocks, the same for every seed; a language that fills none is left out.

    Raises:
        UserError: no language has a block, and one is needed.
    """
    texts = defaultdict(list)
    for i in np.random.default_rng(0).permutation(len(documents)):
        if documents[i]["kind"] != "parallel":
            texts[documents[i]["lang"]].append(documents[i]["text"])
    wanted, batches = section.validation_blocks * section.max_length, {}
    for language, own in sorted(texts.items()):
        ids, tokens = [], 0
        for text in own:  # one by one, because a few documents fill the blocks
            ids.append(tokenizer(text)["input_ids"])
            tokens += len(ids[-1])
            if tokens >= wanted:
                break
        if tokens >= section.max_length:
            blocks = Blocks(ids, section.max_length, section.document_mask)
            rows = min(len(blocks), section.validation_blocks)
            batches[language] = [blocks[i : min(i + EVALUATION_BATCH, rows)] for i in range(0, rows, EVALUATION_BATCH)]
    if needed and not batches:
        raise UserError(f"documents.parquet: no language of split dev fills a block of {section.max_length} tokens: check the data")
    return batches


def stack(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate packed blocks: (L,) each -> (B, L)."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def _batches(items: list, collate) -> list[dict]:
    return [collate(items[i : i + EVALUATION_BATCH]) for i in range(0, len(items), EVALUATION_BATCH)]


@torch.no_grad()
def bits_per_byte(model: PreTrainedModel, batches: dict[str, Iterable[dict[str, torch.Tensor]]], bytes_of: np.ndarray) -> dict[str, float]:
    """Bits that the model needs for a byte of text, by language.

    The code length of all predicted tokens, </s> included where the tokenizer writes one, over the UTF-8 bytes of these same tokens: what
    is not predicted (the first token of a piece, a prompt) counts on neither side. Comparable between tokenizers.

    Args:
        batches: language -> batches of input_ids and labels (B, L), and position_ids where documents are packed.
        bytes_of: bytes of each token, shape (V,).
    """
    training, found = model.training, {}
    model.eval()
    for language, own in batches.items():
        nats, size = 0.0, 0
        for batch in own:
            targets = batch["labels"][:, 1:]
            targets = targets[targets != IGNORE]
            nats += model(**{name: tensor.to(model.device) for name, tensor in batch.items()}, num_items_in_batch=1).loss.item()
            size += int(bytes_of[targets.numpy()].sum())
        found[language] = nats / math.log(2) / size
    model.train(training)
    return found


class LmTrainer(EmbeddingRate, Trainer):
    """Trainer that notes the loss, the rows and the speed of each step, for Recorder and Finite."""

    _loss, _tokens, _clock = 0.0, 0, None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rows: list[int] = []

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.rows += inputs.pop("row").tolist()
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._loss, self._tokens = self._loss + loss.detach(), self._tokens + inputs["input_ids"].numel()
        return loss

    def seen(self) -> dict[str, float | None]:
        """The loss of the step that ends, over all its parts and processes, and the tokens a second of all processes since the last one."""
        loss, tokens, before = mean_of(self._loss), self._tokens * self.args.world_size, self._clock
        self._loss, self._tokens, self._clock, self.rows = 0.0, 0, time.perf_counter(), []
        return {"loss": loss, "tokens_per_second": tokens / (self._clock - before) if before else None}


def fit(
    model: PreTrainedModel,
    data: Dataset | list,
    collate,
    section: LanguageModelling,
    stage: Stage,
    records: Callable[[int], list[str]],
) -> tuple[PreTrainedModel, list[dict]]:
    """Train for `max_steps` with AdamW, from the last complete checkpoint where there is one; returns the model and a row for each step.

    Rows: step, learning_rate, loss (nats per labelled token), grad_norm, tokens_per_second (null where a process starts). The model is
    trained in place; under FSDP, which takes it apart, the one returned is another, and whole in the first process. Weights after an
    interrupted and resumed run are those of an uninterrupted one. Under a launcher each process takes its share of every batch: the weights
    are those of one process up to rounding. `records` names what an item of `data` is made of.

    Raises:
        RunError: the loss or the gradients are not finite.
        UserError: there are fewer items than a batch, the batch cannot be shared out, or the last checkpoint is damaged or of another kind
            of launch.
    """
    if len(data) < section.batch_size:  # a part of a batch is dropped, and the trainer would end at step 0 without a word
        size = section.batch_size
        raise UserError(f"{stage.name}.batch_size: {size} is more than the {len(data)} records that train: lower it, or add data")
    folder, parts = stage.path / "checkpoints", section.gradient_accumulation or 1
    arguments = one_gpu(
        TrainingArguments(
            **training_arguments(section, stage.runtime, folder),
            gradient_accumulation_steps=parts,
            remove_unused_columns=False,
            dataloader_drop_last=True,
        )
    )
    devices = arguments.world_size
    if section.batch_size % (devices * parts):
        share = f"{devices} devices of this run" + f" x {parts} parts (gradient_accumulation)" * (parts > 1)
        raise UserError(f"{stage.name}.batch_size: {section.batch_size} is not divisible by the {share}: choose a multiple")
    arguments.per_device_train_batch_size = section.batch_size // devices // parts
    model.fused_loss = bool(section.fused_loss)
    switch(model, section)
    numbered = Numbered(data, collate)
    trainer = LmTrainer(model=model, args=arguments, train_dataset=numbered, data_collator=numbered.collate)
    trainer.embedding_rate = section.embedding_rate
    show_loss(trainer)
    recorder = Recorder(trainer.seen, runtime=stage.runtime)
    named = lambda _: [record for row in trainer.rows for record in records(row)]  # noqa: E731
    for callback in (Finite(lambda: {"loss": float(trainer._loss)}, named, folder), recorder):
        trainer.add_callback(callback)
    return finish(trainer, recorder, last_checkpoint(folder)), recorder.rows


def summary(model: PreTrainedModel, history: list[dict], before: dict[str, float], after: dict[str, float]) -> dict:
    """The numbers that both stages commit."""
    speeds = [row["tokens_per_second"] for row in history if row["tokens_per_second"]]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "loss": float(np.mean([row["loss"] for row in history[-max(1, len(history) // 20) :]])) if history else None,
        "tokens_per_second": float(np.median(speeds)) if speeds else None,
        "bits_per_byte": {language: {"before": before[language], "after": after[language]} for language in before},
    }
