"""What a report is made of: sections of text, tables, figures, and statements of what is missing."""

import math
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import matplotlib.figure
import pandas as pd
from markupsafe import Markup

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
    """A table with the artefacts that its numbers come from.

    Attributes:
        missing: what an empty cell says.
        written: a CSV below the report's folder that holds it already.
        origin: whose numbers these are where a section has the paper's and ours: "the paper" or "ours".
        folded: closed on the page until a reader opens it.
        anchors: columns of artefact keys; a key that is cited elsewhere leads to its cell there.
    """

    id: str
    caption: str
    frame: pd.DataFrame
    sources: tuple[str, ...]
    missing: str = "not measured"
    kind: str = "table"
    written: str | None = None
    origin: str = ""
    folded: bool = False
    anchors: tuple[str, ...] = ()

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
        """Columns that are set flush right: at least half of what is filled are numbers."""
        filled = [[cell for cell in column if cell != self.missing] for column in zip(*self.cells, strict=True)]
        return [bool(column) and 2 * sum(map(is_number, column)) >= len(column) for column in filled]


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
    page: Markup | None = None
    """What index.html shows in the drawing's place."""


@dataclass(frozen=True)
class Missing:
    """Something that this run does not have, and why."""

    what: str
    why: str
    kind: str = "missing"


Block = Text | Points | Table | Figure | Missing


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        notebook: the executed notebook that it rests on.
        short: its name in the table of contents.
        claims: ids of the claims that it bears on.
        contradictions: points of CONTRADICTIONS that touch it.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    notebook: str | None = None
    short: str = ""
    claims: tuple[str, ...] = ()
    contradictions: tuple[int, ...] = ()


def table(
    run: Run,
    id: str,
    caption: str,
    stages: tuple[str, ...],
    make: Callable[..., pd.DataFrame],
    missing: str = "not measured",
    **options: Any,
) -> Block:
    """`make` of the stages' objects as a Table, or why there is none. `options`: origin, folded, anchors."""
    return _block(run, caption, stages, make, lambda frame, keys: Table(id, caption, frame, keys, missing, **options))


def figure(run: Run, id: str, caption: str, stages: tuple[str, ...], draw: Callable[..., matplotlib.figure.Figure]) -> Block:
    """`draw` of the stages' objects as a Figure, or why there is none."""
    return _block(run, caption, stages, draw, lambda drawn, keys: Figure(id, caption, drawn, keys))


def scored(run: Run, id: str, caption: str, make: Callable[[list[dict]], pd.DataFrame]) -> Block:
    """A table of score rows from whichever of evaluate and peers has finished."""
    done = tuple(name for name in ("evaluate", "peers") if run.finished(name))
    block = table(run, id, caption, done or ("evaluate", "peers"), lambda *_: make(run.scores))
    waiting = run.unfinished("evaluate", "peers")
    return replace(block, caption=f"{caption} Incomplete: {waiting}.") if isinstance(block, Table) and waiting else block


def evaluated(run: Run, id: str, caption: str, draw: Callable[..., matplotlib.figure.Figure]) -> Block:
    """A figure of stage evaluate with the peers beside our checkpoints where they have finished."""
    stages = ("evaluate", "peers") if run.finished("peers") else ("evaluate",)
    return figure(run, id, caption, stages, draw)


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


def is_number(cell: str) -> bool:
    """Whether a cell's text is a number, with its unit or interval."""
    return bool(NUMBER.fullmatch(cell))


def _decimals(value: Any) -> int:
    """Decimals that show a float: at most three, fewer from a thousand up."""
    if not isinstance(value, float) or math.isnan(value) or abs(value) >= 1000:
        return 0
    return len(f"{value:.3f}".rstrip("0").partition(".")[2])
