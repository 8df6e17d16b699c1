"""Runs: notebooks, grids, jobs, the command line."""
