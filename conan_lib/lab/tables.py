"""Tables as a notebook shows them: texts of at most 120 characters, no blank and no NaN, no Python dictionary."""

import pandas as pd
from pandas.io.formats.style import Styler

from conan_lib.findings.tables import cut, show

LONGEST = 120
"""Characters of a text that a table shows."""


def texts(frame: pd.DataFrame, missing: str = "none") -> Styler:
    """Rows of text and numbers. A named index becomes the first column."""
    frame = frame.reset_index() if frame.index.name else frame
    short = {name: [cut(" ".join(cell.split()), LONGEST) if isinstance(cell, str) else cell for cell in frame[name]] for name in frame}
    return show(pd.DataFrame(short, dtype=object), missing)  # whole numbers stay whole


def numbers(frame: pd.DataFrame) -> Styler:
    """Counts by row and column, thousands separated; the index becomes columns."""
    return show(frame.rename_axis(columns=None).reset_index(), "none")
