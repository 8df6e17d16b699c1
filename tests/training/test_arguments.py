"""The embeddings learn at their own rate on the common schedule; every parameter is in the optimiser once; at 1 nothing is changed."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from conan_lib.params import Runtime
from conan_lib.params.training import PretrainParams
from conan_lib.training.arguments import EmbeddingRate, training_arguments


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
