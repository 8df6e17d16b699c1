"""What every section of parameters shares: frozen, typed, unknown keys refused."""

from typing import Literal

from pydantic import Field

from conan_lib.options import Options

Precision = Literal["fp32", "bf16", "auto"]
Schedule = Literal["constant", "linear", "cosine"]


class Section(Options):
    """A section of a parameter file."""

    def keyed(self) -> dict:
        """What of it enters the key of a stage that reads it."""
        return self.model_dump(mode="json", exclude_none=True)


class Optimisation(Section):
    """What every training stage needs: AdamW, a warm-up, a decay, a fixed number of steps (never a wall clock)."""

    seed: int = Field(0, ge=0, lt=2**32)
    """Seed of batch order, dropout and initial weights of this stage; numpy takes 32 bits."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate of AdamW. Paper: 1e-4 (pretraining, weak), 2e-5 (SFT)."""
    embedding_rate: float = Field(1.0, gt=0)
    """The token embeddings learn at this multiple of learning_rate. 1: one rate for all weights (the paper names one). A model from scratch
    with few steps needs more: its layers soon write vectors many times longer than its embeddings, and drown them (LOG.md)."""
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    """Share of the steps with a rising rate. Paper: 0.05 (pretraining), 0.02 (SFT)."""
    weight_decay: float = Field(1e-3, ge=0)
    """AdamW's decoupled weight decay. Paper: 1e-3."""
    schedule: Schedule = "cosine"
    """Decay after the warm-up. Not published: a reading."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradient clipping. Not published: a reading."""
    max_steps: int = Field(1000, ge=1)
    """Optimiser steps."""
    batch_size: int = Field(64, ge=1)
    """Sequences (or anchors) in one optimiser step over all processes. Paper: 256 (pretraining), 64 (SFT, weak)."""
    max_length: int = Field(128, ge=4)
    """Tokens kept of each sequence."""
    precision: Precision = "fp32"
    """Arithmetic of the forward pass; auto: bf16 where the processor does it well, and the manifest says which. Weights are fp32. fp16 is
    refused (it overflows in contrastive training)."""
    gradient_checkpointing: bool | None = None
    """true: a layer's activations are computed again in the backward pass and not kept: memory of one layer, about a third more time. None
    here and below: off. These switches change rounding alone."""
    compile: bool | None = None
    """true: torch.compile of each layer, which takes a minute to begin with."""
