"""The start of a run that does not begin from scratch: any decoder that takes the soft mask, from the hub, a folder or installed packages.

Weights are safetensors or GGUF, and no code comes with them. Stage `start` keeps the first layers asked for, in fp32, whatever the
checkpoint's type: training needs fp32 master weights.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from conan_lib.attention import check_stock, set_soft_mask
from conan_lib.attention.register import NAME
from conan_lib.errors import UserError
from conan_lib.files import fingerprint
from conan_lib.model.backbone import configuration, save, with_config
from conan_lib.model.sources import Source, open_source
from conan_lib.params import Params
from conan_lib.params.model import ModelParams
from conan_lib.stages import Stage, below_root, computes, located, open_stage
from conan_lib.table import START

UNREADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
"""What transformers raises over a start that is missing, damaged or not covered."""


def check_source(stage: Stage) -> None:
    """Whether a finished stage `start` was made from the files that its folder or package holds now; one that is gone is not asked.

    Raises:
        UserError: the files are others.
    """
    if stage.model is None or stage.model.kind == "hub" or not stage.finished:
        return
    try:
        with open_source(stage.model) as source:
            now = source.facts["sha256"]
    except UserError:
        return
    if now != stage.results["sha256"]:
        raise UserError(
            f"model.start: {stage.model.start} holds other weights than those that {below_root(stage.path)} was made from: name them by "
            "another folder or package, or remove that artefact to use them"
        )


@computes(check=check_source)
def prepare_start(stage: Stage) -> dict:
    """Stage `start`: writes model/, the start with its first layers in fp32, and its tokenizer. A run from scratch has nothing to do.

    Raises:
        UserError: see `load_start`.
    """
    if stage.model is None:
        return {"start": "from scratch"}
    model, tokenizer, facts = load_start(stage.model)
    save(model, tokenizer, stage.path / "model")
    sizes = {"layers": model.config.num_hidden_layers, "hidden_size": model.config.hidden_size, "vocab_size": model.config.vocab_size}
    count = sum(parameter.numel() for parameter in model.parameters())
    return {**facts, "model_type": model.config.model_type, "parameters": count, **sizes}


def backbone_of(params: Params) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """The configuration of a run's backbone, from scratch or a start, and what is known of the start (nothing from scratch).

    Raises:
        UserError: see `read_start`; a finished stage `start` is read instead of the source.
    """
    if params.model is None:
        return configuration(params.backbone, params.tokenizer.vocab_size), {}
    stage = open_stage(START, params)
    if stage.finished:
        return AutoConfig.from_pretrained(with_config(stage.path / "model")), stage.results
    return read_start(params.model)


def reach_of(config: PreTrainedConfig) -> int:
    """The longest text that a backbone reads whole: its context, or its window where a layer has one."""
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    window = getattr(config, "sliding_window", None) if windowed else None
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


def read_start(params: ModelParams) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """The configuration of a start, cut to the layers asked for, and the facts of its source. No weights are read from the hub.

    Raises:
        UserError: the start is not there, is damaged, is no decoder that the soft mask covers, has fewer layers than asked for, or no
            tokenizer of its own.
    """
    return _read(params, fingerprint(located(params.start)) if params.kind == "folder" else "")


def start_tokenizer(params: ModelParams) -> PreTrainedTokenizerBase:
    """The tokenizer of a start alone; of a GGUF file it takes seconds.

    Raises:
        UserError: see `read_start`.
    """
    with open_source(params) as source:
        return _tokenizer(params, source, _config(params, source))


@lru_cache(maxsize=4)
def _read(params: ModelParams, content: str) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Kept, because a GGUF file takes seconds; `content` is what a folder holds."""
    with open_source(params) as source:
        config = _config(params, source)
        if "gguf_file" not in source.arguments:  # there it is as slow to read as the weights, and cannot be missing
            _tokenizer(params, source, config)
    with torch.device("meta"):
        set_soft_mask(AutoModel.from_config(config, attn_implementation=NAME), alpha=1.0)  # its own line says what is not covered
    return config, source.facts


def load_start(params: ModelParams) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """The start with its weights in fp32, its tokenizer, and its source's facts.

    Raises:
        UserError: see `read_start`; the weights are neither safetensors nor GGUF; or the family's stock form stays causal, so that the
            embedder could not be exported.
    """
    with open_source(params) as source:
        config = _config(params, source)
        tokenizer = _tokenizer(params, source, config)
        try:
            with _quiet():  # the layers that are cut off are reported as unexpected
                model, found = AutoModelForCausalLM.from_pretrained(
                    source.place,
                    config=config,
                    dtype=torch.float32,
                    trust_remote_code=False,
                    use_safetensors=True,
                    output_loading_info=True,
                    **source.arguments,
                )
        except UNREADABLE as error:
            raise UserError(f"model.start: {params.start}: {_line(error)}") from None
    if found["missing_keys"]:
        raise UserError(f"model.start: {params.start}: its weights lack {min(found['missing_keys'])}: they are not this model's")
    if "gguf_file" in source.arguments:  # save_pretrained refuses a model that remembers it
        weights = model.state_dict()
        del model.config.quantization_config
        model = type(model)(model.config)
        model.load_state_dict(weights)
        model.tie_weights()
    model.config.pad_token_id = tokenizer.pad_token_id
    try:
        check_stock(model.base_model, causal=False)
    except UserError as error:
        raise UserError(f"model.start: {params.start}: {error}") from None
    return model, tokenizer, source.facts


def cut(config: PreTrainedConfig, layers: int | None) -> PreTrainedConfig:
    """The configuration of a model's first layers; settings by layer (layer_types and others) are cut with them. Changes it in place.

    Raises:
        UserError: it has fewer.
    """
    whole = config.num_hidden_layers
    if layers is None:
        return config
    if layers > whole:
        raise UserError(f"model.layers: {layers} is more than the {whole} layers of the start: lower it or leave it out")
    for name, value in vars(config).items():
        if "layer" in name and isinstance(value, (list, tuple)) and len(value) == whole:
            setattr(config, name, type(value)(value[:layers]))
    config.num_hidden_layers = layers
    return config


def _config(params: ModelParams, source: Source) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(source.place, trust_remote_code=False, **source.arguments)
    except UNREADABLE as error:
        raise UserError(f"model.start: {params.start}: {_line(error)}") from None
    if config.get_text_config() is not config or config.is_encoder_decoder or not hasattr(config, "num_hidden_layers"):
        raise UserError(
            f"model.start: {params.start} is a {config.model_type}, which is more than a decoder of text: choose one that is not"
        )
    return cut(config, params.layers)


def _tokenizer(params: ModelParams, source: Source, config: PreTrainedConfig) -> PreTrainedTokenizerBase:
    """The start's tokenizer; one without a padding token pads with its end of text.

    Raises:
        UserError: there is none, it has no end of text, or more entries than the model.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.place, trust_remote_code=False, **source.arguments)
    except UNREADABLE as error:
        raise UserError(f"model.start: {params.start}: {_line(error)}") from None
    if tokenizer("a")["input_ids"] == tokenizer("b")["input_ids"]:  # of some families transformers makes an empty one
        raise UserError(f"model.start: {params.start}: no tokenizer here: put the model's own tokenizer.json beside its weights")
    if tokenizer.eos_token is None:
        raise UserError(f"model.start: {params.start}: its tokenizer has no end of text: name its eos_token in tokenizer_config.json")
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"model.start: {params.start}: its tokenizer has {len(tokenizer):,} entries and its embeddings {config.vocab_size:,}: "
            "put the tokenizer there that the model was trained with"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def _quiet() -> Iterator[None]:
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
