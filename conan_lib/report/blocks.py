"""What a report is made of: sections of text, tables, figures, and statements of what is missing."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib.figure
import pandas as pd

from conan_lib.errors import UserError
from conan_lib.report.figures import style
from conan_lib.report.run import Run
from conan_lib.stages import Stage, project_root


@dataclass(frozen=True)
class Text:
    """Paragraphs in plain English."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    lines: tuple[str, ...]
    kind: str = "points"


@dataclass(frozen=True)
class Table:
    """A table with the artefacts that its numbers come from. `missing` is what an empty cell says."""

    id: str
    caption: str
    frame: pd.DataFrame
    sources: tuple[str, ...]
    missing: str = "not measured"
    kind: str = "table"

    @property
    def header(self) -> list[str]:
        return [str(column) for column in self.frame.columns]

    @property
    def cells(self) -> list[list[str]]:
        """Every cell as text, none of them blank."""
        return [[number(value, self.missing) for value in row] for row in self.frame.itertuples(index=False)]

    @property
    def numeric(self) -> list[bool]:
        """Columns that are set flush right."""
        return [all(re.match(r"[-+]?[\d.]", cell) or cell == self.missing for cell in column) for column in zip(*self.cells, strict=True)]


@dataclass(frozen=True)
class Figure:
    """A drawn figure with the artefacts that it shows."""

    id: str
    caption: str
    figure: matplotlib.figure.Figure
    sources: tuple[str, ...]
    kind: str = "figure"


@dataclass(frozen=True)
class Missing:
    """Something that this run does not have, and why."""

    what: str
    why: str
    kind: str = "missing"


Block = Text | Points | Table | Figure | Missing


@dataclass(frozen=True)
class Section:
    """One section; `notebook` names the executed notebook that it rests on."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    notebook: str | None = None


def table(
    run: Run, id: str, caption: str, stages: tuple[str, ...], make: Callable[..., pd.DataFrame], missing: str = "not measured"
) -> Block:
    """`make` of the stages' objects as a Table, or why there is none."""
    return _block(run, caption, stages, make, lambda frame, keys: Table(id, caption, frame, keys, missing))


def figure(run: Run, id: str, caption: str, stages: tuple[str, ...], draw: Callable[..., matplotlib.figure.Figure]) -> Block:
    """`draw` of the stages' objects as a Figure, or why there is none."""
    return _block(run, caption, stages, draw, lambda drawn, keys: Figure(id, caption, drawn, keys))


def _block(run: Run, what: str, stages: tuple[str, ...], make: Callable[..., Any], wrap: Callable[[Any, tuple[str, ...]], Block]) -> Block:
    if why := run.unfinished(*stages):
        return Missing(what, why)
    opened: list[Stage] = [run.stages[name] for name in stages]
    try:
        with style():
            made = make(*opened)
    except UserError as error:
        return Missing(what, str(error).replace(f"{project_root()}/", ""))
    if isinstance(made, pd.DataFrame) and made.empty:
        return Missing(what, f"{', '.join(map(run.key, stages))} holds no rows for it")
    return wrap(made, tuple(map(run.key, stages)))


def number(value: Any, missing: str = "not measured") -> str:
    """A cell as text: thousands separated, at most three decimals, never blank."""
    if value is None or value is pd.NA or value == "" or (isinstance(value, float) and math.isnan(value)):
        return missing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (hasattr(value, "dtype") and value.dtype.kind in "iu"):
        return f"{value:,}"
    if not isinstance(value, float):
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if abs(value) >= 1000 or (value == int(value) and abs(value) > 1):
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    return re.sub(r"(\.\d\d)0$", r"\1", f"{value:.3f}")
