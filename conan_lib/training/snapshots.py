"""The weights along the way: what a stage's curves are measured on afterwards."""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import TrainerCallback

from conan_lib.attention import merge_adapters
from conan_lib.files import replacing
from conan_lib.training.batch_loss import ContrastiveLoss


def snapshot(folder: Path, step: int) -> Path:
    """The file of the weights after `step` optimiser steps, in a stage's folder."""
    return folder / "snapshots" / f"step-{step}.safetensors"


class Snapshots(TrainerCallback):
    """Writes the decoder's weights after some steps, in bf16, with adapters merged; training does not notice.

    These steps and the last one add `distance` to what the loss has seen: ||W - W_0|| / ||W_0||, in fp32 over all weights of the decoder.
    A run that was killed writes again what comes after its last checkpoint.

    Args:
        model: with the weights W_0; it is read while it trains.
        loss: whose `seen` is recorded.
        folder: of the stage.
        steps: optimiser steps, counted from 1.
    """

    def __init__(self, model: SentenceTransformer, loss: ContrastiveLoss, folder: Path, steps: Iterable[int]):
        self.model, self.loss, self.folder, self.steps = model, loss, folder, frozenset(steps)
        self.start = {name: weight.clone() for name, weight in model.transformers_model.state_dict().items()}

    def on_step_end(self, args, state, control, **_):
        if state.global_step not in self.steps | {state.max_steps}:
            return
        weights = self._merged()
        self.loss.seen["distance"] = relative_distance(weights, self.start)
        if state.global_step in self.steps and state.is_world_process_zero:
            with replacing(snapshot(self.folder, state.global_step)) as new:
                save_file({name: weight.to(torch.bfloat16).contiguous() for name, weight in weights.items()}, new, {"format": "pt"})

    def _merged(self) -> dict[str, Tensor]:
        decoder = self.model.transformers_model
        if getattr(decoder, "peft_config", None):
            merge_adapters(decoder := deepcopy(decoder))
        return decoder.state_dict()


def relative_distance(weights: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """||W - W_0|| / ||W_0||, all tensors as one vector; the sums are float64."""
    squares = [((weights[name] - one).double().square().sum(), one.double().square().sum()) for name, one in start.items()]
    moved, size = (torch.stack(column).sum().sqrt() for column in zip(*squares, strict=True))
    return (moved / size).item()
