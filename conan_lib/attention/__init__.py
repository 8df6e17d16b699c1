"""Soft-mask attention. Importing this package registers attn_implementation="soft_mask" with transformers."""

from conan_lib.attention.register import set_soft_mask, to_stock
from conan_lib.attention.softmask import (
    SoftMask,
    alpha_at,
    mask_matrix,
    reference_attention,
    row_coefficients,
    soft_mask_attention,
)

__all__ = [
    "SoftMask",
    "alpha_at",
    "mask_matrix",
    "reference_attention",
    "row_coefficients",
    "set_soft_mask",
    "soft_mask_attention",
    "to_stock",
]
