"""The typed, frozen tree of parameters, and the one way to load it."""

from conan_lib.params.load import load_params, on_reviews, with_seed, without_clr, without_mrl
from conan_lib.params.tree import Params, Runtime

__all__ = ["Params", "Runtime", "load_params", "on_reviews", "with_seed", "without_clr", "without_mrl"]
