"""The embeddings learn at their own rate on the common schedule; every parameter is in the optimiser once; at 1 nothing is changed. Curves
go where `report_to` says, and `auto` precision follows the processor. A process trains on one GPU, however many it sees."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from conan_lib.params import Runtime
from conan_lib.params.training import PretrainParams
from conan_lib.training.arguments import EmbeddingRate, arithmetic, one_gpu, training_arguments


class OwnTrainer(EmbeddingRate, Trainer):
    pass


@pytest.mark.parametrize("rate", [1.0, 30.0])
@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_have_their_rate_and_all_weights_one(tmp_path, rate, tied):
    config = LlamaConfig(
        vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, tie_word_embeddings=tied
    )
    model = LlamaForCausalLM(config)
    section = PretrainParams(learning_rate=1e-3, max_steps=10, warmup_ratio=0.2, schedule="linear", batch_size=2)
    trainer = OwnTrainer(model=model, args=TrainingArguments(**training_arguments(section, Runtime(device="cpu"), tmp_path)))
    trainer.embedding_rate = rate
    trainer.create_optimizer_and_scheduler(10)
    rates = {}
    for _ in range(3):
        for group in trainer.optimizer.param_groups:
            for parameter in group["params"]:
                rates.setdefault(parameter, []).append(group["lr"])
        trainer.optimizer.step()
        trainer.lr_scheduler.step()
    assert set(rates) == set(model.parameters())
    for name, parameter in model.named_parameters():
        factor = rate if "embed_tokens" in name else 1.0
        assert rates[parameter] == pytest.approx([0.0, 5e-4 * factor, 1e-3 * factor]), name  # each once, two steps of warm-up


def test_the_rate_is_that_of_the_update(tmp_path):
    """AdamW's first update is the rate times the gradient's sign, so embeddings move `embedding_rate` times as far as the layers."""
    config = LlamaConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = LlamaForCausalLM(config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    section = PretrainParams(learning_rate=1e-3, max_steps=1, warmup_ratio=0, weight_decay=0, schedule="constant", batch_size=2)
    trainer = OwnTrainer(model=model, args=TrainingArguments(**training_arguments(section, Runtime(device="cpu"), tmp_path)))
    trainer.embedding_rate = 20.0
    trainer.create_optimizer_and_scheduler(1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    for name, parameter in model.named_parameters():
        moved = (before[name] - parameter).mean().item()
        assert moved == pytest.approx(2e-2 if "embed_tokens" in name else 1e-3, rel=1e-3), name


def test_the_curves_go_to_tensorboard_beside_the_artefact(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16))
    section = PretrainParams(learning_rate=1e-3, max_steps=3, batch_size=2)
    arguments = TrainingArguments(**training_arguments(section, Runtime(device="cpu", report_to="tensorboard"), tmp_path / "checkpoints"))
    ids = torch.arange(3, 11)
    trainer = Trainer(model=model, args=arguments, train_dataset=[{"input_ids": ids, "labels": ids}] * 8)
    trainer.train()
    curves = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in curves.Scalars("train/loss")] == [
        (row["step"], pytest.approx(row["loss"])) for row in trainer.state.log_history if "loss" in row
    ]
    assert len(curves.Scalars("train/learning_rate")) == 3


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="the flags of a processor are read from Linux")
def test_automatic_precision_is_bf16_where_the_processor_has_its_instructions():
    flags = Path("/proc/cpuinfo").read_text()
    has = any(flag in flags for flag in ("avx512_bf16", "amx_tile"))
    assert arithmetic("auto", "cpu") == ("bf16" if has else "fp32") and arithmetic("fp32", "cpu") == "fp32"


@pytest.mark.parametrize(("visible", "used"), [(0, 0), (1, 1), (8, 1)])
def test_a_process_trains_on_one_gpu(tmp_path, capsys, visible, used):
    arguments = TrainingArguments(**training_arguments(PretrainParams(batch_size=2), Runtime(device="cpu"), tmp_path))
    arguments._n_gpu = visible  # what transformers counts
    model = nn.Linear(2, 2)
    assert one_gpu(arguments) is arguments
    trainer = Trainer(model=model, args=arguments)
    assert arguments.n_gpu == used
    assert trainer._wrap_model(model) is model  # no DataParallel, which has no GPU to go to here
    assert ("8 GPUs are visible" in capsys.readouterr().err) is (visible == 8)


def test_every_trainer_has_one_gpu():
    bare = []
    for path in Path("conan_lib").rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        wrapped = {id(call.args[0]) for call in calls if getattr(call.func, "id", "") == "one_gpu" and call.args}
        bare += [path for call in calls if getattr(call.func, "id", "").endswith("TrainingArguments") and id(call) not in wrapped]
    assert bare == []
