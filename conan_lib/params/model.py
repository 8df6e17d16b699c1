"""Parameters of the start: a language model that is there already, or tokenizer and backbone from scratch."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from conan_lib.params.base import Section

HUB = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[0-9a-f]{40}))?")
PACKAGE = "package:"


class ModelParams(Section):
    """A language model to start from. Its own tokenizer and sizes take the places of the sections `tokenizer` and `backbone`."""

    start: str
    """NAME/MODEL@REVISION on the Hugging Face hub (40 hexadecimal digits, so that it never changes), ./FOLDER relative to the project
    root, or package:NAME, an installed package that holds a GGUF file or its chunks."""
    layers: int | None = Field(None, ge=1, le=1000)
    """Keeps the first so many layers. None: all of them."""

    @field_validator("start")
    @classmethod
    def _start_is_a_place(cls, start: str) -> str:
        if (hub := HUB.fullmatch(start)) and not hub["revision"]:
            raise ValueError(f"{start}: add @ and the revision (40 hexadecimal digits, see the model's history); a folder is ./{start}")
        if not start.removeprefix(PACKAGE).strip():
            raise ValueError("give NAME/MODEL@REVISION, ./FOLDER or package:NAME")
        return start

    @property
    def kind(self) -> Literal["hub", "package", "folder"]:
        """Where the start is."""
        return "package" if self.start.startswith(PACKAGE) else "hub" if HUB.fullmatch(self.start) else "folder"


class TokenizerParams(Section):
    """Byte-level BPE (paper: 150,000 tokens, trained on about 400k multilingual texts)."""

    vocab_size: int = Field(150_000, ge=300, le=10_000_000)
    """Entries of the vocabulary, special tokens included. Paper: 150,000."""
    sample_texts: int = Field(400_000, ge=10)
    """Texts that the merges are learnt from. Paper: about 400k."""
    language_balance: float = Field(0.3, ge=0, le=1)
    """Exponent on each language's share of characters when sampling: 1 keeps the corpus' shares, 0 makes all languages equal. Not
    published: a reading."""
    min_frequency: int = Field(2, ge=1)
    """A pair seen less often is not merged."""


class BackboneParams(Section):
    """A Llama from scratch. The defaults are the paper's and give exactly 1,499,205,120 parameters (claim C12)."""

    layers: int = Field(8, ge=1, le=1000)
    """Decoder layers. Paper: 8."""
    hidden_size: int = Field(3584, ge=8, le=1_000_000)
    """Width of the residual stream, and so of the vectors. Paper: 3584."""
    heads: int = Field(32, ge=1)
    """Query heads; head_dim = hidden_size / heads. Paper: 32, so 112."""
    kv_heads: int = Field(8, ge=1)
    """Key and value heads (grouped-query attention). Paper: 8."""
    ffn_size: int = Field(8192, ge=8, le=10_000_000)
    """Width of the gated feed-forward layer (three matrices). Paper: 8192."""
    context_length: int = Field(32_768, ge=8, le=100_000_000)
    """Longest sequence, in tokens. Paper: 32,768."""
    rope_base: float = Field(10_000.0, gt=1)
    """Base of the rotary position embedding. Not published: a reading."""
    tie_embeddings: bool = True
    """One matrix for input and output embeddings: the published parameter count allows only one."""
    initializer_range: float = Field(0.02, gt=0)
    """Standard deviation of the initial weights."""
    embedding_std: float = Field(0.02, gt=0)
    """Standard deviation of the initial token embeddings."""
    residual_init: Literal["normal", "zero"] = "zero"
    """The matrices that write into the residual stream (attention output, feed-forward down): zero starts each layer as the identity,
    normal draws them like the others. Not published: a reading. At two layers, cross-lingual training from random weights reached R@10
    0.62 with zero and 0.24 with normal, on the development books (LOG.md)."""

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.hidden_size // self.heads

    @model_validator(mode="after")
    def _sizes_fit(self):
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by heads {self.heads}: choose a multiple")
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads {self.heads} is not divisible by kv_heads {self.kv_heads}: each key head serves the same number of heads"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd: rotary embeddings need hidden_size / heads to be even")
        return self
