"""What the four training stages share: the Trainer's arguments, and an optimiser that may give the token embeddings a rate of their own."""

import math
import os
import sys
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import get_device_name
from torch import nn
from transformers import PreTrainedModel, TrainingArguments
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from conan_lib.params import Runtime
from conan_lib.params.base import Optimisation, Precision

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
Arguments = TypeVar("Arguments", bound=TrainingArguments)


def training_device(runtime: Runtime) -> str:
    """Where this process computes, as runtime.device says; under a launcher each has a GPU of its own."""
    return "cpu" if runtime.device == "cpu" else get_device_name()


def arithmetic(precision: Precision, device: str) -> Literal["fp32", "bf16"]:
    """What `auto` comes to: bf16 where the processor multiplies bf16 matrices in hardware, else fp32. Master weights are always fp32.

    On a processor with avx512_bf16, bf16 products are about 3.5 times as fast as fp32 at width 576; without it they are slower.
    """
    if precision != "auto":
        return precision
    if not device.startswith("cpu"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # private names: no public one is there in every version of torch that we support
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def training_arguments(section: Optimisation, runtime: Runtime, folder: Path) -> dict[str, Any]:
    """Arguments of transformers' and sentence-transformers' trainers: AdamW, warm-up and decay, a fixed number of steps, checkpoints."""
    if runtime.report_to == "tensorboard":  # beside the checkpoints, which do not stay; transformers takes it from the environment alone
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.parent / "tensorboard")
    return {
        "output_dir": str(folder),
        "max_steps": section.max_steps,
        "learning_rate": section.learning_rate,
        "warmup_steps": math.ceil(section.warmup_ratio * section.max_steps),
        "lr_scheduler_type": SCHEDULES[section.schedule],
        "weight_decay": section.weight_decay,
        "max_grad_norm": section.max_grad_norm,
        "seed": section.seed,
        "data_seed": section.seed,
        "bf16": arithmetic(section.precision, training_device(runtime)) == "bf16",
        # bf16 on a CPU is refused unless the CPU is asked for
        "use_cpu": runtime.device == "cpu" or not torch.accelerator.is_available(),
        "ddp_find_unused_parameters": False,  # every weight that trains is used in every forward pass
        "save_steps": runtime.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "dataloader_num_workers": runtime.workers,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "report_to": runtime.report_to,
        "run_name": f"{folder.parent.parent.name}-{folder.parent.name}",  # stage and key
    }


def one_gpu(arguments: Arguments) -> Arguments:
    """The same arguments, for one GPU a process.

    A process that sees several GPUs and has no launcher would get transformers' DataParallel: batches in parts, each with its own in-batch
    negatives, so another loss, and silently. It takes the first GPU instead and says so.
    """
    if arguments.n_gpu > 1:
        seen = f"{arguments.n_gpu} GPUs are visible, and a process trains on one"
        print(f"{seen}: `accelerate launch` uses them all (docs/cluster.md)", file=sys.stderr)
        arguments._n_gpu = 1
    return arguments


def switch(model: PreTrainedModel | SentenceTransformer, section: Optimisation) -> None:
    """Turn on what a section asks for: gradient checkpointing, torch.compile of each decoder layer (before FSDP takes the model apart)."""
    if section.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if not section.compile:
        return
    backbone = getattr(model, "transformers_model", model)
    if backbone.config._attn_implementation == "soft_mask":  # alpha is another number at every step: compiled in, each would compile anew
        ALL_ATTENTION_FUNCTIONS.register("soft_mask", torch.compiler.disable(ALL_ATTENTION_FUNCTIONS["soft_mask"]))
    for layer in backbone.modules():
        if type(layer).__name__ in (backbone._no_split_modules or ()):
            layer.compile()


class EmbeddingRate:
    """Mixin of a Trainer: the token embeddings learn at `embedding_rate` times the rate of the other weights, on the same schedule.

    With tied embeddings the head is the same matrix and has the same rate. At 1 the optimiser is the Trainer's own.
    sentence-transformers has `learning_rate_mapping` for this, transformers has nothing: one way serves both trainers.
    """

    embedding_rate: float = 1.0

    def create_optimizer(self, *args, **kwargs) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.embedding_rate == 1.0:
            return optimizer
        embeddings = {module.weight for module in self.model.modules() if isinstance(module, nn.Embedding)}
        for group in list(optimizer.param_groups):
            own = [parameter for parameter in group["params"] if parameter in embeddings]
            if own:
                group["params"] = [parameter for parameter in group["params"] if parameter not in embeddings]
                optimizer.add_param_group({**group, "params": own, "lr": group["lr"] * self.embedding_rate})
        return optimizer
