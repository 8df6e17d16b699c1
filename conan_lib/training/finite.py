"""A stage stops where its loss or its gradients are no numbers any more, and says on which records; a loss that jumps is told."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_model
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import TrainerCallback

from conan_lib.errors import RunError
from conan_lib.files import write_json
from conan_lib.training.processes import any_of

WINDOW, FEWEST = 50, 10
"""Losses of a task that a new one is compared with, at most and at least."""
SPIKE = 2.0
"""A loss above so many times their median is told."""
SHOWN = 3
"""Records that the line names; the file has them all."""


class Finite(TrainerCallback):
    """Looks at loss and gradients before the optimiser's step, so the weights that it saves are the last good ones.

    FSDP has them in shares: there the last checkpoint is all that is kept.

    Args:
        observe: the row of the step, with loss and perhaps task.
        records: the ids of the records in the batch of a step (0 is the first).
        folder: where checkpoints lie.
    """

    def __init__(self, observe: Callable[[], dict], records: Callable[[int], list[str]], folder: Path):
        self.observe, self.records, self.folder = observe, records, folder
        self.losses: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        """Raises RunError where loss or gradients are not finite."""
        seen, step = self.observe(), state.global_step + 1
        shares = [weight.grad.to_local() if isinstance(weight, DTensor) else weight.grad for weight in model.parameters()
                  if weight.grad is not None]  # fmt: skip
        loss, norm = seen["loss"], float(torch.nn.utils.get_total_norm(shares))
        if not any_of(not (math.isfinite(loss) and math.isfinite(norm))):  # the processes of a launch stop together
            self._tell_spike(step, seen)
            return
        folder, ids = self.folder / f"stopped-{step}", self.records(state.global_step)
        if state.is_world_process_zero:
            folder.mkdir(parents=True, exist_ok=True)
            if not any(isinstance(weight, DTensor) for weight in model.parameters()):
                save_model(getattr(model, "module", model), str(folder / "model.safetensors"))
            # JSON has no NaN
            write_json(folder / "batch.json", {"step": step, "loss": str(loss), "gradients": str(norm), "records": ids, **_plain(seen)})
        shown = ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")
        raise RunError(
            f"step {step:,}: the loss is {loss:g} and the gradients' norm {norm:g}, on {shown}: nothing was learnt from them; look "
            f"at these records, or lower the learning rate; {folder} has their names and the weights before the step"
        )

    def _tell_spike(self, step: int, seen: dict) -> None:
        loss, before = seen["loss"], self.losses[seen.get("task", "")]
        if len(before) >= FEWEST and loss > SPIKE * (usual := median(before)):
            tqdm.write(f"step {step:,}: the loss is {loss:.3g}, {loss / usual:.1f} times the median of the {len(before)} steps before")
        before.append(loss)


def _plain(seen: dict) -> dict:
    return {name: str(value) for name, value in seen.items() if name != "loss"}


class Numbered(Dataset):
    """Items with their numbers; `collate` puts these into the batch as `row` (B,)."""

    def __init__(self, items: Dataset | Sequence, collate: Callable[[list], dict[str, torch.Tensor]]):
        self.items, self._collate = items, collate

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> tuple:
        return number, self.items[number]

    def collate(self, numbered: list[tuple]) -> dict[str, torch.Tensor]:
        """A batch of items and `row`."""
        numbers, items = zip(*numbered, strict=True)
        return {**self._collate(items), "row": torch.tensor(numbers)}
