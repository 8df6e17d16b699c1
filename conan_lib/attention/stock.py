"""The way out: a soft-masked model at an end of the transition becomes a stock one, in memory and in a folder.

transformers reads `is_causal: false` from version 5.2 on; older ones would silently read a bidirectional decoder as a causal one. The
folders made here therefore point older versions at a configuration that they refuse (`refuse_older`).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from conan_lib.attention.register import DEFAULTS, configs_of, settings, soft_masked
from conan_lib.attention.softmask import kind
from conan_lib.errors import UserError

FIRST_VERSION = "5.2.0"
"""The transformers that first heeds config.is_causal."""


def save_stock(model: nn.Module, folder: str | Path) -> None:
    """Makes a model stock (`to_stock`, where it is not yet) and saves it; transformers before 5.2 refuse the folder if it is bidirectional.

    Args:
        model: one of transformers or a SentenceTransformer.
        folder: as in its own save_pretrained.

    Raises:
        UserError: see `to_stock`; a model that is stock already is no exception. Or the folder is none: a file, or None. Nothing is
            changed then.
    """
    _check_folder(folder)
    if soft_masked(model):
        to_stock(model)
    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    if opened := {id(part.config): part for part in parts if getattr(part.config, "is_causal", True) is False}:
        for part in opened.values():
            _check_direction(part, causal=False)
        merge_adapters(model)
    model.save_pretrained(str(folder))
    refuse_older(folder)


def _check_folder(folder: Any) -> None:
    """transformers only logs where a file is in the way, and the model would be lost."""
    if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
        raise UserError(f"save_stock: folder {folder!r} is no path: name a folder")
    path = Path(folder)
    if in_the_way := [one for one in (path, *path.parents) if one.exists() and not one.is_dir()]:
        raise UserError(f"save_stock: {in_the_way[0]} is a file: name a folder")


def refuse_older(folder: str | Path) -> None:
    """Lets transformers before 5.2 stop at a saved bidirectional decoder, with a line that says why; does nothing to other folders.

    By its own means: `configuration_files` in config.json names a configuration for each version, and the one for old versions is of a
    model type that none of them knows, which stops Auto classes, and of a dtype that torch has not, which stops a class called by its name.
    config.json itself stays whole, for readers that know nothing of it.
    """
    for path in list(Path(folder).rglob("config.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if not _opened(config):
            continue
        ours = f"config.{FIRST_VERSION}.json", "config.0.json"
        why = f"{config.get('model_type')}, bidirectional (is_causal: false): needs transformers >= {FIRST_VERSION}"
        refusal = {"model_type": why, "torch_dtype": why}
        config.pop("configuration_files", None)
        for name, values in (*zip(ours, (config, refusal), strict=True), ("config.json", config | {"configuration_files": sorted(ours)})):
            path.with_name(name).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _opened(config: Any) -> bool:
    """Whether a configuration, or a part of it, is a decoder made bidirectional."""
    if not isinstance(config, dict):
        return False
    return ("model_type" in config and config.get("is_causal") is False) or any(map(_opened, config.values()))


def to_stock(model: nn.Module, attn_implementation: str | None = None) -> None:
    """Turns a model at an end of the transition into a stock one: config.is_causal = False at alpha = 1, True at alpha = 0.

    Its config then names nothing of ours, and what `save_stock` saves loads in plain transformers or sentence-transformers with equal
    vectors. Adapters (LoRA) of a model at alpha = 1 are merged into its weights: saved alone they would have no config to say that it is
    bidirectional. Layer types, hence windows, stay.

    Args:
        attn_implementation: the stock one. By default what transformers takes by itself when it loads the model: SDPA, or "eager" where
            there is none. Any other has to be named again wherever the saved model is loaded.

    Raises:
        UserError: the mask is between its ends; the ratio i/l keeps it from being bidirectional; an encoder (BERT) is at alpha = 0: its
            stock form sees both ways whatever its config says; a decoder (StableLm) is at alpha = 1 and its stock form stays causal,
            whatever its config says, in a batch without padding; the model has no such attention; or its adapter cannot be merged.
            Nothing is changed then.
    """
    ends = [(config, _end(config)) for config in configs_of(model)]
    opened = {}  # decoders made bidirectional, for each config the innermost
    for part in soft_masked(model):
        encodes = any(getattr(module, "is_causal", True) is False for module in part.modules())
        end = _end(part.config)
        if encodes and end == "causal":
            raise UserError(f"soft_mask: a stock {part.config.model_type} is never causal: set alpha to 1, or take a decoder")
        if not encodes and end == "bidirectional":
            opened[id(part.config)] = part
    if opened:
        _check_adapters(model)
    models = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    before = [(module.config, dict(vars(module.config))) for module in models]
    try:
        for config, end in ends:
            if end == "causal" or id(config) in opened:  # an encoder's config says nothing: it sees both ways in every version
                config.is_causal = end == "causal"
            for name in DEFAULTS:
                config.__dict__.pop(name, None)
        for module in models:
            _set_attention(module, attn_implementation)
        for part in opened.values():
            _check_direction(part, causal=False)
    except BaseException:
        _restore(before)
        raise
    if opened:
        merge_adapters(model)


def _set_attention(model: PreTrainedModel, name: str | None) -> None:
    if name is None:
        name = model.get_correct_attn_implementation(None)
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        own = model.get_correct_attn_implementation(None)
        reason = str(error).split("\n")[0].split(". ")[0]
        raise UserError(f'soft_mask: {reason}: to_stock(model, attn_implementation="{own}") is what it has') from error


def check_stock(model: PreTrainedModel, causal: bool) -> None:
    """Whether the stock form of a model, as transformers loads it by itself, is what its config.is_causal says; changes nothing.

    Raises:
        UserError: it is bidirectional where `causal`, or causal where not.
    """
    parts = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    before = [(part.config, dict(vars(part.config))) for part in parts]
    try:
        model.config.is_causal = causal
        for part in parts:
            _set_attention(part, None)
        _check_direction(model, causal, "sentence-transformers would load it so, so take another backbone")
    finally:
        _restore(before)


EAGER = 'to_stock(model, attn_implementation="eager"), and load it with attn_implementation="eager" from then on'


def _check_direction(model: PreTrainedModel, causal: bool, mend: str = EAGER) -> None:
    if _direction(model) == ("bidirectional" if causal else "causal"):
        wrong = "is bidirectional" if causal else "stays causal in a batch without padding"
        raise UserError(f"soft_mask: a stock {type(model).__name__} under {model.config._attn_implementation} {wrong}: {mend}")


@torch.no_grad()
def _direction(model: PreTrainedModel) -> str | None:
    """causal or bidirectional: what moves with the other of two tokens, without padding. Some models hand neither mask nor config.is_causal
    on. None: nothing moves, as in a new model whose layers begin as the identity."""
    # tokens from the middle of the vocabulary: its ends hold padding and rows that were never trained
    size, training = model.config.vocab_size, [module for module in model.modules() if module.training]
    pairs = torch.tensor([[0, 1], [0, 2], [2, 1]], device=model.device) + size // 2
    model.eval()
    try:
        both, last, first = (model(pair[None] % size)[0][0] for pair in pairs)
    finally:
        for module in training:
            module.training = True
    if not torch.equal(both[0], last[0]):
        return "bidirectional"
    return None if torch.equal(both[1], first[1]) else "causal"


def _restore(before: list[tuple[Any, dict[str, Any]]]) -> None:
    for config, values in before:
        vars(config).clear()
        vars(config).update(values)


def _end(config: Any) -> str:
    """Which stock attention a config's mask is: causal or bidirectional."""
    chosen = settings(config)
    chosen.pop("backend")
    if (end := kind(**chosen)) == "soft":
        raise UserError(
            f"soft_mask: {chosen} is neither causal nor bidirectional, so no stock model gives its vectors: finish the schedule, or "
            'set_soft_mask(model, alpha=1, ratio="l/i")'
        )
    return end


def merge_adapters(model: nn.Module) -> None:
    """Merges peft's adapters into the weights, in place: W + scale * B A in the place of each adapted layer, and all weights train again.

    Raises:
        UserError: there are adapters that are no change of weights (prompts), or `model` itself is a PeftModel, which stands outside.
    """
    if "peft" not in sys.modules:
        return
    _check_adapters(model)
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, wrapper in list(model.named_modules()):
        if isinstance(wrapper, PeftModel):
            _replace(model, name, wrapper.merge_and_unload().requires_grad_(True))
    for name, layer in list(model.named_modules()):
        if hasattr(layer, "unload_and_optionally_merge_module"):
            _replace(model, name, layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None))
        elif isinstance(layer, BaseTunerLayer):
            layer.merge()
            _replace(model, name, layer.get_base_layer())
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and getattr(module, "_hf_peft_config_loaded", False):
            module.delete_adapter(list(module.peft_config))
            module.requires_grad_(True)


def _check_adapters(model: nn.Module) -> None:
    if "peft" not in sys.modules:
        return
    from peft import PeftModel

    if isinstance(model, PeftModel):
        raise UserError(
            "soft_mask: an adapter saved alone cannot say that its model is bidirectional: model = model.merge_and_unload(), then again"
        )
    wrappers = [module for module in model.modules() if isinstance(module, PeftModel)]
    if any(config.is_prompt_learning for wrapper in wrappers for config in wrapper.peft_config.values()):
        raise UserError("soft_mask: a learned prompt cannot be merged into the weights: take LoRA or another change of weights")


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
