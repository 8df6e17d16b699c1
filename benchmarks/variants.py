"""What the benchmark compares: each variant is attention as a function of q, k and v, checked against float64 before it is timed.

Shapes as in `conan_lib.attention.softmask`: q (B, H, L, D); k, v (B, G, L, D).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.flex import flex_attention_under_mask
from conan_lib.attention import SoftMask, reference_attention, soft_mask_attention
from conan_lib.errors import UserError

FLEX = "FlexAttention"
BACKENDS = {"reference": "reference", "ours, auto": "auto", "ours, halves": "halves", "dense mask": "dense", FLEX: None}
"""Variants under the soft mask -> the backend that they ask `soft_mask_attention` for; FlexAttention is none of its own. The dense mask is
SDPA with log M for `weight`, and plain maths for `logit`, since no stock kernel scales logits."""
CAUSAL, STOCK, FLASH = "SDPA causal", "SDPA bidirectional", "SDPA bidirectional, flash"
"""Attention without the soft mask. STOCK is torch's own choice of kernel, FLASH its flash attention; on the CPU the two are the same."""
CHECK_LENGTH, CHECK_BATCH = 97, 2
TOLERANCE = {"float32": 2e-5, "bfloat16": 3e-2, "float16": 5e-3}
"""Relative error against float64 that a variant may have, gradients included: rounding, not another attention."""


@dataclass(frozen=True)
class Heads:
    """Query heads, key/value heads, head dim; as text 32/8x112."""

    query: int
    kv: int
    dim: int

    @classmethod
    def parse(cls, text: str) -> "Heads":
        """Raises UserError where `text` is not like 32/8x112."""
        found = re.fullmatch(r"(\d+)/(\d+)x(\d+)", text)
        query, kv, dim = map(int, found.groups()) if found else (0, 0, 0)
        if not (kv and dim and query and query % kv == 0):
            raise UserError(f"--heads {text}: give query heads / key heads x head dim, for example 32/8x112; key heads divide query heads")
        return cls(query, kv, dim)

    def __str__(self) -> str:
        return f"{self.query}/{self.kv}x{self.dim}"


@dataclass(frozen=True)
class Setting:
    """One column of the table: the size of a call, and in which direction."""

    heads: Heads
    batch: int
    length: int
    backward: bool
    device: str = "cpu"
    dtype: str = "float32"
    alpha: float = 0.3
    seed: int = 0
    threads: int = 1

    @property
    def direction(self) -> str:
        return "forward + backward" if self.backward else "forward"


@dataclass(frozen=True)
class Variant:
    """A row of the table. `reading` is "-" where there is no soft mask to read."""

    name: str
    reading: str = "-"

    def __str__(self) -> str:
        return self.name if self.reading == "-" else f"{self.name} ({self.reading})"


def variants_of(device: str) -> list[Variant]:
    soft = [Variant(name, reading) for reading in ("weight", "logit") for name in BACKENDS]
    return soft + [Variant(name) for name in (CAUSAL, STOCK, *([FLASH] if device == "cuda" else []))]


def make_inputs(setting: Setting) -> list[Tensor]:
    """q, k, v and the gradient of the output; normal numbers from the seed, drawn on the CPU so that every device gets the same."""
    random = torch.Generator().manual_seed(setting.seed)
    heads = (setting.heads.query, setting.heads.kv, setting.heads.kv, setting.heads.query)
    shapes = [(setting.batch, count, setting.length, setting.heads.dim) for count in heads]
    inputs = [torch.randn(shape, generator=random).to(setting.device, getattr(torch, setting.dtype)) for shape in shapes]
    return [x.requires_grad_(setting.backward) for x in inputs[:3]] + inputs[3:]


def make_mask(variant: Variant, setting: Setting) -> SoftMask | None:
    """The mask that all layers of a forward pass would share; none without a soft mask."""
    if variant.name not in BACKENDS:
        return None
    segments = torch.ones(setting.batch, setting.length, dtype=torch.long, device=setting.device)
    return SoftMask(segments, True, setting.alpha, variant.reading)


def attend(variant: Variant, q: Tensor, k: Tensor, v: Tensor, mask: SoftMask | None) -> Tensor:
    """The variant's output (B, H, L, D)."""
    if variant.name == FLEX:
        return flex_attention_under_mask(q, k, v, mask)
    if mask is not None:
        return soft_mask_attention(q, k, v, mask, backend=BACKENDS[variant.name])
    stock = {"is_causal": variant.name == CAUSAL, "enable_gqa": q.shape[1] != k.shape[1]}
    if variant.name == FLASH:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(q, k, v, **stock)
    return F.scaled_dot_product_attention(q, k, v, **stock)


def call_of(variant: Variant, setting: Setting, inputs: list[Tensor], mask: SoftMask | None) -> Callable[[], list[Tensor]]:
    """One call as it is timed -> the output, and in the backward direction the gradients of q, k and v."""
    q, k, v, dout = inputs

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [attend(variant, q, k, v, mask)]

    def forward_and_backward() -> list[Tensor]:
        out = attend(variant, q, k, v, mask)
        return [out.detach(), *torch.autograd.grad(out, (q, k, v), dout)]

    return forward_and_backward if setting.backward else forward


def check(variant: Variant, setting: Setting) -> str:
    """Compare a variant at a small length with the reference in float64 -> an empty string, or why it cannot run here.

    Raises:
        RuntimeError: it ran and disagrees.
    """
    small = replace(setting, batch=CHECK_BATCH, length=CHECK_LENGTH)
    inputs = make_inputs(small)
    try:
        found = call_of(variant, small, inputs, make_mask(variant, small))()
    except Exception as error:
        return reason(variant, error)
    for name, one, exact in zip(("output", "dq", "dk", "dv"), found, _exact(variant, small, inputs), strict=False):
        error = ((one.double() - exact).norm() / exact.norm()).item()
        if not error <= TOLERANCE[setting.dtype]:
            raise RuntimeError(f"{variant}, {setting.heads}, {setting.dtype}: {name} differs from the reference by {error:.1e}: not timed")
    return ""


def reason(variant: Variant, error: Exception) -> str:
    """Why a variant cannot run here, from what it raised. An error that says nothing of the kind is raised again."""
    if isinstance(error, UserError):
        return " ".join(str(error).removeprefix("soft_mask: ").partition(":")[0].split())
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    if variant.name == FLEX:  # what its compilers raise has many types
        return f"does not run here: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:100]}".replace("|", "/")
    if "No available kernel" in str(error):
        return "torch has no such kernel for this dtype on this device"
    raise error


def _exact(variant: Variant, setting: Setting, inputs: list[Tensor]) -> list[Tensor]:
    q, k, v, dout = (x.detach().double() for x in inputs)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    alpha = {CAUSAL: 0.0, STOCK: 1.0, FLASH: 1.0}.get(variant.name, setting.alpha)
    segments = torch.ones(setting.batch, setting.length, dtype=torch.long, device=setting.device)
    out = reference_attention(q, k, v, alpha, segments, "weight" if variant.reading == "-" else variant.reading)
    return [out.detach(), *torch.autograd.grad(out, (q, k, v), dout)]


def square_bytes(variant: Variant, setting: Setting) -> int:
    """What a variant's L x L tensors take at their peak, estimated from above; 0 for those that are linear in L."""
    cells = setting.batch * setting.length**2
    item = 4 if variant.reading == "logit" else torch.finfo(getattr(torch, setting.dtype)).bits // 8
    logits = cells * setting.heads.query * item
    if variant.name == "reference":
        return 20 * cells + (7 if setting.backward else 4) * logits
    if variant.name == "dense mask" or (variant.name == "ours, auto" and setting.device == "cpu" and setting.length <= 4096):
        fused = variant.reading == "weight" and setting.device == "cpu"  # on CUDA a float mask with grouped heads has no fused kernel
        return 20 * cells + (0 if fused else 4 * logits)
    return 0
