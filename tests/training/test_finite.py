"""Where loss or gradients are no numbers, no weight moves: the stage stops, the line has the step and records of its batch, and a folder
their names and the last good weights, which are those of the checkpoint before. A loss that jumps is told. No precision becomes fp16."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

from conan_lib.errors import RunError
from conan_lib.model.tokenizer import train_tokenizer
from conan_lib.params import Runtime
from conan_lib.params.training import PretrainParams
from conan_lib.stages import open_stage
from conan_lib.training.arguments import training_arguments
from conan_lib.training.batch_loss import ContrastiveLoss
from conan_lib.training.batches import TaskCollator
from conan_lib.training.contrastive import train_supervised, train_weak
from conan_lib.training.finite import Finite
from conan_lib.training.lm import LmTrainer, finetune, pretrain
from conan_lib.training.mine import mine_negatives
from tests.small_corpus import documents, finish_data
from tests.small_pairs import finish_inputs, finish_weak, pair_params, tables

STEP = 5
NAMES = {
    "pretrain": {f"row {number} of documents.parquet" for number, _ in enumerate(documents())},
    "sft": {f"row {number} of sft.parquet" for number in range(1000)},
    "weak": {row["id"] for row in tables()["weak"]},
    "supervised": {row["id"] for rows in tables().values() for row in rows if "id" in row},
}


RUN = {"pretrain": pretrain, "sft": finetune, "weak": train_weak, "supervised": train_supervised}


def to_tokenizer(params):
    """Text and tokenizer of a run."""
    finish_data(params)
    train_tokenizer(open_stage("tokenizer", params))


BEFORE = {
    "pretrain": [to_tokenizer],
    "sft": [to_tokenizer, lambda params: pretrain(open_stage("pretrain", params))],
    "weak": [finish_inputs],
    "supervised": [finish_weak, lambda params: mine_negatives(open_stage("mine", params))],
}


def spoil(patch, method, harm):
    """The loss of step STEP is no number, or its gradients have no end."""
    owner, name = method
    original, steps = getattr(owner, name), []

    def spoilt(self, *arguments, **options):
        loss = original(self, *arguments, **options)
        steps.append(1)
        if len(steps) != STEP:
            return loss
        if harm == "loss":
            spoilt_seen(self)
            return loss * float("nan")
        return loss + _Endless.apply(loss)

    patch.setattr(owner, name, spoilt)


def spoilt_seen(owner):
    """What has noted the loss notes that it is no number."""
    if isinstance(owner, LmTrainer):
        owner._loss = torch.tensor(float("nan"))
    else:
        owner.seen["loss"] = float("nan")


class _Endless(torch.autograd.Function):
    @staticmethod
    def forward(context, loss):
        return torch.zeros_like(loss)

    @staticmethod
    def backward(context, gradient):
        return gradient * float("inf")


@pytest.mark.parametrize("harm", ["loss", "gradients"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stage_stops_before_it_learns_from_what_is_no_number(tmp_path, monkeypatch, name, harm):
    params = pair_params(tmp_path, runtime={"save_steps": 1})
    for prepare in BEFORE[name]:
        prepare(params)
    stage, run = open_stage(name, params), RUN[name]
    spoil(monkeypatch, (LmTrainer, "compute_loss") if name in ("pretrain", "sft") else (ContrastiveLoss, "calculate_loss"), harm)
    with pytest.raises(RunError, match=rf"^step {STEP}: the loss is .* on .*lower the learning rate") as error:
        run(stage)
    folder = stage.path / "checkpoints" / f"stopped-{STEP}"
    told = json.loads((folder / "batch.json").read_text())
    assert told["step"] == STEP and told["records"] and set(told["records"]) <= NAMES[name] and told["records"][0] in str(error.value)
    assert told["loss"] == "nan" if harm == "loss" else told["gradients"] in ("inf", "nan") and float(told["loss"]) > 0
    saved, before = (
        load_file(folder / "model.safetensors"),
        load_file(stage.path / "checkpoints" / f"checkpoint-{STEP - 1}/model.safetensors"),
    )
    same = [sum(torch.equal(value, other) for other in before.values()) for value in saved.values()]
    assert min(same) > 0 and len(saved) == len(before)
    assert stage.status == "partial" and not (stage.path / "model").exists()


def test_the_named_records_are_those_of_the_batch(tmp_path, monkeypatch):
    """Of the weak stage, whose batch may be read: the collator's own texts."""
    params, texts = pair_params(tmp_path), {row["id"]: row["anchor"] for row in tables()["weak"]}
    finish_inputs(params)
    seen, original = [], TaskCollator._make

    def make(self, items):
        seen.append([self.tasks[item["task"]].rows[item["row"]]["anchor"] for item in items])
        return original(self, items)

    monkeypatch.setattr(TaskCollator, "_make", make)
    spoil(monkeypatch, (ContrastiveLoss, "calculate_loss"), "loss")
    stage = open_stage("weak", params)
    with pytest.raises(RunError):
        train_weak(stage)
    told = json.loads((stage.path / "checkpoints" / f"stopped-{STEP}" / "batch.json").read_text())
    assert [texts[record] for record in told["records"]] in seen[STEP - 1 : STEP + 1]


def test_a_loss_that_jumps_is_told_once_and_by_task(tmp_path, capsys):
    losses = [("a", 1.0), ("b", 9.0)] * 12 + [("a", 2.5), ("b", 9.0), ("a", 1.0)]
    model, now = torch.nn.Linear(1, 1), {}
    model.weight.grad = torch.ones_like(model.weight)
    finite = Finite(lambda: now, lambda step: [], tmp_path)
    for step, (task, loss) in enumerate(losses):
        now.update(task=task, loss=loss)
        finite.on_pre_optimizer_step(None, SimpleNamespace(global_step=step), None, model=model)
    assert capsys.readouterr().out == "step 25: the loss is 2.5, 2.5 times the median of the 12 steps before\n"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_no_precision_becomes_fp16(tmp_path, precision):
    arguments = TrainingArguments(**training_arguments(PretrainParams(precision=precision), Runtime(device="cpu"), tmp_path))
    assert not arguments.fp16 and arguments.bf16 in ((precision == "bf16",) if precision != "auto" else (True, False))
