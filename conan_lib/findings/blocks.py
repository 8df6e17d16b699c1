"""What a section is made of: text, tables, figures, and statements of what is missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import matplotlib.figure
import pandas as pd
from markupsafe import Markup

from conan_lib.errors import UserError
from conan_lib.findings.plots import style
from conan_lib.findings.run import SCORES, Run
from conan_lib.stages import Stage, project_root

LONGEST, LARGEST = 9, 80
"""Rows and cells of a table that stands open on the page; a longer one is folded."""
BRIEF = 5
"""Rows of a table that report.md prints."""


Numbers = Mapping[str, Mapping[str, Any]]
"""Where numbers stand: ids of tables, each with what the row holds, columns by name; empty: the whole table."""


@dataclass(frozen=True)
class Text:
    """Paragraphs, lists and headings in Markdown."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """A table with the artefacts that its numbers come from. Its frame holds numbers; findings.tables shows and writes them.

    Attributes:
        frame: plain columns. A measured number `x` has its 95 % interval in the columns `x low` and `x high`, empty where there is none.
        sources: keys of artefacts, or files.
        missing: what an empty cell says on the page; in the CSV it stays empty. A mapping says it by column.
        decimals: at most so many.
        significant: columns whose numbers are shown with three digits, however large or small.
        differences: columns whose numbers are shown with their sign.
        keys: columns that hold artefact keys, one or a tuple of them.
        anchors: those of `keys` whose cells a citation leads to.
        origin: whose numbers these are where a section has the paper's and ours: "the paper" or "ours".
        folded: closed on the page until a reader opens it.
        written: a CSV below the report's folder that holds the table already.
        model: whose numbers these are, where they are of a trained model; the section fills it in (report.sections).
    """

    id: str
    caption: str
    frame: pd.DataFrame
    sources: tuple[str, ...]
    missing: str | dict[str, str] = "not measured"
    decimals: int = 3
    significant: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    anchors: tuple[str, ...] = ()
    origin: str = ""
    folded: bool = False
    written: str | None = None
    model: str = ""
    kind: ClassVar[str] = "table"

    @property
    def long(self) -> bool:
        """Whether a page links it and shows it on demand only."""
        return self.folded or len(self.frame) > LONGEST or self.frame.size > LARGEST

    @property
    def brief(self) -> bool:
        """Whether report.md prints it; any other it links."""
        return not self.folded and len(self.frame) <= BRIEF and self.frame.size <= LARGEST / 2

    @property
    def file(self) -> str:
        """The table as CSV: its own, or the one that was `written` already."""
        return self.written or f"tables/{self.id}.csv"


@dataclass(frozen=True)
class Figure:
    """A drawing with the artefacts that it shows.

    Attributes:
        written: a file below the report's folder that shows it already.
        page: what index.html shows in the drawing's place.
        takeaway: the sentence above it: what it shows, from the numbers.
        numbers: where they stand, as far as a table of the report has them.
        model: as of a Table.
    """

    id: str
    caption: str
    drawing: matplotlib.figure.Figure
    sources: tuple[str, ...]
    written: str | None = None
    page: Markup | None = None
    takeaway: str = ""
    numbers: Numbers = field(default_factory=dict)
    model: str = ""
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Missing:
    """Something that this run does not have, and why."""

    what: str
    why: str
    kind: ClassVar[str] = "missing"


Block = Text | Table | Figure | Missing


def table(
    run: Run,
    id: str,
    caption: str,
    stages: tuple[str, ...],
    make: Callable[..., pd.DataFrame],
    missing: str | dict[str, str] = "not measured",
    **options: Any,
) -> Block:
    """`make` of the stages' objects as a Table, or why there is none. `options`: fields of Table."""
    return _made(run, caption, stages, make, lambda frame, keys: Table(id, caption, frame, keys, missing, **options))


def figure(
    run: Run,
    id: str,
    caption: str,
    stages: tuple[str, ...],
    draw: Callable[..., matplotlib.figure.Figure],
    takeaway: Callable[..., str] | None = None,
    numbers: Numbers | None = None,
) -> Block:
    """`draw` of the stages' objects as a Figure, or why there is none; `takeaway` of the same objects says what it shows."""
    says = lambda: takeaway(*(run.stages[name] for name in stages)) if takeaway else ""  # noqa: E731
    return _made(run, caption, stages, draw, lambda drawn, keys: Figure(id, caption, drawn, keys, takeaway=says(), numbers=numbers or {}))


def scored(run: Run, id: str, caption: str, make: Callable[[list[dict]], pd.DataFrame], **options: Any) -> Block:
    """A table of score rows from whichever of the stages that score has finished."""
    done = tuple(name for name in SCORES if run.finished(name))
    block = table(run, id, caption, done or ("evaluate", "peers"), lambda *_: make(run.scores), **options)
    waiting = run.unfinished("evaluate", "peers")
    return replace(block, caption=f"{caption} Incomplete: {waiting}.") if isinstance(block, Table) and waiting else block


def evaluated(
    run: Run,
    id: str,
    caption: str,
    draw: Callable[..., matplotlib.figure.Figure],
    takeaway: Callable[..., str] | None = None,
    numbers: Numbers | None = None,
) -> Block:
    """A figure of stage evaluate, with the peers where they have finished."""
    return figure(run, id, caption, ("evaluate", "peers") if run.finished("peers") else ("evaluate",), draw, takeaway, numbers)


def _made(run: Run, what: str, stages: tuple[str, ...], make: Callable[..., Any], wrap: Callable[[Any, tuple[str, ...]], Block]) -> Block:
    if why := run.unfinished(*stages):
        return Missing(what, why)
    opened: list[Stage] = [run.stage(name) for name in stages]
    try:
        with style():
            made = make(*opened)
    except UserError as error:
        return Missing(what, str(error).replace(f"{project_root()}/", ""))
    if isinstance(made, pd.DataFrame) and made.empty:
        return Missing(what, f"{', '.join(map(run.key, stages))} holds no rows for it")
    return wrap(made, tuple(map(run.key, stages)) or ("manifests",))
