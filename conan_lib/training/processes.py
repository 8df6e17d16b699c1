"""What the processes of one launch agree on (one alone agrees with itself), and how FSDP's shares of a model become one model again."""

import copy
import tempfile
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import merge_fsdp_weights, reduce
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from conan_lib.errors import UserError

SHARES = "pytorch_model_fsdp_0"
"""The folder in a checkpoint that holds FSDP's shares of the weights."""


def mean_of(value: Tensor) -> float:
    """The mean over the processes of a number that each has."""
    return reduce(value.detach().double(), "mean").item()


def any_of(flag: bool) -> bool:
    """Whether it is true in any process."""
    return reduce(torch.tensor(float(flag), device=PartialState().device), "sum").item() > 0


def without_weights(model: nn.Module) -> nn.Module:
    """A copy that holds no weights (they are on the meta device): made before FSDP takes the model apart."""
    return copy.deepcopy(
        model, {id(weight): nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad) for weight in model.parameters()}
    )


def merged(bare: nn.Module, checkpoint: Path) -> nn.Module:
    """`bare` (see above) with the weights of a checkpoint in shares, in the first process; all call it, however many there are.

    accelerate writes the shares as one safetensors file first, as `accelerate merge-weights` does.
    """
    with tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder:
        merge_fsdp_weights(str(checkpoint / SHARES), folder)
        if PartialState().is_main_process:
            bare.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=False, assign=True)
            for module in bare.modules():
                if isinstance(module, PreTrainedModel):
                    module.tie_weights()
            if lacking := [name for name, weight in bare.named_parameters() if weight.is_meta]:
                raise UserError(f"{checkpoint}: lacks {', '.join(lacking)}: remove it, and training goes on from the one before it")
            bare.to(PartialState().device)
    return bare


def check_shares(checkpoint: Path, sharded: bool) -> None:
    """Whether this launch can go on from a checkpoint.

    Raises:
        UserError: FSDP wrote it and this launch has none, or the other way round.
    """
    if (checkpoint / SHARES).is_dir() != sharded:
        wrote, now = ("FSDP", "without it") if not sharded else ("a launch without FSDP", "with it")
        raise UserError(
            f"{checkpoint}: written by {wrote}, and this launch goes on {now}: launch as before (the number of processes may change), "
            f"or remove {checkpoint.parent} to begin the stage anew"
        )
