"""Fixtures of stages whose inputs are finished; see small_stages."""

from tests.small_stages import heldout_folder, params, ready

__all__ = ["heldout_folder", "params", "ready"]
