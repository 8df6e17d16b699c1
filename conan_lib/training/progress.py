"""One line that lives while a model trains: steps, time left, the last loss."""

import sys

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

SHOWN = "step {n_fmt}/{total_fmt}{postfix}, {rate_fmt}, {remaining} left"
"""Short, because a run shows it behind the name of the notebook."""


class LossLine(ProgressCallback):
    """transformers' progress on stdout, with the loss in the line and no printed dictionaries."""

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.training_bar = tqdm(total=state.max_steps, file=sys.stdout, unit="step", bar_format=SHOWN)
        self.current_step = 0

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix_str(f"loss {logs['loss']:.3f}")


def show_loss(trainer: Trainer) -> None:
    """The line above in the place of whatever progress the trainer shows."""
    for shown in (DEFAULT_PROGRESS_CALLBACK, ProgressCallback, PrinterCallback):
        trainer.remove_callback(shown)
    trainer.add_callback(LossLine)
