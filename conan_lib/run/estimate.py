"""How long training may take on this machine, from its operations and one measured matrix product."""

import time

import torch
from transformers import PreTrainedConfig

from conan_lib.model.backbone import flops_per_token
from conan_lib.params import Params
from conan_lib.training.arguments import arithmetic
from conan_lib.training.tasks import TASKS

USED = 0.3
"""Share of a matrix product's speed that training reaches; 0.2 to 0.5 are usual, less for small models."""


def training_time(params: Params, config: PreTrainedConfig) -> str:
    """A line with the estimate and what it rests on: every text at its longest, so rather too much."""
    device = "cuda" if params.runtime.device != "cpu" and torch.cuda.is_available() else "cpu"
    rate = _product(device, torch.bfloat16 if arithmetic(params.weak.precision, device) == "bf16" else torch.float32)
    operations = sum(tokens * 3 * flops_per_token(config, length) for tokens, length in _work(params))
    hours = operations / (USED * rate) / 3600
    words = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours > 1 / 60 else "less than a minute"
    return f"{words}: {operations:.1e} operations, a matrix product does {rate:.1e} a second here, of which training may reach {USED:.0%}"


def _work(params: Params) -> list[tuple[float, int]]:
    """(tokens, length of a text) of each training stage."""
    language_model = [section for section in (params.pretrain, params.sft) if section is not None]
    work = [(section.max_steps * section.batch_size * section.max_length, section.max_length) for section in language_model]
    weak, supervised = params.weak, params.supervised
    work.append((weak.max_steps * 2 * weak.batch_size * weak.max_length, weak.max_length))
    shares = {task: share for task, share in supervised.mix.items() if share}
    texts = sum(
        share * supervised.task_batch_size[task] * (2 + (supervised.hard_negatives if TASKS[task].negatives == "pool" else 0))
        for task, share in shares.items()
    ) / sum(shares.values())
    return [*work, (supervised.max_steps * texts * supervised.max_length, supervised.max_length)]


def _product(device: str, dtype: torch.dtype, width: int = 1024, repeats: int = 5) -> float:
    """Operations a second of a matrix product, the best of a few."""
    matrix, best = torch.ones(width, width, device=device, dtype=dtype), float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        (matrix @ matrix).sum().item()
        best = min(best, time.perf_counter() - began)
    return 2 * width**3 / best
