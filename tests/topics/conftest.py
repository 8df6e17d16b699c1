"""Fixtures of stages whose inputs are finished; see small_stages."""

from tests.small_stages import data_folder, params, ready

__all__ = ["data_folder", "params", "ready"]
