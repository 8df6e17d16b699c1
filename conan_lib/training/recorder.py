"""What a run remembers beside its weights: a row for each step, and the state of what is not a module (the negatives' pool).

The Trainer writes its own checkpoint first and calls `on_save` last, so the recorder's file, written atomically, is what makes a
checkpoint complete: a run that was killed while saving starts again from the one before. So it also is what may stop a run in time.
"""

import time
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback

from conan_lib.errors import Stopped, UserError
from conan_lib.files import first_damaged, replacing

STATE = "recorder.pt"


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Recorder(TrainerCallback):
    """Collects `rows` over steps and keeps them, with the state of `others`, in every checkpoint.

    Args:
        observe: returns what to record after a step, without `step`, `learning_rate`, `grad_norm` and `alpha`, which are added.
        others: objects with state_dict and load_state_dict.
        deadline: Unix time from which on the run saves at the end of its step and raises Stopped.
    """

    def __init__(self, observe, others: dict[str, Stateful] | None = None, deadline: float | None = None):
        self.observe, self.others, self.deadline = observe, others or {}, deadline
        self.rows: list[dict[str, Any]] = []
        self._rate = 0.0

    def on_step_begin(self, args, state, control, lr_scheduler=None, **_):
        self._rate = lr_scheduler.get_last_lr()[0] if lr_scheduler is not None else 0.0

    def on_step_end(self, args, state, control, **_):
        self.rows.append({"step": state.global_step, "learning_rate": self._rate, **self.observe()})
        control.should_save |= self._late(state)

    def on_log(self, args, state, control, logs=None, **_):  # every step is logged, after on_step_end and before on_save
        if "grad_norm" in (logs or {}):
            self.rows[-1]["grad_norm"] = logs["grad_norm"]

    def _late(self, state) -> bool:
        return self.deadline is not None and time.time() >= self.deadline and state.global_step < state.max_steps

    def on_save(self, args, state, control, **_):
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with replacing(folder / STATE) as new:
            torch.save({"rows": self.rows, "others": {name: other.state_dict() for name, other in self.others.items()}}, new)
        if self._late(state):
            raise Stopped(f"stopped at step {state.global_step:,} of {state.max_steps:,}")

    def resume(self, checkpoint: Path) -> None:
        """Go back to the moment of a complete checkpoint.

        Raises:
            UserError: one of its files is damaged.
        """
        if damaged := first_damaged(checkpoint):
            raise UserError(
                f"{damaged}: damaged: remove {checkpoint}, and training goes on from the checkpoint before it or from its start"
            )
        saved = torch.load(checkpoint / STATE, weights_only=True)
        self.rows = saved["rows"]
        for name, other in self.others.items():
            other.load_state_dict(saved["others"][name])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below `folder`, or None."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{STATE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
