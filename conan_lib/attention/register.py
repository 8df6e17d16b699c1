"""Registers the soft mask with transformers, so that any decoder takes attn_implementation="soft_mask" with no change to its code.

What the mask is comes from the model's config: soft_mask_alpha (default 1.0), soft_mask_reading ("weight"), soft_mask_ratio ("l/i").
model(..., soft_mask_alpha=0.3) overrides alpha for one call. config.is_causal is not read here: alpha alone says what a row sees.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from conan_lib.attention.softmask import SoftMask, soft_mask_attention
from conan_lib.errors import UserError

NAME = "soft_mask"
DEFAULTS = {"soft_mask_alpha": 1.0, "soft_mask_reading": "weight", "soft_mask_ratio": "l/i"}
_CHOICES = {"soft_mask_reading": ("weight", "logit"), "soft_mask_ratio": ("l/i", "i/l")}


def settings(config: Any) -> dict[str, Any]:
    """alpha, reading and ratio of a config, checked. UserError for a value outside its range."""
    found = {name: getattr(config, name, default) for name, default in DEFAULTS.items()}
    for name, choices in _CHOICES.items():
        if found[name] not in choices:
            raise UserError(f"config.{name}: {found[name]!r} is not one of {', '.join(choices)}")
    if not 0 <= found["soft_mask_alpha"] <= 1:
        raise UserError(f"config.soft_mask_alpha: {found['soft_mask_alpha']} is outside 0..1")
    return {name.removeprefix("soft_mask_"): value for name, value in found.items()}


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
    full = bool((segments == 1).all())
    return SoftMask(segments, full, **chosen)


def _packed(mask_function, batch_size: int, length: int, device) -> Tensor:
    """Sequence numbers (B, L) from 1 on."""
    batch, token = torch.arange(batch_size, device=device)[:, None], torch.arange(1, length, device=device)[None]
    goes_on = torch.as_tensor(mask_function(batch, 0, token, token - 1), device=device).expand(batch_size, length - 1)
    return nn.functional.pad((~goes_on).long().cumsum(-1), (1, 0)) + 1


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
    """Sets alpha, reading or ratio on every transformers model inside `model` (a SentenceTransformer, a wrapped or PEFT model, ...)."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            for name, value in values.items():
                setattr(module.config, f"soft_mask_{name}", value)
            settings(module.config)


def to_stock(model: nn.Module) -> None:
    """Turns a model at the end of its transition (alpha = 1, ratio l/i) into a stock bidirectional one: SDPA, config.is_causal = False.

    Its config then names nothing of ours, and the saved model loads in plain transformers or sentence-transformers with equal vectors.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            chosen = settings(module.config)
            if chosen["alpha"] < 1 or chosen["ratio"] != "l/i":
                raise UserError(f"soft_mask: only alpha = 1 with ratio l/i is stock bidirectional attention, not {chosen}")
            module.set_attn_implementation("sdpa")
            module.config.is_causal = False
            for name in DEFAULTS:
                module.config.__dict__.pop(name, None)


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, build_mask)
