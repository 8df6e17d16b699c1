"""Registers the soft mask with transformers, so that any decoder that uses its attention interface takes attn_implementation="soft_mask"
with no change to its code. What mixes tokens by other means, or uses no such interface, is refused.

What the mask is comes from the model's config: soft_mask_alpha (default 1.0), soft_mask_reading ("weight"), soft_mask_ratio ("l/i"),
soft_mask_backend ("auto": see `conan_lib.attention.backends.pick_backend`).
model(..., soft_mask_alpha=0.3) overrides alpha for one call, where the model hands such arguments on to its attention (StableLm and
Nemotron do not).
config.is_causal is not read here: alpha alone says what a row sees.
Texts packed into a row stay apart where a decoder is given position_ids, use_cache=False and no attention_mask; else they are refused.
Windows and chunks (Gemma, Mistral) change nothing while a text fits into one, so layers keep their types; longer texts are refused.
A model pickled under "soft_mask", as for a pool of processes, has its reader import this module.
Gradient checkpointing works as it is. torch.compile works with a graph break at the mask and at each attention, which stay eager, so that a
new alpha compiles nothing; fullgraph=True therefore fails.
"""

import sys
from typing import Any, get_args

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from conan_lib.attention.backends import soft_mask_attention
from conan_lib.attention.softmask import Backend, Ratio, Reading, SoftMask, checked_alpha
from conan_lib.errors import UserError

NAME = "soft_mask"
DEFAULTS = {"soft_mask_alpha": 1.0, "soft_mask_reading": "weight", "soft_mask_ratio": "l/i", "soft_mask_backend": "auto"}
_NOT_COVERED = ("softcap", "position_bias", "s_aux", "sinks", "indices", "block_indices")
"""What else models hand to their attention that changes its result."""
_ATTENTION_LAYERS = {"full_attention", "attention", "sliding_attention", "chunked_attention"}
"""Layer types that reach our attention; a window or chunk is refused where a text is longer."""
_CHOICES = {"soft_mask_reading": get_args(Reading), "soft_mask_ratio": get_args(Ratio), "soft_mask_backend": get_args(Backend)}


def settings(config: Any, **changes: Any) -> dict[str, Any]:
    """alpha, reading, ratio and backend of a config after `changes`, checked. UserError for a value outside its range, and for layers that
    mix tokens by other means (Mamba, convolutions), which stay causal."""
    layers = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    if others := sorted(set(layers) - _ATTENTION_LAYERS):
        raise UserError(f"soft_mask: {config.model_type} has {others[0]} layers, which it does not cover: use a full-attention backbone")
    found = {name: getattr(config, name, default) for name, default in DEFAULTS.items()} | changes
    for name, choices in _CHOICES.items():
        if found[name] not in choices:
            raise UserError(f"config.{name}: {found[name]!r} is not one of {', '.join(choices)}")
    found["soft_mask_alpha"] = checked_alpha(found["soft_mask_alpha"], "config.soft_mask_alpha")
    return {name.removeprefix("soft_mask_"): value for name, value in found.items()}


@torch.compiler.disable
def build_mask(batch_size: int, q_length: int, kv_length: int, *, config: Any, mask_function, attention_mask=None, device="cpu", **kwargs):
    """The mask function behind "soft_mask": called once in a forward pass, its result reaches every layer.

    `mask_function(b, h, i, j)` is transformers' causal rule; where it forbids a token its left neighbour, a new packed sequence starts.
    transformers sees packing only in position_ids, and only without a cache and without attention_mask.
    """
    chosen = settings(config)
    if getattr(config, "is_encoder_decoder", False) or getattr(config, "add_cross_attention", False):
        raise UserError(f"soft_mask: {config.model_type} has cross-attention, which it does not cover: use a plain decoder")
    if kwargs.get("use_vmap"):
        raise UserError(f"soft_mask: {config.model_type} overlays its own mask rule, which it does not cover: use a plain decoder")
    rows = (batch_size, q_length + int(kwargs.get("q_offset", kv_length - q_length)))  # the offset is what a cache holds
    if attention_mask is not None and attention_mask.shape != rows:
        raise UserError(
            f"soft_mask: attention_mask has shape {tuple(attention_mask.shape)}, the batch {rows}: give one number for each token"
        )
    if q_length != kv_length:  # decoding: past rows can no longer see their future, so only the causal end makes sense
        if chosen["alpha"] > 0 or chosen["reading"] != "weight":
            raise UserError("soft_mask: decoding with a cache needs config.soft_mask_alpha = 0 (reading weight); or pass use_cache=False")
        arguments = {"mask_function": mask_function, "attention_mask": attention_mask, "device": device} | kwargs
        return sdpa_mask(batch_size, q_length, kv_length, **arguments)
    segments = _packed(mask_function, batch_size, q_length, device)
    if attention_mask is not None:
        segments = segments * attention_mask.to(segments.dtype)
    mask = SoftMask(segments, bool((segments == 1).all()), **chosen)
    if (positions := _positions_given()) is not None:
        mask.keep("packing", (), lambda: _check_packing(mask, positions))
    if (local := kwargs.get("local_size")) is not None:
        sliding = local == getattr(config, "sliding_window", None) and local > 1
        # where a chunk ends looks like where a packed text does, so chunks take short rows alone
        if not (_first_is_seen(mask, mask_function) if sliding else q_length <= local):
            return _too_long(config, local)  # some decoders ask for this mask although no layer uses it: a layer that does raises it
    return mask


def _first_is_seen(mask: SoftMask, mask_function) -> bool:
    """Whether the last token of every text sees its first by transformers' own rule: then a window hides nothing from any token."""
    own, length = mask.sequences, mask.segments.shape[1]
    first, last = own.tokens[own.bounds[:-1].long()], own.tokens[own.bounds[1:].long() - 1]
    return bool(torch.as_tensor(mask_function(first // length, 0, last % length, first % length)).all())


def _too_long(config: Any, local: int) -> UserError:
    return UserError(
        f"soft_mask: {config.model_type} has windows of {local} tokens, and a text here is longer: cut texts to {local} tokens "
        "(model.max_seq_length in sentence-transformers), or take a backbone without windows"
    )


def _positions_given() -> Tensor | None:
    """The position_ids of the model that asks for a mask, read from its call: not every model hands them to its attention."""
    frame = sys._getframe(1)
    while frame is not None:
        found = frame.f_locals.get("position_ids")
        if isinstance(found, Tensor) and found.ndim == 2 and isinstance(frame.f_locals.get("self"), PreTrainedModel):
            return found
        frame = frame.f_back
    return None


def _packed(mask_function, batch_size: int, length: int, device) -> Tensor:
    """Sequence numbers (B, L) from 1 on."""
    batch, token = torch.arange(batch_size, device=device)[:, None], torch.arange(1, length, device=device)[None]
    goes_on = torch.as_tensor(mask_function(batch, 0, token, token - 1), device=device).expand(batch_size, length - 1)
    return nn.functional.pad((~goes_on).long().cumsum(-1), (1, 0)) + 1


def _check_packing(mask: SoftMask, positions: Tensor | None) -> None:
    """UserError where positions (B or 1, L) start again inside a sequence of the mask: texts that would see each other. Once a mask."""
    if positions is None or positions.ndim != 2 or positions.shape[1] != mask.segments.shape[1]:
        return
    own = mask.sequences
    positions = positions.to(mask.segments.device).expand(mask.segments.shape).flatten()[own.tokens]
    if ((positions.diff() <= 0) & (own.row[1:] > 1)).any():
        raise UserError(
            "soft_mask: position_ids start again inside a row, but packed texts are told apart only in a decoder, without a cache and "
            "without a mask: pass use_cache=False and no attention_mask, or give each text a row"
        )


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
    for option in _NOT_COVERED:
        if kwargs.get(option) is not None:
            raise UserError(f"soft_mask: {module.config.model_type} uses {option}, which it does not cover: use a backbone without it")
    alpha = kwargs.pop("soft_mask_alpha", None)
    if alpha is not None:
        alpha = checked_alpha(alpha, "soft_mask_alpha")
    if isinstance(attention_mask, SoftMask):
        attention_mask.keep("packing", (), lambda: _check_packing(attention_mask, kwargs.get("position_ids")))
        window = kwargs.get("sliding_window")
        if window is not None and attention_mask.sequences.longest > window:
            raise _too_long(module.config, window)
        out = soft_mask_attention(query, key, value, attention_mask, alpha, scaling, dropout)
        return out.transpose(1, 2).contiguous(), None
    if query.shape[2] != key.shape[2] and not alpha:  # decoding, checked in build_mask
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    raise UserError("soft_mask: give the model a 2-D attention_mask (batch, length), or none; a ready-made 4-D mask leaves no soft mask")


def set_soft_mask(model: nn.Module, **values: Any) -> None:
    """Sets alpha, reading, ratio or backend on every soft-masked transformers model inside `model` (e.g. a SentenceTransformer).

    Raises:
        UserError: `model` is no module or holds none, one mixes tokens by other means than our attention, no such setting, or a value is
            outside its range; nothing is changed then.
    """
    changes = {f"soft_mask_{name}": value for name, value in values.items()}
    if unknown := [name for name in values if f"soft_mask_{name}" not in DEFAULTS]:
        raise UserError(f"set_soft_mask: {unknown[0]} is not one of alpha, reading, ratio, backend (a schedule is SoftMaskCallback's)")
    configs = configs_of(model)
    for config in configs:
        chosen = settings(config, **changes)
    for config in configs:
        for name in values:
            setattr(config, f"soft_mask_{name}", chosen[name])


def soft_masked(model: nn.Module) -> list[PreTrainedModel]:
    """The soft-masked transformers models inside a module. UserError where it is none."""
    if not isinstance(model, nn.Module):
        given = repr(model) if isinstance(model, str | None) else type(model).__name__
        raise UserError(f"soft_mask: {given} is no model: give the loaded model, not its name")
    return [module for module in model.modules() if isinstance(module, PreTrainedModel) and module.config._attn_implementation == NAME]


def configs_of(model: nn.Module) -> list[Any]:
    """Their configs, each once. UserError where there is none, or one whose code never asks for an attention by name (Mamba, CodeGen)."""
    parts = soft_masked(model)
    if not parts:
        raise UserError(f'soft_mask: no model inside {type(model).__name__} uses it: load it with attn_implementation="{NAME}"')
    for part in parts:
        files = {sys.modules.get(type(module).__module__) for module in part.modules()}
        if not any(isinstance(value, AttentionInterface) for file in files for value in getattr(file, "__dict__", {}).values()):
            raise UserError(f"soft_mask: {type(part).__name__} does not use transformers' attention interface: take a backbone that does")
    return list({id(part.config): part.config for part in parts}.values())


class _Name(str):
    """The soft mask's name in a pickle: reading it imports this module, hence registers it."""


def _state(config: PreTrainedConfig, state=PreTrainedConfig.__getstate__) -> dict[str, Any]:
    """What a config's pickle holds, for child processes: they unpickle a model and would not know the name."""
    found = state(config)
    return found | {"_attn_implementation_internal": _Name(NAME)} if config._attn_implementation == NAME else found


PreTrainedConfig.__getstate__ = _state
AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, build_mask)
