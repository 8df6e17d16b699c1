"""The whole tree: one section for each stage, and the checks that cross sections."""

from typing import Any, Literal

from pydantic import Field, model_validator

from conan_lib.params.base import Section
from conan_lib.params.data import DataParams, HeldoutParams, SetsParams, TranslateParams
from conan_lib.params.evaluation import (
    CurveParams,
    EfficiencyParams,
    EvaluationParams,
    MixingParams,
    OutOfDomainParams,
    PeersParams,
    ProbesParams,
    TasksParams,
)
from conan_lib.params.mkqa import MkqaParams
from conan_lib.params.model import BackboneParams, ModelParams, TokenizerParams
from conan_lib.params.training import MineParams, PlainParams, PretrainParams, SftParams, SupervisedParams, TeacherParams, WeakParams


class Runtime(Section):
    """How a run is carried out; nothing here enters a key. Workers, checkpoints and a deadline change no bit of a result; another
    device or another number of threads adds in another order, and changes its rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the first GPU, or the CPU where there is none."""
    threads: int = Field(2, ge=1)
    """CPU threads of torch."""
    save_steps: int = Field(100, ge=1)
    """Optimiser steps between checkpoints."""
    workers: int = Field(0, ge=0)
    """Processes that build batches ahead, for each training process. 0: the training process builds them."""
    report_to: Literal["none", "tensorboard", "trackio", "wandb"] = "none"
    """Where transformers' trainers send their curves beside the artefact's own history; its package has to be installed."""
    deadline: float | None = Field(None, gt=0)
    """Unix time at which training saves a checkpoint and stops, to go on when it is called again. Commands set it from --minutes."""
    stop_on_signal: bool = False
    """SIGTERM and SIGUSR1 are such a deadline while a stage trains. `conan-lib train` sets it."""
    artefacts: str = "artefacts"
    """Folder of the content-addressed results, relative to the working directory's project root."""
    reports: str = "runs"
    """Folder of the reports, below the project root; git ignores it. `conan-lib publish` alone writes to reports/, which is committed."""


class Params(Section):
    """Everything that one run needs. Keys hash a stage's own sections only (see stages.py)."""

    tier: str = Field(pattern=r"^[a-z0-9_-]+$")
    """Names the report's folder, runs/<tier>/."""
    data: DataParams = DataParams()
    sets: SetsParams = SetsParams()
    heldout: HeldoutParams = HeldoutParams()
    model: ModelParams | None = None
    """None: a tokenizer and a backbone from scratch. The next two are None where a start is given; so are `pretrain` and `sft` where the
    file does not name them, and then the start passes through their stages as it is."""
    tokenizer: TokenizerParams | None = TokenizerParams()
    backbone: BackboneParams | None = BackboneParams()
    pretrain: PretrainParams | None = PretrainParams()
    sft: SftParams | None = SftParams()
    teacher: TeacherParams = TeacherParams()
    weak: WeakParams = WeakParams()
    mine: MineParams = MineParams()
    supervised: SupervisedParams = SupervisedParams()
    tasks: TasksParams = TasksParams()
    peers: PeersParams = PeersParams()
    evaluation: EvaluationParams = EvaluationParams()
    efficiency: EfficiencyParams = EfficiencyParams()
    mkqa: MkqaParams = MkqaParams()
    mixing: MixingParams = MixingParams()
    probes: ProbesParams = ProbesParams()
    out_of_domain: OutOfDomainParams = OutOfDomainParams()
    curve: CurveParams = CurveParams()
    plain: PlainParams = PlainParams()
    translate: TranslateParams = TranslateParams()
    runtime: Runtime = Runtime()

    def trains(self, stage: str) -> bool:
        """Whether one of the four training stages takes steps; else it passes the model through."""
        return getattr(self, stage) is not None and (stage != "weak" or self.data.weak_pairs)

    @model_validator(mode="before")
    @classmethod
    def _a_start_needs_no_stage_before_it(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("model") is not None:
            return {name: None for name in ("tokenizer", "backbone", "pretrain", "sft")} | raw
        return raw

    @model_validator(mode="after")
    def _sections_fit(self):
        for name in ("tokenizer", "backbone"):
            if self.model is not None and getattr(self, name) is not None:
                raise ValueError(f"{name}: stands beside model.start, which brings its own: take one of the two out")
        for name in ("tokenizer", "backbone", "pretrain", "sft"):
            if self.model is None and getattr(self, name) is None:
                raise ValueError(f"{name}: null needs a model.start: give keys and values, or leave it out")
        if self.backbone is not None:
            check_sizes(self, "backbone.", self.backbone.hidden_size, self.backbone.context_length)
            check_efficiency(self, "tokenizer.vocab_size", self.tokenizer.vocab_size)
        if self.supervised.hard_negatives > self.mine.candidates:
            raise ValueError(
                f"supervised.hard_negatives: {self.supervised.hard_negatives} is above mine.candidates {self.mine.candidates}: mine more"
            )
        return self


def check_sizes(params: Params, whose: str, hidden: int, context: int) -> None:
    """Whether vectors and texts fit the backbone.

    Args:
        whose: what the lines put before hidden_size and context_length: "backbone.", or the start's name and a space.

    Raises:
        ValueError: a prefix is longer than the vector, no loss sees the whole of it, or texts are longer than the model reads.
    """
    for place, dims in {"supervised.matryoshka_dims": params.supervised.matryoshka_dims, "efficiency.dims": params.efficiency.dims}.items():
        if max(dims, default=0) > hidden:
            raise ValueError(f"{place}: {max(dims)} is above {whose}hidden_size {hidden}: drop it, or take a wider backbone")
    if hidden not in params.supervised.matryoshka_dims:
        raise ValueError(f"supervised.matryoshka_dims: add {whose}hidden_size {hidden}: no loss would see the whole vector, which is used")
    for name in ("pretrain", "sft", "weak", "supervised", "tasks", "mixing", "probes"):
        section = getattr(params, name)
        if section is not None and section.max_length > context:
            raise ValueError(f"{name}.max_length: {section.max_length} is above {whose}context_length {context}")


def check_efficiency(params: Params, vocabulary: str, entries: int) -> None:
    """Whether the backbones of `efficiency.sizes` read our tokens and texts; `vocabulary` is what the line calls the `entries`.

    Raises:
        ValueError: one does not.
    """
    for name, size in params.efficiency.sizes.items():
        needs = {"vocab_size": (vocabulary, entries), "context_length": ("tasks.max_length", params.tasks.max_length)}
        for field, (place, least) in needs.items():
            if getattr(size, field) < least:
                raise ValueError(f"efficiency.sizes.{name}.{field}: {getattr(size, field)} is below {place} {least}: raise it")
