"""Soft-mask attention. Importing this package registers attn_implementation="soft_mask" with transformers."""

from conan_lib.attention.backends import dense_attention, pick_backend, soft_mask_attention
from conan_lib.attention.flash import halves_attention
from conan_lib.attention.flex import flex_attention_under_mask
from conan_lib.attention.register import set_soft_mask, to_stock
from conan_lib.attention.softmask import Backend, SoftMask, alpha_at, mask_matrix, reference_attention, row_coefficients

__all__ = [
    "Backend",
    "SoftMask",
    "alpha_at",
    "dense_attention",
    "flex_attention_under_mask",
    "halves_attention",
    "mask_matrix",
    "pick_backend",
    "reference_attention",
    "row_coefficients",
    "set_soft_mask",
    "soft_mask_attention",
    "to_stock",
]
