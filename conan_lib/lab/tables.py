"""Tables as a notebook shows them: texts of at most 120 characters, no blank and no NaN, no Python dictionary."""

import pandas as pd
from pandas.io.formats.style import Styler

from conan_lib.findings.tables import cut, show

LONGEST = 120
"""Characters of a text that a table shows."""


def texts(frame: pd.DataFrame, missing: str = "none") -> Styler:
    """Rows of text and numbers. A named index becomes the first column."""
    frame = frame.reset_index() if frame.index.name else frame
    return show(frame.map(lambda cell: cut(" ".join(cell.split()), LONGEST) if isinstance(cell, str) else cell), missing)


def numbers(frame: pd.DataFrame) -> Styler:
    """Counts by row and column, thousands separated; the index becomes columns."""
    return show(frame.rename_axis(columns=None).reset_index(), "none")
