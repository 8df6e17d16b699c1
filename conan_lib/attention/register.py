"""Registers the soft mask with transformers, so that any decoder takes attn_implementation="soft_mask" with no change to its code.

What the mask is comes from the model's config: soft_mask_alpha (default 1.0), soft_mask_reading ("weight"), soft_mask_ratio ("l/i"),
soft_mask_backend ("auto": see `conan_lib.attention.backends.pick_backend`).
model(..., soft_mask_alpha=0.3) overrides alpha for one call. config.is_causal is not read here: alpha alone says what a row sees.
Gradient checkpointing works as it is. torch.compile works with a graph break at the mask and at each attention, which stay eager, so that a
new alpha compiles nothing; fullgraph=True therefore fails.
"""

from typing import Any, get_args

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from conan_lib.attention.backends import soft_mask_attention
from conan_lib.attention.softmask import Backend, Ratio, Reading, SoftMask, kind
from conan_lib.errors import UserError

NAME = "soft_mask"
DEFAULTS = {"soft_mask_alpha": 1.0, "soft_mask_reading": "weight", "soft_mask_ratio": "l/i", "soft_mask_backend": "auto"}
_CHOICES = {"soft_mask_reading": get_args(Reading), "soft_mask_ratio": get_args(Ratio), "soft_mask_backend": get_args(Backend)}


def settings(config: Any) -> dict[str, Any]:
    """alpha, reading, ratio and backend of a config, checked. UserError for a value outside its range."""
    found = {name: getattr(config, name, default) for name, default in DEFAULTS.items()}
    for name, choices in _CHOICES.items():
        if found[name] not in choices:
            raise UserError(f"config.{name}: {found[name]!r} is not one of {', '.join(choices)}")
    if not (isinstance(found["soft_mask_alpha"], (int, float)) and 0 <= found["soft_mask_alpha"] <= 1):
        raise UserError(f"config.soft_mask_alpha: {found['soft_mask_alpha']!r} is outside 0..1")
    return {name.removeprefix("soft_mask_"): value for name, value in found.items()}


@torch.compiler.disable
def build_mask(batch_size: int, q_length: int, kv_length: int, *, config: Any, mask_function, attention_mask=None, device="cpu", **kwargs):
    """The mask function behind "soft_mask": called once in a forward pass, its result reaches every layer.

    `mask_function(b, h, i, j)` is transformers' causal rule; where it forbids a token its left neighbour, a new packed sequence starts.
    """
    if kwargs.get("local_size") is not None:
        # some decoders ask for this mask although no layer uses it: a layer that does raises it
        return UserError(
            f"soft_mask: {config.model_type} has sliding-window layers, which it does not cover: use a full-attention backbone"
        )
    if kwargs.get("use_vmap"):
        raise UserError(f"soft_mask: {config.model_type} overlays its own mask rule, which it does not cover: use a plain decoder")
    chosen = settings(config)
    if q_length != kv_length:  # decoding: past rows can no longer see their future, so only the causal end makes sense
        if chosen["alpha"] > 0 or chosen["reading"] != "weight":
            raise UserError("soft_mask: decoding with a cache needs config.soft_mask_alpha = 0 (reading weight); or pass use_cache=False")
        arguments = {"mask_function": mask_function, "attention_mask": attention_mask, "device": device} | kwargs
        return sdpa_mask(batch_size, q_length, kv_length, **arguments)
    segments = _packed(mask_function, batch_size, q_length, device)
    if attention_mask is not None:
        segments = segments * attention_mask.to(segments.dtype)
    return SoftMask(segments, bool((segments == 1).all()), **chosen)


def _packed(mask_function, batch_size: int, length: int, device) -> Tensor:
    """Sequence numbers (B, L) from 1 on."""
    batch, token = torch.arange(batch_size, device=device)[:, None], torch.arange(1, length, device=device)[None]
    goes_on = torch.as_tensor(mask_function(batch, 0, token, token - 1), device=device).expand(batch_size, length - 1)
    return nn.functional.pad((~goes_on).long().cumsum(-1), (1, 0)) + 1


@torch.compiler.disable
def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """The attention function behind "soft_mask" -> ((B, L, H, D), None), as transformers wants it."""
    if isinstance(attention_mask, UserError):
        raise attention_mask
    for option in ("sliding_window", "softcap"):
        if kwargs.get(option) is not None:
            raise UserError(f"soft_mask: {module.config.model_type} uses {option}, which it does not cover: use a backbone without it")
    alpha = kwargs.pop("soft_mask_alpha", None)
    if alpha is not None and not 0 <= alpha <= 1:
        raise UserError(f"soft_mask_alpha: {alpha} is outside 0..1")
    if isinstance(attention_mask, SoftMask):
        out = soft_mask_attention(query, key, value, attention_mask, alpha, scaling, dropout)
        return out.transpose(1, 2).contiguous(), None
    if query.shape[2] != key.shape[2] and not alpha:  # decoding, checked in build_mask
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    raise UserError("soft_mask: give the model a 2-D attention_mask (batch, length), or none; a ready-made 4-D mask leaves no soft mask")


def set_soft_mask(model: nn.Module, **values: Any) -> None:
    """Sets alpha, reading, ratio or backend on every soft-masked transformers model inside `model` (e.g. a SentenceTransformer).

    Raises:
        UserError: there is none, or a value is outside its range.
    """
    for config in _configs(model):
        for name, value in values.items():
            setattr(config, f"soft_mask_{name}", value)
        settings(config)


def to_stock(model: nn.Module) -> None:
    """Turns a model at an end of the transition into a stock one: SDPA, config.is_causal = False at alpha = 1, True at alpha = 0.

    Its config then names nothing of ours, and the saved model loads in plain transformers or sentence-transformers with equal vectors.

    Raises:
        UserError: the mask is between its ends, or the ratio i/l keeps it from being bidirectional.
    """
    for config in _configs(model):
        chosen = settings(config)
        chosen.pop("backend")
        if (end := kind(**chosen)) == "soft":
            raise UserError(f"soft_mask: {chosen} is neither causal nor bidirectional, so no stock model gives its vectors")
        config.is_causal = end == "causal"
        for name in DEFAULTS:
            config.__dict__.pop(name, None)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("sdpa")


def _configs(model: nn.Module) -> list[Any]:
    """The configs of the soft-masked transformers models inside a module, each once."""
    inside = (module.config for module in model.modules() if isinstance(module, PreTrainedModel))
    found = list({id(config): config for config in inside if config._attn_implementation == NAME}.values())
    if not found:
        raise UserError(f'soft_mask: no model inside {type(model).__name__} uses it: load it with attn_implementation="{NAME}"')
    return found


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, build_mask)
