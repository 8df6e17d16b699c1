"""The backbone: a Llama from a configuration or any other decoder, its size, and the sentence encoder that it becomes.

From scratch: grouped-query attention, RMSNorm, SwiGLU, rotary positions, tied embeddings. The published count of 1,499,205,120 parameters
(C12) follows to the unit from the published sizes with head_dim 112, three feed-forward matrices, no biases and one embedding matrix.
"""

import json
import math
import os
import shutil
from pathlib import Path
from typing import Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from conan_lib.attention import check_stock, refuse_older
from conan_lib.errors import UserError
from conan_lib.files import write_json
from conan_lib.model.fused_loss import fused_cross_entropy_sum
from conan_lib.params.model import BackboneParams

HEAD_CHUNK = 512
"""Rows of logits that are alive at once on a CPU: 16 MB at 8k entries stay near the cache, which makes a step about 1.1 times faster."""


def configuration(backbone: BackboneParams, vocab_size: int) -> LlamaConfig:
    """The Llama configuration; token ids are the tokenizer's (0 pad, 1 start, 2 end)."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=backbone.hidden_size,
        num_hidden_layers=backbone.layers,
        num_attention_heads=backbone.heads,
        num_key_value_heads=backbone.kv_heads,
        head_dim=backbone.head_dim,
        intermediate_size=backbone.ffn_size,
        max_position_embeddings=backbone.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": backbone.rope_base},
        tie_word_embeddings=backbone.tie_embeddings,
        initializer_range=backbone.initializer_range,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


class _ChunkedLoss:
    """Mixin of a language model: its training loss computes logits only where there is a label, and on a CPU never all at once.

    Same parameters, same loss: the mean cross-entropy (nats) over labelled tokens, or their sum over `num_items_in_batch`. A family that
    scales, shifts or caps its logits keeps its own code.
    """

    head_is_one_matrix, fused_loss = True, False

    def forward(self, input_ids: Tensor | None = None, labels: Tensor | None = None, num_items_in_batch=None, **inputs):
        """input_ids, labels: (B, L). Without labels: the model's own forward pass. With labels: the loss alone, no logits."""
        if labels is None:
            return super().forward(input_ids=input_ids, **inputs)
        inputs["use_cache"] = False  # transformers reads packed documents off position_ids only where there is no cache
        if not self.head_is_one_matrix:
            return super().forward(input_ids=input_ids, labels=labels, num_items_in_batch=num_items_in_batch, **inputs)
        hidden = self.base_model(input_ids=input_ids, **inputs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        labelled = targets != -100
        head, rows = self.get_output_embeddings().weight, hidden[labelled]
        total = (fused_cross_entropy_sum if self.fused_loss else cross_entropy_sum)(rows, head, targets[labelled])
        return CausalLMOutputWithPast(loss=total / (labelled.sum() if num_items_in_batch is None else num_items_in_batch))


@torch.no_grad()
def with_chunked_loss(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with the loss above; two tokens tell whether its logits are one matrix times the states."""
    ids = torch.tensor([[model.config.vocab_size // 2] * 2], device=model.device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    same = torch.allclose(model(input_ids=ids, use_cache=False).logits, F.linear(hidden, model.get_output_embeddings().weight))
    stock = type(model)
    model.__class__ = type(stock.__name__, (_ChunkedLoss, stock), {"head_is_one_matrix": same, "__module__": stock.__module__})
    return model


def cross_entropy_sum(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy (nats) of softmax(hidden weight^T): equation `next_token`. hidden (N, D), weight (V, D), targets (N,)."""
    if hidden.device.type == "cpu" and hasattr(torch.nn, "LinearCrossEntropyOptions"):  # torch 2.13
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=HEAD_CHUNK)
        return F.linear_cross_entropy(hidden, weight, targets, reduction="sum", options=options)
    logits = F.linear(hidden, weight)
    return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets, reduction="sum")


def build(backbone: BackboneParams, vocab_size: int, seed: int) -> PreTrainedModel:
    """A model with random weights."""
    set_seed(seed)
    model = LlamaForCausalLM(configuration(backbone, vocab_size))
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=backbone.embedding_std)
    if backbone.residual_init == "zero":
        for layer in model.model.layers:
            torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
            torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return with_chunked_loss(model)


def with_weights(folder: Path) -> str:
    """The folder's name, if there is a whole model in it: artefacts may be carried here without their weights (run/parcel.py).

    Raises:
        UserError: there is no model in the folder, or its weights are missing.
    """
    folder = with_config(folder)
    if not has_weights(folder):
        mend = f"unpack the weights parcel (pack --weights), or delete {Path(folder).parent} to compute it again"
        raise UserError(f"{folder}: the weights are not here, they were left out of this parcel: {mend}")
    return folder


def has_weights(folder: Path) -> bool:
    """Whether a model's folder holds weights; a parcel of results leaves them out."""
    return any(path.suffix in (".safetensors", ".bin") for path in Path(folder).rglob("*"))


def with_config(folder: Path) -> str:
    """The folder's name, if there is a model's configuration in it, with or without weights.

    Raises:
        UserError: there is none.
    """
    if not (Path(folder) / "config.json").is_file():
        raise UserError(f"{folder}: no model here (config.json is missing): run the stage that writes it")
    return str(folder)


def load(folder: Path) -> PreTrainedModel:
    """A language model that `save` wrote, with fp32 weights, whatever they were saved in: half precision rounds most updates away.

    Raises:
        UserError: there is no model in the folder, or its weights are missing.
    """
    return with_chunked_loss(AutoModelForCausalLM.from_pretrained(with_weights(folder), dtype=torch.float32))


def random_encoder(backbone: BackboneParams, vocab_size: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> LlamaModel:
    """A bidirectional Llama of random weights without a head: for measuring time and memory, which do not depend on the values."""
    config = configuration(backbone, vocab_size)
    config.is_causal = False
    with torch.device(device):
        model = AutoModel.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return model.eval()


def link(folder: Path, place: Path) -> None:
    """A second name for a folder of weights, by hard links: no copy, and either may be removed. Copies where links cannot be had."""

    def one(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place, copy_function=one)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a language model as a stock one of its family with its tokenizer beside it."""
    model.save_pretrained(str(folder))
    save_tokenizer(tokenizer, folder)
    _edit_config(folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer, and nothing of how it was read: transformers notes whether the hub might have been asked."""
    _forget_reading(tokenizer)
    tokenizer.save_pretrained(str(folder))


def _forget_reading(tokenizer: PreTrainedTokenizerBase) -> None:
    if "local_files_only" in tokenizer.init_kwargs:
        tokenizer.init_kwargs["local_files_only"] = False


def to_sentence_transformer(
    folder: Path,
    pooling: Literal["mean", "lasttoken"],
    max_length: int,
    attention: str = "sdpa",
    causal: bool = False,
    device: str | None = None,
) -> SentenceTransformer:
    """A language model as a sentence encoder: token states, pooled, scaled to length 1.

    Args:
        folder: what `save` wrote.
        pooling: mean over all tokens, or the last one (</s>).
        max_length: tokens kept of a text, <s> and </s> included.
        attention: transformers' attn_implementation; "soft_mask" must be registered first.
        causal: False lets every token see the whole text, on any attention that heeds config.is_causal.
        device: sentence-transformers' own choice by default.

    Raises:
        UserError: there is no model in the folder, or its weights are missing.
    """
    transformer = Transformer(with_weights(folder), max_seq_length=max_length, model_kwargs={"attn_implementation": attention})
    plain_text(transformer).model.config.is_causal = causal
    width = transformer.get_embedding_dimension()
    return SentenceTransformer(modules=[transformer, Pooling(width, pooling_mode=pooling), Normalize()], device=device)


def plain_text(transformer: Transformer) -> Transformer:
    """Let texts be read as they are, and be saved so: where a tokenizer has a chat template, sentence-transformers would put each text into
    a chat, system message and all, which is not what was trained."""
    if hasattr(transformer, "modality_config"):
        transformer.modality_config = {"text": transformer.modality_config["text"]}
        transformer.input_formatter.supported_modalities = ["text"]
    return transformer


def export(model: SentenceTransformer, folder: Path, causal: bool = False) -> None:
    """Write an encoder that plain sentence-transformers loads with none of our code: a stock decoder, bidirectional unless `causal`.

    What only training knows (the soft mask's name and its soft_mask_* settings) is left out of config.json, and is_causal is set; a
    transformers that would not heed it stops at the folder.

    Raises:
        UserError: the stock form would not be that: some families stay causal whatever their config says. Nothing is written then.
    """
    check_stock(model.transformers_model, causal)
    _forget_reading(model.tokenizer)
    model.preprocess(["a"])  # a tokenizer keeps how it cut and padded last: a resumed stage may have read nothing yet
    model.save(str(folder), create_model_card=False)
    _edit_config(Path(folder), architectures=[type(model.transformers_model).__name__], is_causal=causal)
    refuse_older(folder)


def _edit_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in config.items() if not name.startswith("soft_mask_") and "attn_implementation" not in name}
    write_json(path, kept | values)


def parameter_audit(config: PreTrainedConfig) -> dict[str, int]:
    """Parameters by part, counted on a model without storage (the meta device). A tied head counts once, with the embeddings."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parts = {"embeddings": 0, "attention": 0, "feed_forward": 0, "norms": 0, "head": 0}
    names = {"embed": "embeddings", "lm_head": "head", "attn": "attention", "mlp": "feed_forward"}
    for name, parameter in model.named_parameters():  # names a tied matrix once
        parts[next((part for piece, part in names.items() if piece in name), "norms")] += parameter.numel()
    return parts


def count_parameters(backbone: BackboneParams, vocab_size: int) -> int:
    """All parameters, each once (C12: the paper's sizes give 1,499,205,120)."""
    return sum(parameter_audit(configuration(backbone, vocab_size)).values())


def linear_layers(config: PreTrainedConfig) -> list[str]:
    """The dotted names of the encoder's linear layers, asked of a model without storage."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]


def flops_per_token(config: PreTrainedConfig, length: int) -> int:
    """Floating-point operations of one token in a forward pass; training costs three times as many.

    Two for each weight that multiplies (the head included, the embedding look-up not), and 4 L H D in each layer for QK^T and PV of H heads
    of D channels over all L tokens, as in bidirectional attention.
    """
    parts = parameter_audit(config)
    weights = parts["attention"] + parts["feed_forward"] + config.vocab_size * config.hidden_size
    return 2 * weights + 4 * config.num_hidden_layers * length * config.num_attention_heads * head_size(config)


def head_size(config: PreTrainedConfig) -> int:
    """Channels of one head, said by the configuration or implied."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def describe(config: PreTrainedConfig) -> dict[str, int | str]:
    """The size of a model before it exists: parameters by part, memory, floating-point operations."""
    parts = parameter_audit(config)
    total, context = sum(parts.values()), config.max_position_embeddings
    keys = getattr(config, "num_key_value_heads", config.num_attention_heads)
    shapes = f"{config.num_hidden_layers} layers, hidden {config.hidden_size}, {config.num_attention_heads} heads of {head_size(config)}"
    return {
        "backbone": f"{config.model_type}, {shapes}, {keys} key heads, feed-forward {config.intermediate_size}, "
        f"{config.vocab_size:,} entries",
        "parameters": total,
        **{f"parameters, {part.replace('_', ' ')}": count for part, count in parts.items()},
        "memory of the weights": f"{_bytes(4 * total)} in fp32, {_bytes(2 * total)} in bf16",
        "memory of training": f"{_bytes(16 * total)} for fp32 weights, gradients and AdamW's two moments; activations come on top",
        **{
            f"operations per token in training, length {length:,}": f"{3 * flops_per_token(config, length):.2e}"
            for length in sorted({min(512, context), context})
        },
    }


def _bytes(number: int) -> str:
    power = int(math.log(number, 1000))
    return f"{number / 1000**power:.1f} {('B', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"
