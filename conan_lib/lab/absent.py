"""What a cell shows in the place of what a run has not: one sentence, no traceback."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from IPython.display import Markdown

from conan_lib.errors import UserError
from conan_lib.stages import Stage, left_out


def absent(what: Stage | pd.DataFrame) -> Markdown | None:
    """One sentence where a stage is no part of its run, or a set has no rows; else None: `absent(stage) or figure(stage)`."""
    if isinstance(what, pd.DataFrame):
        return Markdown("This run has no such rows.") if what.empty else None
    why = left_out(what.params).get(what.name)
    return Markdown(f"Not part of this run: {why}.") if why else None


def shown(make: Callable[..., Any], *stages: Stage) -> Any:
    """What `make` makes of stages, or in one sentence why there is nothing to show."""
    try:
        return make(*stages)
    except UserError as error:
        return Markdown(f"Nothing to show: {error}.")
