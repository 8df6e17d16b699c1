"""The whole tree: one section for each stage, and the checks that cross sections."""

from typing import Literal

from pydantic import Field, model_validator

from conan_lib.params.base import Section
from conan_lib.params.data import DataParams, TranslateParams
from conan_lib.params.evaluation import (
    EfficiencyParams,
    EvaluationParams,
    MixingParams,
    OutOfDomainParams,
    PeersParams,
    ProbesParams,
    TasksParams,
)
from conan_lib.params.mkqa import MkqaParams
from conan_lib.params.model import BackboneParams, TokenizerParams
from conan_lib.params.training import MineParams, PretrainParams, SftParams, SupervisedParams, TeacherParams, WeakParams


class Runtime(Section):
    """How a run is carried out. Nothing here changes a result, so nothing here enters a key."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(2, ge=1)
    """CPU threads of torch."""
    save_steps: int = Field(100, ge=1)
    """Optimiser steps between checkpoints."""
    workers: int = Field(0, ge=0)
    """Processes that build batches ahead, for each training process. 0: the training process builds them."""
    deadline: float | None = Field(None, gt=0)
    """Unix time at which training saves a checkpoint and stops, to go on when it is called again. Commands set it from --minutes."""
    artefacts: str = "artefacts"
    """Folder of the content-addressed results, relative to the working directory's project root."""
    reports: str = "reports"


class Params(Section):
    """Everything that one run needs. Keys hash a stage's own sections only (see stages.py)."""

    tier: str = Field(pattern=r"^[a-z0-9_-]+$")
    """Names the report's folder, reports/<tier>/."""
    data: DataParams = DataParams()
    tokenizer: TokenizerParams = TokenizerParams()
    backbone: BackboneParams = BackboneParams()
    pretrain: PretrainParams = PretrainParams()
    sft: SftParams = SftParams()
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
    translate: TranslateParams = TranslateParams()
    runtime: Runtime = Runtime()

    @model_validator(mode="after")
    def _sections_fit(self):
        hidden, context = self.backbone.hidden_size, self.backbone.context_length
        for place, dims in {"supervised.matryoshka_dims": self.supervised.matryoshka_dims, "efficiency.dims": self.efficiency.dims}.items():
            if max(dims, default=0) > hidden:
                raise ValueError(f"{place}: {max(dims)} is above backbone.hidden_size {hidden}: drop it or widen the backbone")
        if hidden not in self.supervised.matryoshka_dims:
            raise ValueError(
                f"supervised.matryoshka_dims: add backbone.hidden_size {hidden}: no loss would see the whole vector, which is used"
            )
        for name, size in self.efficiency.sizes.items():
            needs = {"vocab_size": ("tokenizer.vocab_size", self.tokenizer.vocab_size),
                     "context_length": ("tasks.max_length", self.tasks.max_length)}  # fmt: skip
            for field, (place, least) in needs.items():
                if getattr(size, field) < least:
                    raise ValueError(f"efficiency.sizes.{name}.{field}: {getattr(size, field)} is below {place} {least}: raise it")
        for name in ("pretrain", "sft", "weak", "supervised", "tasks", "mixing", "probes"):
            if getattr(self, name).max_length > context:
                raise ValueError(f"{name}.max_length: {getattr(self, name).max_length} is above backbone.context_length {context}")
        if self.supervised.hard_negatives > self.mine.candidates:
            raise ValueError(
                f"supervised.hard_negatives: {self.supervised.hard_negatives} is above mine.candidates {self.mine.candidates}: mine more"
            )
        return self
