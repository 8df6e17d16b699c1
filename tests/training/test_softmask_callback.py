"""Pins: alpha follows the schedule by global step in a real Trainer, on a decoder and inside a SentenceTransformer; a resumed run
goes on along the schedule; whatever evaluates between steps sees the alpha that is saved; alpha lands in the logs, and in a reporter that
runs behind it; `causal` and `bidirectional` hold it; steps below 1 and weights in half precision are refused."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from torch import nn
from transformers import EarlyStoppingCallback, LlamaConfig, LlamaModel, Trainer, TrainerCallback, TrainingArguments

import conan_lib.attention  # noqa: F401  registers "soft_mask"
from conan_lib.errors import UserError
from conan_lib.options import SoftMaskOptions
from conan_lib.training.softmask_callback import SoftMaskCallback


class Regression(nn.Module):
    """A loss on top of a decoder; remembers the alpha of each forward pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
        )
        self.decoder = LlamaModel._from_config(config, attn_implementation="soft_mask")
        self.alphas = []

    def forward(self, input_ids, return_loss=True):  # the name by which a Trainer knows that an evaluation has a loss
        self.alphas.append(self.decoder.config.soft_mask_alpha)
        return {"loss": self.decoder(input_ids, use_cache=False).last_hidden_state.square().mean()}


class Reporter(TrainerCallback):
    """Stands for TensorBoard's: keeps what it is told."""

    def __init__(self):
        self.told = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.told += [logs.get("soft_mask_alpha")] if "loss" in logs else []


class Evaluator(TrainerCallback):
    """Stands for one that evaluates by itself after each step, and runs before ours: the alpha that it meets."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(self.model.decoder.config.soft_mask_alpha)


def train(folder, params, total=4, resume=False, reporter=None):
    model = Regression()
    rows = [{"input_ids": torch.arange(5) + row} for row in range(8)]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=total, per_device_train_batch_size=2, logging_steps=1, save_steps=2, report_to=[], use_cpu=True
    )
    callbacks = [SoftMaskCallback(params, total)]
    trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[reporter, *callbacks] if reporter else callbacks)
    if reporter:
        trainer.add_callback(trainer.pop_callback(Reporter))
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2") if resume else None)
    return model, [row["soft_mask_alpha"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.equation("soft_mask_schedules")
def test_alpha_follows_the_global_step_and_a_resumed_run_goes_on(tmp_path):
    params = SoftMaskOptions(schedule="quadratic", reading="logit", ratio="i/l")
    reporter = Reporter()
    model, logged = train(tmp_path, params, reporter=reporter)
    assert model.alphas == logged == reporter.told == [0, 1 / 16, 4 / 16, 9 / 16]
    config = model.decoder.config
    assert (config.soft_mask_alpha, config.soft_mask_reading, config.soft_mask_ratio) == (1.0, "logit", "i/l")
    resumed, _ = train(tmp_path, params, resume=True)
    assert resumed.alphas == [4 / 16, 9 / 16]


@pytest.mark.parametrize(("attention", "alpha"), [("causal", 0.0), ("bidirectional", 1.0)])
def test_held_at_an_end(tmp_path, attention, alpha):
    model, _ = train(tmp_path, SoftMaskOptions(attention=attention), total=2)
    assert model.alphas == [alpha, alpha] and model.decoder.config.soft_mask_alpha == alpha


def test_the_decoder_inside_a_sentence_transformer_is_found():
    module = Transformer.__new__(Transformer)
    nn.Module.__init__(module)
    module.model = Regression().decoder
    model = SentenceTransformer(modules=[module], device="cpu")
    callback = SoftMaskCallback(SoftMaskOptions(), 10)
    state = type("State", (), {"global_step": 3})()
    callback.on_train_begin(None, state, None, model=model)
    assert module.model.config.soft_mask_alpha == 1.0
    callback.on_step_begin(None, state, None, model=model)
    assert module.model.config.soft_mask_alpha == pytest.approx(0.3)


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_an_evaluation_judges_the_model_at_the_alpha_that_is_saved_and_so_does_what_keeps_the_best_checkpoint(tmp_path, strategy):
    model = Regression()
    rows = [{"input_ids": torch.arange(5) + row} for row in range(4)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=6, per_device_train_batch_size=2, per_device_eval_batch_size=4, report_to=[], use_cpu=True,
        eval_strategy=strategy, save_strategy=strategy, eval_steps=2, save_steps=2, load_best_model_at_end=True, eval_on_start=True,
        metric_for_best_model="loss", prediction_loss_only=True,
    )  # fmt: skip
    other = Evaluator(model)
    callbacks = [other, SoftMaskCallback(SoftMaskOptions(), 6), EarlyStoppingCallback(1, 1e9)]  # no second evaluation is good enough
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, callbacks=callbacks)
    trainer.train()
    sixths = [round(6 * alpha) for alpha in model.alphas]
    assert sixths == [6, 0, 1, 6, 2, 3, 6] and other.seen == [1.0] * 4
    assert trainer.state.global_step == 4 and model.decoder.config.soft_mask_alpha == 1.0
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_that_train_in_half_precision_are_refused_and_frozen_ones_are_not(dtype):
    model, callback = Regression().to(dtype), SoftMaskCallback(SoftMaskOptions(), 10)
    with pytest.raises(UserError, match=rf"the weights that train are {dtype}: load the model with dtype=torch.float32"):
        callback.on_train_begin(None, None, None, model=model)
    model.requires_grad_(False)
    callback.on_train_begin(None, None, None, model=model)


@pytest.mark.parametrize("steps", [-1, 0, None, float("nan")])
def test_steps_below_1_are_refused(steps):
    with pytest.raises(UserError, match=r"total_steps .* at least 1"):
        SoftMaskCallback(SoftMaskOptions(), steps)
