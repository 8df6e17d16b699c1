"""Dynamic hard negative mining on tensors: the rules, and the pool that they act on."""

from conan_lib.negatives.pool import NegativePool
from conan_lib.negatives.rules import replace_v1, replace_v2, replaced, suspected
from conan_lib.options import DhnmOptions

__all__ = ["DhnmOptions", "NegativePool", "replace_v1", "replace_v2", "replaced", "suspected"]
