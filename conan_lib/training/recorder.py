"""What a run remembers beside its weights: a row for each step, and the state of what is not a module (the negatives' pool).

The Trainer writes its own checkpoint first and calls `on_save` last, so the recorder's file, written atomically, is what makes a
checkpoint complete: a run that was killed while saving starts again from the one before. So it also is what may stop a run in time.
"""

import hashlib
import json
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import PartialState
from pydantic import BaseModel
from torch import nn
from transformers import Trainer, TrainerCallback

from conan_lib.artefacts import leads
from conan_lib.errors import RunError, Stopped, UserError
from conan_lib.files import first_damaged, read_json, replacing, write_json
from conan_lib.params import Runtime
from conan_lib.training.processes import any_of, check_shares, merged, without_weights

STATE = "recorder.pt"


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Recorder(TrainerCallback):
    """Collects `rows` over steps and keeps them, with the state of `others`, in every checkpoint.

    Args:
        observe: returns what to record after a step, without `step`, `learning_rate`, `grad_norm` and `alpha`, which are added.
        others: objects with state_dict and load_state_dict.
        runtime: its deadline, and whether signals are one. From then on the run saves at the end of its step and raises Stopped: in all
            processes of a launch at the same step, the first that any of them is late.
    """

    def __init__(self, observe, others: dict[str, Stateful] | None = None, runtime: Runtime | None = None):
        self.observe, self.others, runtime = observe, others or {}, runtime or Runtime()
        self.rows: list[dict[str, Any]] = []
        self._deadline, self._signals, self._late, self._rate = runtime.deadline, runtime.stop_on_signal, False, 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block SIGTERM and SIGUSR1, which batch systems send before they kill, are a deadline, where the runtime says so."""

        def stop(*_) -> None:
            self._deadline = 0.0

        numbers = (signal.SIGTERM, signal.SIGUSR1) if self._signals else ()
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step_begin(self, args, state, control, lr_scheduler=None, **_):
        self._rate = lr_scheduler.get_last_lr()[0] if lr_scheduler is not None else 0.0

    def on_step_end(self, args, state, control, **_):
        self.rows.append({"step": state.global_step, "learning_rate": self._rate, **self.observe()})
        if (self._signals or self._deadline is not None) and state.global_step < state.max_steps:
            self._late = any_of(self._deadline is not None and time.time() >= self._deadline)
        control.should_save |= self._late

    def on_log(self, args, state, control, logs=None, **_):  # every step is logged, after on_step_end and before on_save
        if "grad_norm" in (logs or {}):
            self.rows[-1]["grad_norm"] = logs["grad_norm"]

    def on_save(self, args, state, control, **_):
        PartialState().wait_for_everyone()  # until every process has written its part
        if state.is_world_process_zero:
            with replacing(Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE) as new:
                torch.save({"rows": self.rows, "others": {name: other.state_dict() for name, other in self.others.items()}}, new)
        if self._late:
            PartialState().wait_for_everyone()
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


def checkpoint_of(folder: Path, options: BaseModel, rows: Iterable[dict]) -> Path | None:
    """The last complete checkpoint in a folder; notes what leads to those that will follow.

    Raises:
        UserError: other options or rows led to it.
    """
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    now = {**options.model_dump(mode="json"), "rows": digest.hexdigest()[:16]}
    checkpoint, file = last_checkpoint(folder), folder / "options.json"
    before = read_json(file) if checkpoint else now
    for name, value in now.items():
        if before.get(name) != value:
            raise UserError(f"{folder}: of another run: {name} {before.get(name)} is now {value}: choose another folder, or remove it")
    if leads():
        write_json(file, now)
    return checkpoint


def finish(trainer: Trainer, recorder: Recorder, checkpoint: Path | None) -> nn.Module:
    """Train from a complete checkpoint, or from the start, to the end; returns the model, whole in the first process.

    Raises:
        UserError: the checkpoint is damaged, or of another kind of launch.
        Stopped: the deadline of the recorder's runtime.
        RunError: the trainer ended before its last step for another reason.
    """
    model, sharded = trainer.model, trainer.is_fsdp_enabled
    bare = without_weights(model) if sharded else None
    if checkpoint is not None:
        check_shares(checkpoint, sharded)
        recorder.resume(checkpoint)
    with recorder.listening():
        if not recorder.rows or recorder.rows[-1]["step"] < trainer.args.max_steps:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if (done := trainer.state.global_step) < (steps := trainer.args.max_steps):  # it only logs that it was given no batch
                raise RunError(f"{trainer.args.output_dir}: training ended at step {done:,} of {steps:,}: its data gave no further batch")
        elif not sharded:  # killed after the last step: `train` would go on into another epoch
            trainer._load_from_checkpoint(str(checkpoint))
    return merged(bare, last_checkpoint(Path(trainer.args.output_dir))) if sharded else model
