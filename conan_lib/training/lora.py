"""Low-rank adapters on a sentence encoder while it trains; what is left afterwards is a stock model."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import set_seed

from conan_lib.errors import UserError
from conan_lib.params.training import LoraParams


def add_lora(model: SentenceTransformer, lora: LoraParams, seed: int) -> None:
    """Puts adapters on `lora.targets`, in place; from here on they alone train, and the token embeddings where `lora.embeddings` says so.

    At the start they change nothing (B = 0).

    Raises:
        UserError: see `check_targets`.
    """
    from peft import LoraConfig

    embeddings = model.transformers_model.get_input_embeddings()
    layers = [name for name, module in model.transformers_model.named_modules() if isinstance(module, torch.nn.Linear)]
    check_targets("lora.targets", lora.targets, layers)
    set_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        modules_to_save=[name for name, module in model.transformers_model.named_modules() if module is embeddings and lora.embeddings],
        task_type="FEATURE_EXTRACTION",
    )
    model.add_adapter(config)


def load_lora(model: SentenceTransformer, checkpoint: Path) -> None:
    """Puts a checkpoint's adapters into a model that has some: transformers 5.17 leaves embeddings that train in full at random."""
    from peft import set_peft_model_state_dict

    if (file := checkpoint / "adapter_model.safetensors").is_file():
        weights = {name.removeprefix("base_model.model."): weight for name, weight in load_file(file).items()}
        set_peft_model_state_dict(model.transformers_model, weights)


def check_targets(where: str, targets: Sequence[str], layers: Sequence[str]) -> None:
    """Whether every target is the end of a layer's dotted name, as peft reads it; peft itself accepts a list with one right name.

    Raises:
        UserError: a target is not.
    """
    if wrong := [target for target in targets if not any(f".{layer}".endswith(f".{target}") for layer in layers)]:
        known = ", ".join(dict.fromkeys(layer.rpartition(".")[2] for layer in layers))
        raise UserError(f"{where}: {', '.join(wrong)}: no layer of the backbone is called so: choose from {known}")
