"""The line that lives while a model trains."""

import torch
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from conan_lib.training.progress import LossLine, show_loss


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, **_):
        return {"loss": (self.weight * x).mean()}


def test_one_line_says_step_loss_and_time_left_and_nothing_else_is_printed(tmp_path, capsys):
    arguments = TrainingArguments(output_dir=str(tmp_path), max_steps=3, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no")
    trainer = Trainer(Model(), arguments, train_dataset=[{"x": torch.tensor([2.0])}] * 8)
    show_loss(trainer)
    shown = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert shown.count(LossLine) == 1 and ProgressCallback not in shown and PrinterCallback not in shown
    trainer.train()
    out, err = capsys.readouterr()
    assert "step 3/3, loss 2.000, " in out and " left" in out
    assert "{" not in out and "it/s" not in err
