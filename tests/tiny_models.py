"""Backbones of a few thousand weights with the soft mask, their tokens and states, for tests of attention."""

import torch
from transformers import (
    LlamaConfig,
    LlamaModel,
    Qwen3Config,
    Qwen3Model,
)

SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "attention_dropout": 0.0,
}  # fmt: skip
BACKBONES = [(LlamaConfig, LlamaModel), (Qwen3Config, Qwen3Model)]


def tiny(config_class=LlamaConfig, model_class=LlamaModel, attention="soft_mask", layers=None, dropout=0.0, **soft_mask):
    torch.manual_seed(0)
    kinds = {"layer_types": layers} if layers else {}
    config = config_class(
        **SIZES | {"attention_dropout": dropout}, **kinds, **{f"soft_mask_{name}": value for name, value in soft_mask.items()}
    )
    return model_class._from_config(config, attn_implementation=attention).eval()


def tokens(batch=2, length=9):
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(1))


def states(model, ids, mask=None, **kwargs):
    with torch.no_grad():
        return model(ids, attention_mask=mask, **kwargs).last_hidden_state
