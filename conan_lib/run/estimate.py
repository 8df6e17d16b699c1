"""How long training may take on this machine, from its operations and one measured matrix product."""

import time

import torch
from transformers import PreTrainedConfig

from conan_lib.params import Params
from conan_lib.run.budget import work
from conan_lib.training.arguments import arithmetic

USED = 0.3
"""Share of a matrix product's speed that training reaches; 0.2 to 0.5 are usual, less for small models."""


def training_time(params: Params, config: PreTrainedConfig) -> str:
    """A line with the estimate and what it rests on: every text at its longest, so rather too much."""
    device = "cuda" if params.runtime.device != "cpu" and torch.cuda.is_available() else "cpu"
    rate = matrix_product(device, torch.bfloat16 if arithmetic(params.weak.precision, device) == "bf16" else torch.float32)
    operations = sum(one.flops(config) for one in work(params))
    hours = operations / (USED * rate) / 3600
    words = f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes" if hours > 1 / 60 else "less than a minute"
    return f"{words}: {operations:.1e} operations, a matrix product does {rate:.1e} a second here, of which training may reach {USED:.0%}"


def matrix_product(device: str, dtype: torch.dtype, width: int = 1024, repeats: int = 5) -> float:
    """Operations a second of a matrix product, the best of a few."""
    matrix, best = torch.ones(width, width, device=device, dtype=dtype), float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        (matrix @ matrix).sum().item()
        best = min(best, time.perf_counter() - began)
    return 2 * width**3 / best
