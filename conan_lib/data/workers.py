"""The same work in one process or in several, with the same result in the same order."""

from collections.abc import Callable, Sequence
from typing import Any

from joblib import Parallel, delayed


def parallel(function: Callable, tasks: Sequence[tuple], workers: int) -> list[Any]:
    """[function(*task) for task in tasks], over `workers` processes. The function must depend on its arguments alone."""
    if workers == 1 or len(tasks) < 2:
        return [function(*task) for task in tasks]
    return Parallel(n_jobs=workers)(delayed(function)(*task) for task in tasks)
