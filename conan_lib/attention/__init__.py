"""Soft-mask attention. Importing this package registers attn_implementation="soft_mask" with transformers."""

from conan_lib.attention.backends import dense_attention, pick_backend, soft_mask_attention
from conan_lib.attention.flash import halves_attention
from conan_lib.attention.register import set_soft_mask
from conan_lib.attention.softmask import Backend, SoftMask, alpha_at, mask_matrix, reference_attention, row_coefficients
from conan_lib.attention.stock import check_stock, merge_adapters, refuse_older, save_stock, to_stock

__all__ = [
    "Backend",
    "SoftMask",
    "alpha_at",
    "check_stock",
    "dense_attention",
    "halves_attention",
    "mask_matrix",
    "merge_adapters",
    "pick_backend",
    "reference_attention",
    "refuse_older",
    "row_coefficients",
    "save_stock",
    "set_soft_mask",
    "soft_mask_attention",
    "to_stock",
]
