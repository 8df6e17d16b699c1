"""Decoders of many families with random small weights, saved in a folder with a small tokenizer, as somebody's model to start from."""

from pathlib import Path

import torch
from small_corpus import documents
from tokenizers import processors
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PhiConfig,
    Qwen3Config,
)

from conan_lib.model.tokenizer import train_bpe
from conan_lib.params.model import TokenizerParams

SIZES = {
    "vocab_size": 328, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "initializer_range": 0.3,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FULL, WINDOW = "full_attention", "sliding_attention"
FAMILIES = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True),
    "gemma3": Gemma3TextConfig(**SIZES, sliding_window=64, layer_types=[WINDOW, FULL, WINDOW], query_pre_attn_scalar=8),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
}
"""The vocabulary has more rows than the tokenizer has entries, as Qwen's."""
FURTHER = {
    "phi": PhiConfig(**SIZES),
    "phi3": Phi3Config(**SIZES, sliding_window=64),
    "olmo2": Olmo2Config(**SIZES),
    "granite": GraniteConfig(**SIZES, embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.5, tie_word_embeddings=True),
}
"""With a bias in the head, fused projections, norms after the layer, and multipliers."""
FRAMES = {"llama": "<s> $A </s>", "gemma3": "<s> $A"}
"""What the tokenizer puts around a text; the others' nothing."""


def save_start(family: str, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write the model, its tokenizer and a card; returns the folder."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config((FAMILIES | FURTHER)[family]).to(dtype).save_pretrained(folder)
    tokenizer = train_bpe([document["text"] for document in documents()], TokenizerParams(vocab_size=320))
    frame = FRAMES.get(family, "$A")
    specials = [("<s>", 1), ("</s>", 2)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=specials)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder
