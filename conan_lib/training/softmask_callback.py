"""Moves alpha along its schedule while a model trains."""

from numbers import Real

import torch
from torch import nn
from transformers import TrainerCallback

from conan_lib.attention import alpha_at, set_soft_mask
from conan_lib.errors import UserError
from conan_lib.options import SoftMaskOptions


class SoftMaskCallback(TrainerCallback):
    """Sets the soft mask on the model's config from the trainer's global step, so that a resumed run goes on along the schedule.

    Works with any transformers model loaded with attn_implementation="soft_mask", and with a SentenceTransformer around one. alpha is
    added to the logged rows as `soft_mask_alpha`: the one of the last optimised step. Callbacks that run before this one, as TensorBoard's
    does, see the rows without it. Training step t (from 0) runs at alpha(t). Between steps the model is at alpha(total), at which it is
    saved: whatever evaluates it then, to stop early or to keep the best checkpoint, judges the model that will be used.

    Args:
        options: attention (`soft`, or held at `causal` or `bidirectional`), schedule, reading and ratio.
        total_steps: tau, optimiser steps of the whole run, at least 1.

    Raises:
        UserError: total_steps is below 1 (a trainer's max_steps is -1 unless it was given). When training begins: weights that train are
            in half precision, where most updates of a usual learning rate are rounded away (DeepSpeed keeps float32 copies of its own).
    """

    def __init__(self, options: SoftMaskOptions, total_steps: int):
        if not (isinstance(total_steps, Real) and total_steps >= 1):
            raise UserError(f"SoftMaskCallback: total_steps {total_steps!r} must be the optimiser steps of the whole run, at least 1")
        self.options, self.total_steps = options, total_steps

    def alpha(self, step: int) -> float:
        """alpha of training step `step`."""
        held = {"causal": 0.0, "bidirectional": 1.0}
        return held[self.options.attention] if self.options.attention in held else alpha_at(step, self.total_steps, self.options.schedule)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if not getattr(args, "deepspeed", None):
            _check_precision(model)
        set_soft_mask(model, alpha=self.alpha(self.total_steps), reading=self.options.reading, ratio=self.options.ratio)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        set_soft_mask(model, alpha=self.alpha(state.global_step))

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):  # before any callback's on_step_end, which may evaluate
        set_soft_mask(model, alpha=self.alpha(self.total_steps))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs is not None and "loss" in logs:
            logs["soft_mask_alpha"] = self.alpha(max(state.global_step - 1, 0))
            state.log_history[-1]["soft_mask_alpha"] = logs["soft_mask_alpha"]


def _check_precision(model: nn.Module) -> None:
    half = {weight.dtype for weight in model.parameters() if weight.requires_grad} & {torch.float16, torch.bfloat16}
    if half:
        raise UserError(
            f"SoftMaskCallback: the weights that train are {half.pop()}: load the model with dtype=torch.float32 (in sentence-transformers "
            'model_kwargs={"dtype": torch.float32}), and let the trainer compute in half precision by bf16=True'
        )
