"""What a report is made of: sections of text, tables, figures, and statements of what is missing."""

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib.figure
import pandas as pd

from conan_lib.errors import UserError
from conan_lib.report.figures import style
from conan_lib.report.run import Run
from conan_lib.stages import Stage, project_root

NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?( ?%| s)?( \[[-+\d., ]+\])?")
"""A number, with a unit or an interval where it has one."""


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
    written: str | None = None

    @property
    def file(self) -> str:
        """The table as CSV: its own, or the one that was `written` already."""
        return self.written or f"tables/{self.id}.csv"

    @property
    def header(self) -> list[str]:
        return [str(column) for column in self.frame.columns]

    @cached_property
    def cells(self) -> list[list[str]]:
        """Every cell as text, none of them blank; the floats of a column have the same number of decimals."""
        columns = [list(self.frame.iloc[:, place]) for place in range(self.frame.shape[1])]
        decimals = [max((_decimals(value) for value in column), default=0) for column in columns]
        return [
            [number(value, self.missing, places) for value, places in zip(row, decimals, strict=True)] for row in zip(*columns, strict=True)
        ]

    @cached_property
    def numeric(self) -> list[bool]:
        """Columns that are set flush right."""
        return [all(NUMBER.fullmatch(cell) or cell == self.missing for cell in column) for column in zip(*self.cells, strict=True)]


@dataclass(frozen=True)
class Figure:
    """A drawn figure with the artefacts that it shows."""

    id: str
    caption: str
    figure: matplotlib.figure.Figure
    sources: tuple[str, ...]
    kind: str = "figure"
    written: str | None = None
    """A file below the report's folder that shows it already."""


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
    return wrap(made, tuple(map(run.key, stages)) or ("manifests",))


def number(value: Any, missing: str = "not measured", decimals: int | None = None) -> str:
    """A cell as text, never blank: thousands separated; floats with `decimals` places, by default three below ten and one above."""
    if value is None or value is pd.NA or value in ("", [], (), {}) or (isinstance(value, float) and math.isnan(value)):
        return missing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {number(inner, missing)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(number(inner, missing) for inner in value)
    if isinstance(value, numbers.Integral):
        return f"{int(value):,}"
    if not isinstance(value, float):
        return str(value)
    if decimals is None:
        decimals = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
    return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:,.{decimals}f}"


def _decimals(value: Any) -> int:
    """Decimals that show a float: at most three, fewer from a thousand up."""
    if not isinstance(value, float) or math.isnan(value) or abs(value) >= 1000:
        return 0
    return len(f"{value:.3f}".rstrip("0").partition(".")[2])
